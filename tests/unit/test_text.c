/* test_text.c - what reaches a terminal is text. */
#include <pvio/text.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void text_clean_leaves_text(void **state)
{
	static const char *const good[] = { "", "plain ~ text", "Gr\xc3\xb6\xc3\x9f" "e", "\xe2\x82\xac 5", "\xf0\x9f\x98\x80", "\xc2\xa0", "\xf4\x8f\xbf\xbf" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		char *s = strdup(good[i]);

		pv_text_clean(s);
		assert_string_equal(s, good[i]);
		free(s);
	}
}

static void text_clean_takes_control_characters(void **state)
{
	static const struct { const char *bad, *clean; } t[] = {
		{ "a\nb\tc", "a?b?c" }, { "\x1b[31m\x7f", "?[31m?" },
		{ "\xc2\x9b" "31m", "??31m" }, { "\xc2\x80\xc2\x9f", "????" }, /* C1 as UTF-8 ... */
		{ "\x9b" "31m", "?31m" }, { "x\x80", "x?" }, /* ... and as bytes */
		{ "caf\xe9", "caf?" }, { "\xc3", "?" }, { "\xe2\x82", "??" }, { "\xf0\x9f\x98", "???" }, /* cut off */
		{ "\xc0\x8a", "??" }, { "\xe0\x82\x9b", "???" }, { "\xf0\x80\x80\x8a", "????" }, /* overlong: a newline, C1 */
		{ "\xed\xa0\x80", "???" }, { "\xf4\x90\x80\x80", "????" }, { "\xf8\x88\x80\x80\x80", "?????" }, { "\xff\xfe", "??" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char *s = strdup(t[i].bad);

		pv_text_clean(s);
		assert_string_equal(s, t[i].clean);
		free(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_clean_leaves_text),
		cmocka_unit_test(text_clean_takes_control_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
