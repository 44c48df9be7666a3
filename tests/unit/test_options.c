/* test_options.c - the command line of pvio's programs. */
#include <errno.h>
#include <pvio/options.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

struct fields {
	const char *text;
	unsigned number, level;
	int domid, ms;
	uint64_t size;
	bool flag;
	struct pv_cpus cpus;
};

static const char *const levels[] = { "low", "high", NULL };
static const struct pv_option table[] = {
	{ "text", "TEXT", "a text", pv_option_text, offsetof(struct fields, text) },
	{ "number", "N", "a number", pv_option_number, offsetof(struct fields, number), .min = 2, .max = 9 },
	{ "level", "LEVEL", "a level", pv_option_name, offsetof(struct fields, level), .names = levels },
	{ "domid", "N", "a domain", pv_option_domid, offsetof(struct fields, domid) },
	{ "wait", "S", "seconds", pv_option_seconds, offsetof(struct fields, ms) },
	{ "bs", "BYTES", "a size", pv_option_size, offsetof(struct fields, size), .operand = true },
	{ "cpus", "LIST", "CPUs", pv_option_cpus, offsetof(struct fields, cpus) },
	{ "flag", NULL, "a flag", NULL, offsetof(struct fields, flag) },
	{ NULL },
};
static const struct pv_program program = { "prog", "[OPTION...]", "Does nothing.", table, NULL };

static int parse(struct fields *f, const char *a, const char *b)
{
	char *argv[] = { (char *)"prog", (char *)a, (char *)b, NULL };

	memset(f, 0, sizeof(*f));
	return pv_options_parse(&program, b ? 3 : 2, argv, f);
}

static void parse_takes_both_spellings(void **state)
{
	struct fields f;

	(void)state;
	assert_int_equal(parse(&f, "--number", "9"), -1);
	assert_int_equal(f.number, 9);
	assert_int_equal(parse(&f, "--number=2", NULL), -1);
	assert_int_equal(f.number, 2);
	assert_int_equal(parse(&f, "--flag", NULL), -1);
	assert_true(f.flag);
	assert_int_equal(parse(&f, "bs=4k", "--text=x"), -1);
	assert_int_equal(f.size, 4096);
	assert_string_equal(f.text, "x");
}

static void parse_refuses_what_is_not_in_the_table(void **state)
{
	static const char *const wrong[][2] = {
		{ "--nothing", NULL }, { "stray", NULL }, { "text=x", NULL }, { "--number", NULL }, { "--number", "1" }, { "--number", "10" },
		{ "--number", "" }, { "--number", "-3" }, { "--number", "3x" }, { "--number=99999999999999999999", NULL }, { "--flag=1", NULL },
		{ "--text", "" }, { "--level", "middle" }, { "--domid", "65535" }, { "bs=4q", NULL }, { "bs=99999999T", NULL }, { "--wait", "x" },
		{ "--cpus", "3-1" }, { "--cpus", "1," }, { "--cpus", "0-64" }, { "--numbe=3", NULL }, { "--", NULL },
	};
	struct fields f;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(parse(&f, wrong[i][0], wrong[i][1]), 2);
}

static void parse_help_and_version_end_well(void **state)
{
	struct fields f;

	(void)state;
	assert_int_equal(parse(&f, "--help", NULL), 0);
	assert_int_equal(parse(&f, "--version", NULL), 0);
}

static void parsers_give_values(void **state)
{
	struct fields f;

	(void)state;
	assert_int_equal(parse(&f, "--cpus=0,0-0", "--wait=0.5"), -1);
	assert_int_equal(f.cpus.nr, 2);
	assert_int_equal(f.cpus.cpu[1], 0);
	assert_int_equal(f.ms, 500);
	parse(&f, "--level", "high");
	assert_int_equal(f.level, 1);
	parse(&f, "bs=3MB", "--domid=7");
	assert_int_equal(f.size, 3000000);
	assert_int_equal(f.domid, 7);
}

static void cpus_are_those_of_the_machine(void **state)
{
	long have = sysconf(_SC_NPROCESSORS_CONF), last = have < PV_CPUS_MAX ? have - 1 : PV_CPUS_MAX - 1;
	struct pv_cpus cpus;
	char list[64];

	(void)state;
	snprintf(list, sizeof(list), "0-%ld", last);
	assert_int_equal(pv_option_cpus(NULL, list, &cpus), 0);
	assert_int_equal(cpus.nr, last + 1);
	assert_int_equal(cpus.cpu[last], last);
	snprintf(list, sizeof(list), "0,%ld", have);
	assert_int_equal(pv_option_cpus(NULL, list, &cpus), -ENXIO);
	assert_int_equal(pv_option_cpus(NULL, "18446744073709551615", &cpus), -ENXIO);
	assert_int_equal(pv_option_cpus(NULL, "0,", &cpus), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse_takes_both_spellings),
		cmocka_unit_test(parse_refuses_what_is_not_in_the_table),
		cmocka_unit_test(parse_help_and_version_end_well),
		cmocka_unit_test(parsers_give_values),
		cmocka_unit_test(cpus_are_those_of_the_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
