/* test_pviod_supervise.c - backends that pviod starts: what needs no process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "dom0-tools/pviod.h"
#include <string.h>

static void supervise_delay_doubles(void **state)
{
	static const unsigned ms[] = { 0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000 };

	(void)state;
	for (unsigned i = 0; i < sizeof(ms) / sizeof(ms[0]); i++)
		assert_int_equal(supervise_delay(i), ms[i]);
	assert_int_equal(supervise_delay(UINT32_MAX), 10000);
}

static void supervise_split_quotes(void **state)
{
	static const char *const want[] = { "pvio-blkback", "--name", "a b", "c\"d", "", "e f" };
	char **words, why[WHY_LEN];
	unsigned n = 0;

	(void)state;
	assert_int_equal(supervise_split(" pvio-blkback  --name 'a b' \"c\\\"d\" '' e\\ f ", &words, why, sizeof(why)), 0);
	for (; words[n]; n++)
		assert_string_equal(words[n], want[n]);
	assert_int_equal(n, 6);
	supervise_words_free(words);
}

static void supervise_split_no_shell(void **state)
{
	static const struct { const char *line, *why; } bad[] = {
		{ "", "a command is missing" }, { "  ", "a command is missing" }, { "a 'b", "a quote is not closed" }, { "a | b", "quote |" }, { "a; b", "quote |" },
		{ "a $(touch /b)", "not run by a shell" }, { "a `touch /b`", "not run by a shell" },
	};
	char **words, why[WHY_LEN];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(supervise_split(bad[i].line, &words, why, sizeof(why)), -EINVAL);
		assert_null(words);
		assert_non_null(strstr(why, bad[i].why));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(supervise_delay_doubles),
		cmocka_unit_test(supervise_split_quotes),
		cmocka_unit_test(supervise_split_no_shell),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
