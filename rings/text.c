/* text.c - see text.h. */
#include "text.h"
#include <stddef.h>
#include <stdint.h>

/* The character at s, and its bytes. One that is no UTF-8 (cut off, overlong, a surrogate, too large) is a control character of one byte. */
static uint32_t character(const unsigned char *s, size_t *len)
{
	static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
	size_t more = *s < 0x80 ? 0 : *s >= 0xf0 ? 3 : *s >= 0xe0 ? 2 : 1;
	uint32_t c = more ? *s & (0x3f >> more) : *s;

	*len = 1;
	if (more && (*s < 0xc0 || *s >= 0xf8))
		return 0;
	for (size_t i = 1; i <= more; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*len = more + 1;
	return c;
}

void pv_text_clean(char *s)
{
	size_t len;

	for (; *s; s += len) {
		uint32_t c = character((const unsigned char *)s, &len);

		for (size_t i = 0; i < len && (c < ' ' || (c >= 0x7f && c < 0xa0)); i++)
			s[i] = '?';
	}
}
