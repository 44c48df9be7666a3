/* pvio-blkback killed and handed over, and a frontend that connected through XenStore, as Linux does, notices nothing. */
#include "tests/unit/xenbus_port.h"
#include "blk_stream.h"

static void stream_through(void (*kills)(void))
{
	unsigned told;

	assert_int_equal(pvio("attach g1 vbd xvda path=%s/disk --dialect xenstore", dir), 0);
	stream_open();
	told = port_told();
	kills();
	assert_int_equal(port_told(), told); /* its backend's state stayed 4: it was not even written */
	stream_close();
}

static void blkback_is_killed_and_handed_over(void **state)
{
	(void)state;
	stream_through(stream_survives);
}

static void supervised_blkback_is_killed(void **state)
{
	(void)state;
	stream_through(stream_survives_kills);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(blkback_is_killed_and_handed_over) };
	const struct CMUnitTest supervised[] = { cmocka_unit_test(supervised_blkback_is_killed) };

	if (sandbox_has_no_uring()) {
		printf("SKIP need=uring: io_uring is not usable here\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, sandbox_up, sandbox_down) || cmocka_run_group_tests(supervised, supervised_up, supervised_down);
}
