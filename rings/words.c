/* words.c - see words.h. */
#include "words.h"
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pv_words_open(struct pv_words *w, const char *text, size_t len, char *why, size_t why_len)
{
	*w = (struct pv_words){ .at = text, .end = text + len, .line_at = text, .word_at = text, .why = why, .why_len = why_len };
	if (why_len)
		*why = 0;
}

bool pv_words_line(struct pv_words *w)
{
	if (w->line++) {
		while (w->at < w->end && *w->at != '\n') /* a comment */
			w->at++;
		w->at += w->at < w->end;
	}
	w->line_at = w->at;
	return w->at < w->end;
}

int pv_words_fail_at(struct pv_words *w, const char *at, const char *fmt, ...)
{
	int n = snprintf(w->why, w->why_len, "%u:%u: ", w->line + !w->line, (unsigned)(at - w->line_at) + 1);
	va_list ap;

	if (n < 0 || (size_t)n >= w->why_len)
		return -EINVAL;
	va_start(ap, fmt);
	vsnprintf(w->why + n, w->why_len - (size_t)n, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

int pv_words_next(struct pv_words *w)
{
	size_t n = 0;

	while (w->at < w->end && is_blank(*w->at))
		w->at++;
	w->word_at = w->at;
	w->word[0] = 0;
	if (w->at == w->end || *w->at == '\n' || *w->at == '#')
		return 0;
	for (; w->at < w->end && !is_blank(*w->at) && *w->at != '\n' && *w->at != '#'; w->at++) {
		if (!isgraph((unsigned char)*w->at))
			return pv_words_fail_at(w, w->at, "a character that is neither a letter, a digit nor a sign");
		if (n == PV_WORD_MAX)
			return pv_words_fail(w, "a word of more than %d characters", PV_WORD_MAX);
		w->word[n++] = *w->at;
	}
	w->word[n] = 0;
	return 1;
}

int pv_words_want(struct pv_words *w, const char *after, const char *what)
{
	int ret = pv_words_next(w);

	if (ret == 0)
		return pv_words_fail(w, "the line ends after %s: give %s", after, what);
	return ret < 0 ? ret : 0;
}

int pv_words_name(struct pv_words *w, const char *what, size_t max)
{
	for (const char *s = w->word; *s; s++)
		if (!isalnum((unsigned char)*s) && *s != '-' && *s != '_' && *s != '.')
			return pv_words_fail_at(w, w->word_at + (s - w->word), "a %s's name is of letters, digits and - _ .", what);
	if (strlen(w->word) > max)
		return pv_words_fail(w, "a %s's name has at most %zu characters", what, max);
	return 0;
}

int pv_words_mac(struct pv_words *w, uint8_t mac[6])
{
	const char *s = w->word;

	for (int n = 0; n < 6; n++, s += 3) {
		if (!isxdigit((unsigned char)s[0]) || !isxdigit((unsigned char)s[1]) || s[2] != (n < 5 ? ':' : 0))
			return pv_words_fail(w, "%s is no MAC address such as 02:00:00:00:00:01", w->word);
		mac[n] = (uint8_t)strtoul(s, NULL, 16);
	}
	return 0;
}

int pv_words_number(const char **s, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)**s))
		return -EINVAL;
	errno = 0;
	*out = strtoull(*s, &end, **s == '0' && ((*s)[1] | 32) == 'x' ? 16 : 10);
	*s = end;
	return errno || *out < min || *out > max ? -EINVAL : 0;
}

int pv_words_whole_number(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
	return pv_words_number(&s, min, max, out) < 0 || *s ? -EINVAL : 0;
}

int pv_words_find(const char *const *names, const char *name)
{
	for (int i = 0; names[i]; i++)
		if (!strcmp(names[i], name))
			return i;
	return -1;
}
