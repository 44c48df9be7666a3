/* pvio-netback killed and handed over, and frontends that find their devices by noxs notice nothing. */
#include "net_stream.h"

static void netback_is_killed_and_handed_over(void **state)
{
	(void)state;
	stream_open(0); /* the sandbox' own */
	stream_survives();
	stream_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(netback_is_killed_and_handed_over) };

	return cmocka_run_group_tests(tests, sandbox_up, stream_down);
}
