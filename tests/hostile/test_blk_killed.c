/* pvio-blkback killed and handed over, and a frontend that finds its device by noxs notices nothing. */
#include "blk_stream.h"

static void blkback_is_killed_and_handed_over(void **state)
{
	(void)state;
	assert_int_equal(pvio("attach g1 vbd xvda path=%s/disk", dir), 0);
	stream_survives();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(blkback_is_killed_and_handed_over) };

	if (sandbox_has_no_uring()) {
		printf("SKIP need=uring: io_uring is not usable here\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, sandbox_up, sandbox_down);
}
