/* A guest's grants: revoked under use, read-only, for others, too many; and map calls that the hypervisor fails. */
#include "tests/hostile/blk_rig.h"
#include <xen/grant_table.h>

static void hub_domain(const struct guest *g, struct pv_hub_domain *out)
{
	static struct pv_hub_domain all[256];
	int n = pv_hub_domain_list(rig.dom0, all, 256);

	for (int i = 0; i < n && i < 256; i++) {
		if (all[i].domid != g->domid)
			continue;
		*out = all[i];
		return;
	}
	fail_msg("domain %u is gone", g->domid);
}

/* Pages that were revoked stay pinned only as long as the backend has them mapped. */
static void nothing_pinned(const struct guest *g)
{
	struct pv_hub_domain d;

	if (rig.xen)
		return; /* Xen does not tell */
	hub_domain(g, &d);
	assert_int_equal(d.pinned, 0);
}

static void one_page_request(const struct guest *g, struct pv_blk_req *r, uint8_t op, uint32_t gref)
{
	*r = guest_rw(g, op, 80, 0, 1);
	r->seg[0].gref = gref;
}

static void revoked(bool persistent)
{
	struct pv_blk_req r;
	struct guest g;
	uint32_t gref;
	void *page;

	guest_open(&g);
	guest_up_with(&g, NULL, 1, 0, PV_VBD_ABI_NATIVE, persistent ? PV_VBD_PERSISTENT : 0);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(pv_gnt_share(g.h, 0, 1, true, NULL, &gref, &page), 0);
		one_page_request(&g, &r, BLKIF_OP_READ, gref);
		assert_int_equal(guest_do(&g, 0, &r), BLKIF_RSP_OKAY);
		image_equals(&g, 80, page, PV_PAGE_SIZE);
		assert_int_equal(pv_gnt_unshare(g.h, page, 1), 0);
		if (!persistent) /* a page that is still mapped may go on being used: to the guest's own harm alone */
			assert_int_equal(guest_do(&g, 0, &r), BLKIF_RSP_ERROR);
		else
			guest_do(&g, 0, &r);
	}
	guest_io(&g);
	guest_down(&g);
	nothing_pinned(&g);
	guest_close(&g);
	rig_check();
}

static void xsa396_grants_revoked_between_requests(void **state)
{
	(void)state;
	revoked(false);
	revoked(true);
}

static void grants_revoked_under_requests_in_flight(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (int round = 0; round < 30; round++) {
		uint8_t *was = image_read(&g, 0, 32 * PV_PAGE_SIZE), wrote[PV_PAGE_SIZE];
		uint32_t gref[32];
		void *pages;

		memset(wrote, round + 1, sizeof(wrote));
		guest_up_with(&g, NULL, 1, 0, PV_VBD_ABI_NATIVE, round % 2 ? PV_VBD_PERSISTENT : 0);
		assert_int_equal(pv_gnt_share(g.h, 0, 32, true, NULL, gref, &pages), 0);
		memset(pages, round + 1, 32 * PV_PAGE_SIZE);
		for (unsigned i = 0; i < 32; i++) {
			struct pv_blk_req r;

			one_page_request(&g, &r, i % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE, gref[i]);
			r.id = i * 11 % 32;
			r.sector = 8 * r.id;
			guest_put(&g, 0, &r);
		}
		guest_notify(&g, 0);
		assert_int_equal(pv_gnt_unshare(g.h, pages, 32), 0);
		for (unsigned i = 0; i < 32; i++) {
			struct blkif_response rsp = guest_wait(&g, 0);
			bool written = rsp.status == BLKIF_RSP_OKAY && rsp.operation == BLKIF_OP_WRITE;

			assert_true(rsp.status == BLKIF_RSP_OKAY || rsp.status == BLKIF_RSP_ERROR);
			image_equals(&g, 8 * rsp.id, written ? wrote : was + rsp.id * PV_PAGE_SIZE, PV_PAGE_SIZE); /* all of it or nothing */
		}
		free(was);
		guest_io(&g);
		guest_down(&g);
		nothing_pinned(&g);
	}
	guest_close(&g);
	rig_check();
}

static void grants_for_others_and_read_only_ones_are_refused(void **state)
{
	uint32_t foreign, read_only, bystanders;
	struct pv_blk_req r;
	struct guest g;
	void *page;

	(void)state;
	rig_needs_hub();
	guest_open(&g);
	assert_int_equal(pv_gnt_share(g.h, bystander.domid, 1, true, NULL, &foreign, &page), 0);
	assert_int_equal(pv_gnt_share(g.h, 0, 1, false, NULL, &read_only, &page), 0);
	bystanders = 0;
	for (unsigned i = 0; i < DATA_PAGES; i++) /* a reference that means something to another guest only */
		if (bystander.gref[i] > bystanders)
			bystanders = bystander.gref[i];
	for (unsigned persistent = 0; persistent < 2; persistent++) {
		guest_up_with(&g, NULL, 1, 0, PV_VBD_ABI_NATIVE, persistent ? PV_VBD_PERSISTENT : 0);
		for (uint8_t op = BLKIF_OP_READ; op <= BLKIF_OP_WRITE; op++) {
			one_page_request(&g, &r, op, foreign);
			assert_int_equal(guest_do(&g, 0, &r), BLKIF_RSP_ERROR);
		}
		one_page_request(&g, &r, BLKIF_OP_READ, bystanders + 1000);
		assert_int_equal(guest_do(&g, 0, &r), BLKIF_RSP_ERROR);
		one_page_request(&g, &r, BLKIF_OP_READ, read_only);
		assert_int_equal(guest_do(&g, 0, &r), BLKIF_RSP_ERROR);
		one_page_request(&g, &r, BLKIF_OP_WRITE, read_only); /* the disk may read it; kept pages have to serve both ways */
		assert_int_equal(guest_do(&g, 0, &r), persistent ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY);
		guest_io(&g);
		guest_down(&g);
	}
	guest_close(&g);
	rig_check();
}

static void xsa300_mapped_pages_are_bounded_and_requests_wait(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (unsigned persistent = 0; persistent < 2; persistent++) {
		guest_up_with(&g, "{\"indirect\":\"0\",\"cache\":\"11\",\"direct\":\"on\"}", 1, 0, PV_VBD_ABI_NATIVE,
			      persistent ? PV_VBD_PERSISTENT : 0);
		for (int round = 0; round < 10; round++) {
			for (unsigned i = 0; i < 32; i++) {
				struct pv_blk_req r = guest_rw(&g, BLKIF_OP_READ, i * 13 % 32 * 88, i * 11, 11);

				r.id = i;
				guest_put(&g, 0, &r);
			}
			guest_notify(&g, 0);
			for (unsigned i = 0; i < 32; i++)
				assert_int_equal(guest_wait(&g, 0).status, BLKIF_RSP_OKAY);
			for (unsigned i = 0; i < 32; i++)
				image_equals(&g, i * 13 % 32 * 88, g.data + i * 11 * PV_PAGE_SIZE, 11 * PV_PAGE_SIZE);
		}
		assert_true(guest_stat(&g, "cache_full") > 0);
		assert_true(guest_stat(&g, "mapped_pages") <= 11);
		guest_down(&g);
	}
	guest_close(&g);
	rig_check();
}

static void kept_pages_are_evicted_not_accumulated(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_up(&g, "{\"cache\":\"256\"}");
	for (unsigned i = 0; i < DATA_PAGES - 11; i += 7) {
		struct pv_blk_req r = guest_rw(&g, BLKIF_OP_READ, i * 8, i, 11);

		assert_int_equal(guest_do(&g, 0, &r), BLKIF_RSP_OKAY);
		image_equals(&g, i * 8, g.data + i * PV_PAGE_SIZE, 11 * PV_PAGE_SIZE);
		assert_true(guest_stat(&g, "mapped_pages") <= 256);
	}
	assert_true(guest_stat(&g, "cache_evictions") > 0);
	guest_down(&g);
	guest_close(&g);
	rig_check();
}

/* Fail the mapping of page number `skip` of a short life: connect, I/O, disconnect. */
static void with_failing_map(struct guest *g, unsigned skip, int status)
{
	struct pv_noxs_choice c;
	unsigned failed = 0;
	int connected;

	assert_int_equal(guest_prepare(g, NULL), 0);
	guest_rings(g, 2, 1, PV_VBD_ABI_NATIVE);
	c = guest_choice(g, skip % 2 ? PV_VBD_PERSISTENT : 0);
	assert_int_equal(pv_hub_inject(rig.dom0, g->domid, "map", skip, 1, status), 0);
	connected = guest_connect_choice(g, NULL, &c);
	assert_int_equal(connected == 0, skip >= g->nq << g->order); /* pages of rings come first */
	for (unsigned i = 0; connected == 0 && i < 6; i++) {
		struct pv_blk_req r = guest_rw(g, i % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE, 8 * i, 3 * i, 3);
		int ret = guest_do(g, i % 2, &r);

		assert_true(ret == BLKIF_RSP_OKAY || ret == BLKIF_RSP_ERROR);
		failed += ret == BLKIF_RSP_ERROR;
	}
	if (connected == 0) /* the one request whose page it was; for want of room it is tried again */
		assert_int_equal(failed, status != GNTST_no_device_space);
	assert_int_equal(pv_hub_inject(rig.dom0, g->domid, "map", 0, 0, 0), 0);
	if (connected == 0)
		guest_io(g);
	guest_down(g);
	nothing_pinned(g);
}

static void xsa361_failed_map_calls_leak_nothing(void **state)
{
	static const int statuses[] = { GNTST_general_error, GNTST_bad_gntref, GNTST_no_device_space, GNTST_eagain };
	struct guest g;

	(void)state;
	rig_needs_hub();
	guest_open(&g);
	for (unsigned s = 0; s < 4; s++)
		for (unsigned skip = 0; skip < 9; skip++)
			with_failing_map(&g, skip, statuses[s]);
	guest_close(&g);
	rig_check();
}

static void xsa496_no_ports_left_is_an_ordinary_error(void **state)
{
	struct pv_noxs_choice c;
	struct guest g;

	(void)state;
	rig_needs_hub();
	guest_open(&g);
	for (unsigned skip = 0; skip < 2; skip++) {
		assert_int_equal(guest_prepare(&g, NULL), 0);
		guest_rings(&g, 2, 0, PV_VBD_ABI_NATIVE);
		c = guest_choice(&g, 0);
		assert_int_equal(pv_hub_inject(rig.dom0, g.domid, "bind", skip, 1, GNTST_general_error), 0);
		assert_int_not_equal(guest_connect_choice(&g, NULL, &c), 0);
		assert_non_null(strstr(rig_last.message, "event channel"));
		assert_int_equal(pv_hub_inject(rig.dom0, g.domid, "bind", 0, 0, 0), 0);
		assert_int_equal(guest_connect_choice(&g, NULL, &c), 0);
		guest_io(&g);
		guest_down(&g);
	}
	guest_close(&g);
	rig_check();
}

static void guest_that_dies_with_io_in_flight_leaves_nothing(void **state)
{
	(void)state;
	rig_needs_hub();
	for (int round = 0; round < 10; round++) {
		struct guest g;

		guest_open(&g);
		guest_up_with(&g, NULL, 2, 2, PV_VBD_ABI_NATIVE, round % 2 ? PV_VBD_PERSISTENT : 0);
		for (unsigned i = 0; i < 128; i++) {
			struct pv_blk_req r = guest_rw(&g, i % 3 ? BLKIF_OP_READ : BLKIF_OP_WRITE, i * 16, i, 1 + i % 11);

			guest_put(&g, i % 2, &r);
		}
		guest_notify(&g, 0);
		guest_notify(&g, 1);
		pv_hyper_close(g.h); /* as when its process dies */
		if (round % 3 == 0) /* the domain too, before pviod notices */
			assert_int_equal(pv_hub_domain_destroy(rig.dom0, g.domid), 0);
		guest_disconnect(&g);
		assert_int_equal(guest_call(&g, "remove"), 0);
		if (round % 3)
			assert_int_equal(pv_hub_domain_destroy(rig.dom0, g.domid), 0);
		unlink(g.image);
		rig_check();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(xsa396_grants_revoked_between_requests),
		cmocka_unit_test(grants_revoked_under_requests_in_flight),
		cmocka_unit_test(grants_for_others_and_read_only_ones_are_refused),
		cmocka_unit_test(xsa300_mapped_pages_are_bounded_and_requests_wait),
		cmocka_unit_test(kept_pages_are_evicted_not_accumulated),
		cmocka_unit_test(xsa361_failed_map_calls_leak_nothing),
		cmocka_unit_test(xsa496_no_ports_left_is_an_ordinary_error),
		cmocka_unit_test(guest_that_dies_with_io_in_flight_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, rig_up, rig_down);
}
