/* test_log.c - what a peer can make us write is bounded and printable (XSA-157). */
#include <pvio/log.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char out[65536];

/* Run fn with stderr in a pipe; its output is in out. */
static void capture(void (*fn)(void))
{
	int fd[2], saved = dup(2);
	ssize_t n;

	assert_int_equal(pipe(fd), 0);
	fflush(stderr);
	dup2(fd[1], 2);
	fn();
	dup2(saved, 2);
	close(saved);
	close(fd[1]);
	n = read(fd[0], out, sizeof(out) - 1);
	close(fd[0]);
	out[n > 0 ? n : 0] = 0;
}

static unsigned lines(void)
{
	unsigned n = 0;

	for (const char *c = out; *c; c++)
		n += *c == '\n';
	return n;
}

static void say(void)
{
	pv_log(PV_LOG_DEBUG, "hidden");
	pv_log(PV_LOG_INFO, "vif 1.0: %s", "a\nprog: error: forged\x1b[2J");
}

static void log_makes_a_peers_words_printable(void **state)
{
	(void)state;
	capture(say);
	assert_string_equal(out, "prog: vif 1.0: a?prog: error: forged?[2J\n");
}

static void flood(void)
{
	struct pv_log_peer loud = { 0 }, quiet = { 0 };

	for (int i = 0; i < 100000; i++)
		pv_log_about(&loud, PV_LOG_WARN, "loud %d", i);
	pv_log_about(&quiet, PV_LOG_WARN, "quiet");
	assert_true(loud.dropped >= 100000 - 100);
}

static void xsa157_a_loud_peer_is_cut_and_a_quiet_one_heard(void **state)
{
	(void)state;
	capture(flood);
	assert_in_range(lines(), 11, 100); /* ten, a line a second that the flood took, and the quiet one's */
	assert_non_null(strstr(out, "quiet"));
}

static void longest(void)
{
	char text[5000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	pv_log(PV_LOG_ERR, "%s", text);
}

static void log_cuts_a_long_line(void **state)
{
	(void)state;
	capture(longest);
	assert_int_equal(lines(), 1);
	assert_in_range(strlen(out), 900, 1024);
}

static void why_may_be_null(void **state)
{
	char why[8];

	(void)state;
	assert_int_equal(pv_why(NULL, 0, -5, "x"), -5);
	assert_int_equal(pv_why(why, sizeof(why), -6, "0123456789"), -6);
	assert_string_equal(why, "0123456");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(log_makes_a_peers_words_printable),
		cmocka_unit_test(xsa157_a_loud_peer_is_cut_and_a_quiet_one_heard),
		cmocka_unit_test(log_cuts_a_long_line),
		cmocka_unit_test(why_may_be_null),
	};

	pv_log_open("prog", PV_LOG_INFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
