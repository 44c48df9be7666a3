/* pvio-netback killed and handed over, and frontends that connected through XenStore, as Linux does, notice nothing. */
#include "tests/unit/xenbus_port.h"
#include "net_stream.h"

static void netback_is_killed_and_handed_over(void **state)
{
	unsigned told;

	(void)state;
	assert_int_equal(pvio("attach g1 vif 1 --dialect xenstore"), 0);
	assert_int_equal(pvio("attach g2 vif 1 --dialect xenstore"), 0);
	stream_open(1);
	told = port_told();
	stream_survives();
	assert_int_equal(port_told(), told); /* the backends' states stayed 4: they were not even written */
	stream_close();
}

static int down(void **state)
{
	port_down();
	return stream_down(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(netback_is_killed_and_handed_over) };

	return cmocka_run_group_tests(tests, sandbox_up, down);
}
