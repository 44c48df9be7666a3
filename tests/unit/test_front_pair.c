/* test_front_pair.c - a vif and a VF as one interface: the vif against a backend that does what the test says, the VF a path of the test's own. */
#include "tests/unit/front_fake_net.h"
#include <pvio/front.h>
#include <pvio/pair.h>

enum { LEN = 100, QUEUED = 64 };

static const uint8_t peer[6] = { 2, 0, 0, 0, 0, 9 }, all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static uint8_t ours[6];

static struct fake k;
static struct pv_netfront *f;
static struct pv_netpair *pair;
static struct fake_packet got;

/* ---- the VF's path ---- */

static struct {
	unsigned sent, unsent; /* packets taken, and of these still there */
	uint8_t last[LEN]; /* the last */
	int error; /* instead of taking any */
	uint8_t waiting[QUEUED][LEN]; /* to be received */
	unsigned from, until;
} vf;

static int vf_send(void *ctx, unsigned queue, const struct pv_netfront_packet *p, unsigned n)
{
	assert_ptr_equal(ctx, &vf);
	(void)queue;
	if (vf.error)
		return vf.error;
	vf.sent += n;
	memcpy(vf.last, p[n - 1].data, p[n - 1].len < LEN ? p[n - 1].len : LEN);
	return (int)n;
}

static int vf_recv(void *ctx, unsigned queue, struct pv_netfront_packet *p, unsigned n)
{
	unsigned i;

	(void)ctx;
	(void)queue;
	if (vf.error)
		return vf.error;
	for (i = 0; i < n && vf.from < vf.until; i++) {
		memcpy(p[i].data, vf.waiting[vf.from++], LEN);
		p[i].len = LEN;
	}
	return (int)i;
}

static unsigned vf_unsent(void *ctx)
{
	(void)ctx;
	return vf.unsent;
}

static const struct pv_netpair_path vf_path = { vf_send, vf_recv, vf_unsent, &vf };

/* ---- frames ---- */

static void make(uint8_t *frame, const uint8_t *to, const uint8_t *from, unsigned number)
{
	fake_frame(frame, LEN, 7);
	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	memcpy(frame + 60, &number, sizeof(number));
}

static unsigned number_of(const uint8_t *frame)
{
	unsigned number;

	memcpy(&number, frame + 60, sizeof(number));
	return number;
}

static void by_vf(const uint8_t *to, const uint8_t *from, unsigned number)
{
	make(vf.waiting[vf.until++], to, from, number);
}

static void by_vif(const uint8_t *to, const uint8_t *from, unsigned number)
{
	uint8_t frame[LEN];

	make(frame, to, from, number);
	fake_deliver(&k, &k.queue[0], frame, LEN, 0, 0);
	fake_publish(&k, &k.queue[0], &k.queue[0].rx);
}

static int send_number(unsigned number)
{
	uint8_t frame[LEN];
	struct pv_netfront_packet p = { .data = frame, .len = LEN };

	make(frame, peer, ours, number);
	return pv_netpair_send(pair, 0, &p, 1);
}

/* All that waits, up to n. */
static unsigned receive(unsigned *numbers, unsigned n)
{
	static uint8_t room[8][LEN];
	unsigned total = 0;

	for (;;) {
		struct pv_netfront_packet p[8];
		int rc;

		for (unsigned i = 0; i < 8; i++)
			p[i] = (struct pv_netfront_packet){ .data = room[i], .len = LEN };
		rc = pv_netpair_recv(pair, 0, p, 8);
		if (rc == 0)
			return total;
		assert_true(rc > 0);
		for (int i = 0; i < rc; i++) {
			assert_true(total < n);
			assert_int_equal(p[i].len, LEN);
			numbers[total++] = number_of(p[i].data);
		}
	}
}

/* ---- the vif's backend ---- */

/* What was sent by the vif is taken; returns the number of the last, UINT32_MAX if there was nothing. */
static unsigned vif_takes(void)
{
	unsigned number = UINT32_MAX;

	while (fake_take(&k, &k.queue[0], &got)) {
		number = got.p.len == LEN ? number_of(got.data) : 0;
		fake_answer(&k.queue[0], &got, NETIF_RSP_OKAY);
	}
	fake_publish(&k, &k.queue[0], &k.queue[0].tx);
	return number;
}

static void dom0_says(uint32_t word)
{
	k.offer.state = XenbusStateConnected;
	k.offer.vif.pair = word;
	pv_noxs_offer_write(k.control, &k.offer);
	pv_evt_notify(k.h, (uint32_t)k.port);
	assert_true(pv_netpair_work(pair) >= 0);
}

static uint32_t guest_says(void)
{
	struct pv_noxs_choice c;

	pv_noxs_choice_read(k.control, &c);
	return c.pair;
}

static struct pv_netpair_stats stats(void)
{
	struct pv_netpair_stats s;

	pv_netpair_stats(pair, &s);
	return s;
}

static int start_with(uint32_t said)
{
	struct pv_noxs_offer o = fake_vif_offer();

	fake_start(&k);
	memset(&vf, 0, sizeof(vf));
	memcpy(ours, o.vif.mac, 6);
	o.vif.pair = said;
	f = fake_connected_vif(&k, o, 1);
	assert_int_equal(pv_netpair_open(f, NULL, &pair), 0);
	return 0;
}

static int start(void **state)
{
	(void)state;
	return start_with(PV_VIF_USE_VF);
}

static int stop(void **state)
{
	(void)state;
	pv_netpair_close(pair);
	fake_follow(&k);
	pv_netfront_close(f, 20000);
	fake_unfollow(&k);
	k.queues = 0;
	fake_stop(&k);
	return 0;
}

/* ---- sending ---- */

static void netpair_send_by_the_vif_without_a_vf(void **state)
{
	(void)state;
	assert_int_equal(send_number(1), 1);
	assert_int_equal(vif_takes(), 1);
	assert_true(pv_netpair_work(pair) >= 0);
	assert_int_equal(guest_says(), PV_VIF_USE_VIF);
}

static void netpair_send_by_the_vf_only_if_dom0_says_so(void **state)
{
	(void)state;
	dom0_says(PV_VIF_ALONE);
	pv_netpair_vf(pair, &vf_path);
	assert_int_equal(send_number(1), 1);
	assert_int_equal(vif_takes(), 1);
	assert_int_equal(vf.sent, 0);
	dom0_says(PV_VIF_USE_VIF);
	assert_false(pv_netpair_uses_vf(pair));
	dom0_says(PV_VIF_USE_VF);
	assert_true(pv_netpair_uses_vf(pair));
	assert_int_equal(send_number(2), 1);
	assert_int_equal(number_of(vf.last), 2);
}

static void netpair_send_waits_until_the_vif_has_sent(void **state)
{
	(void)state;
	assert_int_equal(send_number(1), 1);
	pv_netpair_vf(pair, &vf_path);
	assert_int_equal(send_number(2), 0);
	assert_int_equal(pv_netpair_timeout(pair), 1);
	assert_int_equal(vf.sent, 0);
	assert_int_equal(vif_takes(), 1);
	assert_int_equal(send_number(2), 1);
	assert_int_equal(vf.sent, 2); /* the announcement before it */
	assert_int_equal(number_of(vf.last), 2);
	assert_int_equal(stats().to_vf, 1);
	assert_int_equal(stats().tx_lost_stuck, 0);
}

static void netpair_send_waits_until_the_vf_has_sent(void **state)
{
	(void)state;
	pv_netpair_vf(pair, &vf_path);
	assert_int_equal(send_number(1), 1);
	vf.unsent = 1;
	dom0_says(PV_VIF_USE_VIF);
	assert_int_equal(send_number(2), 0);
	assert_true(pv_netpair_uses_vf(pair));
	vf.unsent = 0;
	assert_int_equal(pv_netpair_work(pair), 1); /* there is room again */
	assert_int_equal(send_number(2), 1);
	assert_int_equal(vif_takes(), 2);
	assert_int_equal(stats().to_vif, 1);
}

static void netpair_send_does_not_wait_for_ever(void **state)
{
	const struct pv_netpair_config c = { .drain_ms = 1 };

	(void)state;
	pv_netpair_close(pair);
	assert_int_equal(pv_netpair_open(f, &c, &pair), 0);
	assert_int_equal(send_number(1), 1);
	pv_netpair_vf(pair, &vf_path);
	fake_until(send_number(2) == 1);
	assert_int_equal(number_of(vf.last), 2);
	assert_int_equal(stats().tx_lost_stuck, 1);
}

static void netpair_send_by_the_vif_when_the_vf_fails(void **state)
{
	(void)state;
	pv_netpair_vf(pair, &vf_path);
	assert_int_equal(send_number(1), 1);
	vf.unsent = 3;
	vf.error = -ENETDOWN;
	assert_int_equal(send_number(2), 1);
	assert_int_equal(vif_takes(), 2);
	assert_int_equal(stats().tx_lost_gone, 3);
	assert_false(pv_netpair_has_vf(pair));
	vf.error = 0;
	vf.unsent = 0;
	pv_netpair_vf(pair, &vf_path); /* it returns */
	assert_int_equal(send_number(3), 1);
	assert_int_equal(number_of(vf.last), 3);
}

static void netpair_send_what_cannot_be_sent_is_no_failure(void **state)
{
	(void)state;
	pv_netpair_vf(pair, &vf_path);
	vf.error = -EINVAL;
	assert_int_equal(send_number(1), -EINVAL);
	assert_true(pv_netpair_has_vf(pair));
}

static void netpair_stays_with_the_vf_while_the_vif_has_no_backend(void **state)
{
	(void)state;
	pv_netpair_vf(pair, &vf_path);
	k.offer.vif.pair = PV_VIF_USE_VIF;
	fake_disconnect(&k);
	fake_offer(&k); /* a new backend, which is not connected yet, and the VF is to be left */
	assert_true(pv_netpair_work(pair) >= 0);
	assert_true(pv_netpair_uses_vf(pair));
	assert_int_equal(send_number(1), 1);
	assert_int_equal(number_of(vf.last), 1);
	fake_until(pv_netpair_work(pair) >= 0 && pv_netfront_state(f) == XenbusStateInitialised);
	fake_connect(&k);
	fake_until(pv_netpair_work(pair) >= 0 && !pv_netpair_uses_vf(pair));
	assert_int_equal(send_number(2), 1);
}

static void netpair_announces_where_it_is_and_then_tells_dom0(void **state)
{
	static const uint8_t rarp[] = { 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3 };

	(void)state;
	pv_netpair_vf(pair, &vf_path);
	assert_int_equal(vf.sent, 1);
	assert_memory_equal(vf.last, all, 6);
	assert_memory_equal(vf.last + 6, ours, 6);
	assert_memory_equal(vf.last + 12, rarp, sizeof(rarp));
	assert_memory_equal(vf.last + 22, ours, 6);
	assert_true(pv_netpair_timeout(pair) > 0);
	fake_until(pv_netpair_work(pair) >= 0 && guest_says() == PV_VIF_USE_VF);
	fake_until(pv_netpair_work(pair) >= 0 && stats().announced == 3);
	dom0_says(PV_VIF_USE_VIF);
	assert_int_equal(vif_takes(), 0);
	assert_memory_equal(got.data + 12, rarp, sizeof(rarp));
	fake_until(pv_netpair_work(pair) >= 0 && guest_says() == PV_VIF_USE_VIF);
	fake_until(pv_netpair_work(pair) >= 0 && pv_netpair_timeout(pair) == -1);
	assert_int_equal(vif_takes(), 0);
	assert_int_equal(stats().announced, 6);
	assert_int_equal(vf.sent, 3);
}

/* ---- receiving ---- */

/* The broadcast of a turn, as the switch gives it to the other path: the last that the VF sent. */
static void announcement_returns_by_vif(void)
{
	fake_deliver(&k, &k.queue[0], vf.last, 60, 0, 0);
	fake_publish(&k, &k.queue[0], &k.queue[0].rx);
}

static void netpair_recv_from_both(void **state)
{
	unsigned n[4];

	(void)state;
	by_vif(ours, peer, 1);
	assert_int_equal(receive(n, 4), 1);
	pv_netpair_vf(pair, &vf_path);
	announcement_returns_by_vif();
	by_vif(ours, peer, 2);
	by_vf(ours, peer, 3);
	assert_int_equal(receive(n, 4), 2);
	assert_int_equal(n[0], 2);
	assert_int_equal(n[1], 3);
	assert_int_equal(stats().rx_late, 1);
	vf.error = -ENODEV;
	by_vif(ours, peer, 4);
	assert_int_equal(receive(n, 4), 1);
	assert_int_equal(n[0], 4);
	assert_false(pv_netpair_has_vf(pair));
}

static void netpair_recv_waits_for_what_was_on_its_way(void **state)
{
	const struct pv_netpair_config c = { .fence_ms = 3600 * 1000 };
	uint8_t stale[LEN];
	unsigned n[4];

	(void)state;
	pv_netpair_close(pair);
	assert_int_equal(pv_netpair_open(f, &c, &pair), 0);
	pv_netpair_vf(pair, &vf_path);
	by_vf(ours, peer, 3);
	assert_int_equal(receive(n, 4), 0);
	by_vif(ours, peer, 1);
	assert_int_equal(receive(n, 4), 1);
	memcpy(stale, vf.last, LEN);
	stale[42] ^= 1; /* of another turn */
	fake_deliver(&k, &k.queue[0], stale, 60, 0, 0);
	by_vif(ours, peer, 2);
	assert_int_equal(receive(n, 4), 1);
	assert_int_equal(n[0], 2);
	announcement_returns_by_vif();
	assert_int_equal(receive(n, 4), 1);
	assert_int_equal(n[0], 3);
	assert_true(pv_netpair_work(pair) >= 0);
	assert_int_equal(guest_says(), PV_VIF_USE_VF); /* nothing is on its way any more: at once */
}

static void netpair_recv_does_not_wait_for_ever(void **state)
{
	const struct pv_netpair_config c = { .fence_ms = 1 };
	unsigned n[4];

	(void)state;
	pv_netpair_close(pair);
	assert_int_equal(pv_netpair_open(f, &c, &pair), 0);
	pv_netpair_vf(pair, &vf_path);
	by_vf(ours, peer, 1);
	assert_true(pv_netpair_timeout(pair) >= 1);
	fake_until(pv_netpair_work(pair) >= 0 && receive(n, 4) == 1);
}

static void netpair_recv_does_not_wait_for_a_vf_that_is_gone(void **state)
{
	const struct pv_netpair_config c = { .fence_ms = 3600 * 1000 };
	unsigned n[4];

	(void)state;
	pv_netpair_close(pair);
	assert_int_equal(pv_netpair_open(f, &c, &pair), 0);
	pv_netpair_vf(pair, &vf_path);
	dom0_says(PV_VIF_USE_VIF);
	by_vif(ours, peer, 1);
	assert_int_equal(receive(n, 4), 0);
	pv_netpair_vf(pair, NULL);
	assert_int_equal(receive(n, 4), 1);
	pv_netpair_vf(pair, &vf_path);
	dom0_says(PV_VIF_USE_VF);
	pv_netpair_vf(pair, NULL); /* while it is used */
	by_vif(ours, peer, 2);
	assert_int_equal(receive(n, 4), 1);
}

static void netpair_recv_each_broadcast_once(void **state)
{
	unsigned n[8];

	(void)state;
	pv_netpair_vf(pair, &vf_path);
	announcement_returns_by_vif();
	by_vif(all, peer, 1);
	by_vf(all, peer, 1);
	by_vf(all, peer, 2);
	by_vf(all, peer, 2); /* sent twice by the peer */
	by_vif(all, peer, 2);
	by_vif(all, peer, 2);
	by_vif(all, ours, 3); /* our own */
	by_vf(ours, peer, 4);
	assert_int_equal(receive(n, 8), 4);
	assert_int_equal(n[0] + n[1] + n[2], 1 + 2 + 2);
	assert_int_equal(n[3], 4);
	assert_int_equal(stats().rx_copies, 3);
	assert_int_equal(stats().rx_own, 2); /* and the announcement */
}

/* One path completed a checksum that the other left blank. */
static void netpair_recv_checksums_make_no_difference(void **state)
{
	unsigned n[4];

	(void)state;
	pv_netpair_vf(pair, &vf_path);
	announcement_returns_by_vif();
	for (unsigned i = 0; i < 2; i++) {
		uint8_t frame[LEN];

		make(frame, all, peer, 1);
		frame[14] = 0x45;
		frame[23] = 17;
		memcpy(vf.waiting[vf.until], frame, LEN);
		vf.waiting[vf.until++][40] ^= 0x55;
		frame[i ? 41 : 42] ^= 0xaa; /* of the checksum; of what follows */
		fake_deliver(&k, &k.queue[0], frame, LEN, NETRXF_csum_blank | NETRXF_data_validated, 0);
		fake_publish(&k, &k.queue[0], &k.queue[0].rx);
	}
	assert_int_equal(receive(n, 4), 3);
	assert_int_equal(stats().rx_copies, 1);
}

static void netpair_recv_own_packets_alone_give_way_to_the_caller(void **state)
{
	uint8_t room[LEN];
	struct pv_netfront_packet p = { .data = room, .len = LEN };

	(void)state;
	pv_netpair_vf(pair, &vf_path);
	announcement_returns_by_vif();
	for (unsigned i = 0; i < 20; i++)
		by_vf(all, ours, i);
	assert_int_equal(pv_netpair_recv(pair, 0, &p, 1), -EAGAIN);
	assert_int_equal(p.len, LEN);
	while (vf.from < vf.until)
		assert_int_equal(pv_netpair_recv(pair, 0, &p, 1), vf.until - vf.from > 8 ? -EAGAIN : 0);
	assert_int_equal(stats().rx_own, 21);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(netpair_send_by_the_vif_without_a_vf),
		T(netpair_send_by_the_vf_only_if_dom0_says_so),
		T(netpair_send_waits_until_the_vif_has_sent),
		T(netpair_send_waits_until_the_vf_has_sent),
		T(netpair_send_does_not_wait_for_ever),
		T(netpair_send_by_the_vif_when_the_vf_fails),
		T(netpair_send_what_cannot_be_sent_is_no_failure),
		T(netpair_stays_with_the_vf_while_the_vif_has_no_backend),
		T(netpair_announces_where_it_is_and_then_tells_dom0),
		T(netpair_recv_from_both),
		T(netpair_recv_waits_for_what_was_on_its_way),
		T(netpair_recv_does_not_wait_for_ever),
		T(netpair_recv_does_not_wait_for_a_vf_that_is_gone),
		T(netpair_recv_each_broadcast_once),
		T(netpair_recv_checksums_make_no_difference),
		T(netpair_recv_own_packets_alone_give_way_to_the_caller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
