/* netfront against a backend that follows the protocol. */
#include "tests/unit/front_fake_net.h"

static struct fake k;
static struct pv_netfront *f;
static struct fake_packet got;
static uint8_t frame[65536], room[65536 * 2];

static int start(void **state)
{
	(void)state;
	fake_start(&k);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	if (f)
		fake_follow(&k);
	pv_netfront_close(f, 20000);
	f = NULL;
	fake_unfollow(&k);
	k.queues = 0;
	fake_stop(&k);
	return 0;
}

static void connected(unsigned queues)
{
	f = fake_connected_vif(&k, fake_vif_offer(), queues);
}

static int send_one(unsigned queue, unsigned len)
{
	struct pv_netfront_packet p = { .data = frame, .len = len };

	fake_frame(frame, len, len);
	return pv_netfront_send(f, queue, &p, 1);
}

static struct pv_netfront_stats stats(void)
{
	struct pv_netfront_stats s;

	pv_netfront_stats(f, &s);
	return s;
}

static void netfront_open_choice(void **state)
{
	(void)state;
	connected(5); /* more than are offered */
	assert_int_equal(pv_netfront_queues(f), 2);
	assert_int_equal(k.choice.queues, 2);
	assert_int_equal(pv_netfront_features(f), fake_vif_offer().vif.features);
	assert_memory_equal(pv_netfront_offer(f)->mac, k.offer.vif.mac, 6);
	assert_int_equal(pv_ring_ready(&k.queue[1].rx), 256); /* all posted */
}

static void netfront_open_gso_needs_sg(void **state)
{
	struct pv_noxs_offer o = fake_vif_offer();

	(void)state;
	o.vif.features = PV_VIF_CSUM_IPV4 | PV_VIF_GSO_TCPV4 | PV_VIF_CTRL_RING | PV_VIF_HEADROOM | 1u << 31;
	f = fake_connected_vif(&k, o, 1);
	assert_int_equal(pv_netfront_features(f), PV_VIF_CSUM_IPV4);
}

static void netfront_open_not_announced(void **state)
{
	struct pv_netfront_config c = { 0 };
	char why[200] = "";

	(void)state;
	assert_int_equal(pv_netfront_open(lb_spec, k.domid, &c, &f, why, sizeof(why)), -ENOENT);
	assert_null(f);
	assert_non_null(strstr(why, "vif 0"));
}

static void netfront_open_no_grants_left(void **state)
{
	struct pv_netfront_config c = { 0 };
	char why[200] = "";

	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	for (unsigned skip = 0; skip < 3; skip++) { /* rings, tx pages, rx pages; of these twice: it asks for fewer */
		assert_int_equal(pv_hub_inject(k.h, (unsigned)k.domid, "share", skip, 2, GNTST_no_space), 0);
		assert_true(pv_netfront_open(lb_spec, k.domid, &c, &f, why, sizeof(why)) < 0);
		assert_null(f);
		assert_non_null(strstr(why, "vif 0"));
		assert_int_equal(fake_guest(&k).handles, 0);
		pv_hub_inject(k.h, (unsigned)k.domid, "share", 0, 0, 0);
		fake_offer(&k);
	}
	assert_int_equal(pv_hub_inject(k.h, (unsigned)k.domid, "alloc", 0, 1, GNTST_no_space), 0);
	assert_true(pv_netfront_open(lb_spec, k.domid, &c, &f, why, sizeof(why)) < 0);
}

static void netfront_open_as_many_pages_as_asked(void **state)
{
	struct pv_netfront_config c = { .pages = 600 };
	unsigned pages;

	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	pages = fake_guest(&k).grants;
	assert_int_equal(pv_netfront_open(lb_spec, k.domid, &c, &f, NULL, 0), 0);
	assert_int_equal(fake_guest(&k).grants - pages, 2 + 512 + 512); /* a power of 2 */
}

static void netfront_open_few_grants_left(void **state)
{
	unsigned pages;

	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	pages = fake_guest(&k).grants;
	assert_int_equal(pv_hub_inject(k.h, (unsigned)k.domid, "share", 1, 1, GNTST_no_space), 0);
	f = fake_open_vif(&k, 1);
	assert_int_equal(fake_guest(&k).grants - pages, 2 + 256 + 1024);
	fake_connect(&k);
	assert_int_equal(pv_netfront_work(f), 1);
	for (unsigned i = 0; i < 600; i++) { /* round all of its pages */
		assert_int_equal(send_one(0, 1514), 1);
		assert_true(fake_take(&k, &k.queue[0], &got));
		assert_memory_equal(got.data, frame, 1514);
		fake_answer(&k.queue[0], &got, NETIF_RSP_OKAY);
		pv_ring_publish(&k.queue[0].tx);
	}
}

static void netfront_send_before_connected(void **state)
{
	(void)state;
	fake_announce(&k, fake_vif_offer(), 0, 0);
	f = fake_open_vif(&k, 1);
	assert_int_equal(send_one(0, 60), 0);
	assert_int_equal(pv_netfront_state(f), XenbusStateInitialised);
}

static void netfront_send_one_slot(void **state)
{
	(void)state;
	connected(1);
	assert_int_equal(send_one(0, 60), 1);
	assert_true(fake_take(&k, &k.queue[0], &got));
	assert_int_equal(got.p.len, 60);
	assert_int_equal(got.p.nr, 1);
	assert_memory_equal(got.data, frame, 60);
	fake_answer(&k.queue[0], &got, NETIF_RSP_OKAY);
	fake_publish(&k, &k.queue[0], &k.queue[0].tx);
	assert_int_equal(pv_netfront_work(f), 0);
	assert_int_equal(stats().tx_packets, 1);
	assert_int_equal(stats().tx_errors, 0);
	assert_int_equal(stats().tx_bytes, 60);
}

/* Whoever the backend is: its pages hold what was sent to it, and zeros. */
static void netfront_send_shows_nothing_else(void **state)
{
	static uint8_t page[PV_PAGE_SIZE], zeros[PV_PAGE_SIZE];
	unsigned at;

	(void)state;
	connected(1);
	assert_int_equal(send_one(0, 60), 1);
	assert_true(fake_take(&k, &k.queue[0], &got));
	at = got.p.frag[0].offset;
	fake_copy(&k, false, got.p.frag[0].gref, 0, page, PV_PAGE_SIZE);
	assert_memory_equal(page + at, frame, 60);
	assert_memory_equal(page, zeros, at);
	assert_memory_equal(page + at + 60, zeros, PV_PAGE_SIZE - 60 - at);
}

static void netfront_send_sizes(void **state)
{
	static const unsigned sizes[] = { 14, 1514, 4096, 4097, 8192, 9014, 65535 };

	(void)state;
	connected(1);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(send_one(0, sizes[i]), 1);
		assert_true(fake_take(&k, &k.queue[0], &got));
		assert_int_equal(got.p.len, sizes[i]);
		assert_int_equal(got.p.nr, (sizes[i] + 4095) / 4096);
		assert_memory_equal(got.data, frame, sizes[i]);
		fake_answer(&k.queue[0], &got, NETIF_RSP_OKAY);
		pv_ring_publish(&k.queue[0].tx);
	}
}

static void netfront_send_gso_and_checksum(void **state)
{
	struct pv_netfront_packet p = { .data = frame, .len = 20000, .csum_blank = true, .gso_type = XEN_NETIF_GSO_TYPE_TCPV4, .gso_size = 1448 };

	(void)state;
	connected(1);
	fake_frame(frame, p.len, 1);
	for (unsigned i = 0; i < 300; i++) { /* more than the ring has slots: ids of extra-info slots are not lost */
		assert_int_equal(pv_netfront_send(f, 0, &p, 1), 1);
		assert_true(fake_take(&k, &k.queue[0], &got));
		assert_int_equal(got.p.gso_type, XEN_NETIF_GSO_TYPE_TCPV4);
		assert_int_equal(got.p.gso_size, 1448);
		assert_int_equal(got.p.extras, 1);
		assert_int_equal(got.p.flags, NETTXF_csum_blank | NETTXF_data_validated);
		assert_memory_equal(got.data, frame, p.len);
		fake_answer(&k.queue[0], &got, NETIF_RSP_OKAY);
		pv_ring_publish(&k.queue[0].tx);
	}
	assert_int_equal(stats().tx_packets, 300);
}

static void netfront_send_what_was_not_agreed(void **state)
{
	struct pv_noxs_offer o = fake_vif_offer();
	struct pv_netfront_packet p = { .data = frame, .len = 60 };

	(void)state;
	o.vif.features = 0;
	f = fake_connected_vif(&k, o, 1);
	fake_frame(frame, 5000, 0);
	p.len = 4097;
	assert_int_equal(pv_netfront_send(f, 0, &p, 1), -EINVAL);
	p.len = 13;
	assert_int_equal(pv_netfront_send(f, 0, &p, 1), -EINVAL);
	p.len = 60;
	p.csum_blank = true;
	assert_int_equal(pv_netfront_send(f, 0, &p, 1), -EINVAL);
	p.csum_blank = false;
	p.gso_type = XEN_NETIF_GSO_TYPE_TCPV4;
	p.gso_size = 1000;
	assert_int_equal(pv_netfront_send(f, 0, &p, 1), -EINVAL);
	p.gso_type = 77;
	assert_int_equal(pv_netfront_send(f, 0, &p, 1), -EINVAL);
	p.gso_type = 0;
	assert_int_equal(pv_netfront_send(f, 1, &p, 1), -EINVAL); /* no such queue */
	assert_int_equal(pv_netfront_send(f, 0, &p, 1), 1);
}

static void netfront_send_ipv6_checksum_is_its_own_feature(void **state)
{
	struct pv_netfront_packet p = { .data = frame, .len = 60, .csum_blank = true };

	(void)state;
	connected(1);
	fake_frame(frame, 60, 0);
	frame[12] = 0x86;
	frame[13] = 0xdd;
	assert_int_equal(pv_netfront_send(f, 0, &p, 1), -EINVAL);
}

static void netfront_send_full_then_room(void **state)
{
	struct pv_netfront_packet p[300];

	(void)state;
	connected(1);
	fake_frame(frame, 60, 0);
	for (unsigned i = 0; i < 300; i++)
		p[i] = (struct pv_netfront_packet){ .data = frame, .len = 60 };
	assert_int_equal(pv_netfront_send(f, 0, p, 300), 256);
	for (unsigned round = 1; round <= 3; round++) {
		assert_int_equal(pv_netfront_send(f, 0, p, 1), 0);
		for (unsigned i = 0; i < 100; i++) {
			assert_true(fake_take(&k, &k.queue[0], &got));
			fake_answer(&k.queue[0], &got, i % 2 ? NETIF_RSP_OKAY : NETIF_RSP_ERROR);
		}
		assert_true(pv_ring_publish(&k.queue[0].tx)); /* it asked to be told, each time */
		pv_evt_notify(k.h, k.queue[0].port);
		fake_until(pv_netfront_work(f) == 1);
		assert_int_equal(pv_netfront_send(f, 0, p, 300), 100);
		assert_int_equal(stats().tx_errors, round * 50);
	}
}

/* Answers in another order than the requests: ids are what counts. */
static void netfront_send_answers_in_any_order(void **state)
{
	uint16_t ids[256];

	(void)state;
	connected(1);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 256; i++) {
			assert_int_equal(send_one(0, 60 + i), 1);
			assert_true(fake_take(&k, &k.queue[0], &got));
			assert_memory_equal(got.data, frame, 60 + i);
			ids[i] = got.p.frag[0].id;
		}
		for (unsigned i = 0; i < 256; i++)
			pv_net_tx_fill_rsp(&k.queue[0].tx, ids[255 - i], NETIF_RSP_OKAY);
		pv_ring_publish(&k.queue[0].tx);
	}
	assert_int_equal(stats().tx_packets, 768);
}

static int recv_one(unsigned queue, struct pv_netfront_packet *p)
{
	*p = (struct pv_netfront_packet){ .data = room, .len = sizeof(room) };
	return pv_netfront_recv(f, queue, p, 1);
}

static void netfront_recv_sizes(void **state)
{
	static const unsigned sizes[] = { 14, 60, 4096, 4097, 65000 };
	struct pv_netfront_packet p;

	(void)state;
	connected(2);
	for (unsigned i = 0; i < 500; i++) { /* around the ring, several times */
		unsigned len = sizes[i % 5];

		fake_frame(frame, len, i);
		fake_deliver(&k, &k.queue[1], frame, len, NETRXF_data_validated, 0);
		fake_publish(&k, &k.queue[1], &k.queue[1].rx);
		assert_int_equal(recv_one(1, &p), 1);
		assert_int_equal(p.len, len);
		assert_memory_equal(room, frame, len);
		assert_true(p.data_validated);
		assert_false(p.csum_blank);
		assert_int_equal(recv_one(1, &p), 0);
		pv_ring_publish(&k.queue[1].rx);
	}
	assert_int_equal(stats().rx_packets, 500);
}

static void netfront_recv_gso(void **state)
{
	struct pv_netfront_packet p;

	(void)state;
	connected(1);
	for (unsigned i = 0; i < 100; i++) {
		fake_frame(frame, 9000, i);
		fake_deliver(&k, &k.queue[0], frame, 9000, NETRXF_csum_blank | NETRXF_data_validated, 1400);
		pv_ring_publish(&k.queue[0].rx);
		assert_int_equal(recv_one(0, &p), 1);
		assert_memory_equal(room, frame, 9000);
		assert_int_equal(p.gso_type, XEN_NETIF_GSO_TYPE_TCPV4);
		assert_int_equal(p.gso_size, 1400);
		assert_true(p.csum_blank);
	}
}

static void netfront_recv_burst_and_rest(void **state)
{
	struct pv_netfront_packet p[8];
	unsigned total = 0;
	int n;

	(void)state;
	connected(1);
	for (unsigned i = 0; i < 200; i++) {
		fake_frame(frame, 100, i);
		fake_deliver(&k, &k.queue[0], frame, 100, 0, 0);
	}
	fake_publish(&k, &k.queue[0], &k.queue[0].rx);
	fake_until(pv_netfront_work(f) == 1);
	do {
		for (unsigned i = 0; i < 8; i++)
			p[i] = (struct pv_netfront_packet){ .data = room + i * 4096, .len = 4096 };
		n = pv_netfront_recv(f, 0, p, 8);
		for (int i = 0; i < n; i++, total++) {
			fake_frame(frame, 100, total);
			assert_memory_equal(room + i * 4096, frame, 100);
		}
	} while (n > 0);
	assert_int_equal(n, 0);
	assert_int_equal(total, 200);
	assert_int_equal(pv_ring_ready(&k.queue[0].rx), 256); /* all were posted again */
}

static void netfront_recv_buffer_too_small(void **state)
{
	struct pv_netfront_packet p = { .data = room, .len = 100 };

	(void)state;
	connected(1);
	fake_frame(frame, 200, 0);
	fake_deliver(&k, &k.queue[0], frame, 200, 0, 0);
	fake_deliver(&k, &k.queue[0], frame, 90, 0, 0);
	pv_ring_publish(&k.queue[0].rx);
	assert_int_equal(pv_netfront_recv(f, 0, &p, 1), 1);
	assert_int_equal(p.len, 90); /* the first was dropped, with the room for the second untouched */
	assert_int_equal(stats().rx_errors, 1);
}

/* Lent pages are the backend's again only after the next call. */
static void netfront_borrow_lends_until_the_next_call(void **state)
{
	static const unsigned sizes[] = { 60, 9000, 4096 };
	static struct pv_netfront_loan l[8];
	struct fake_queue *q = &k.queue[0];
	struct pv_netfront_packet p;
	int posted;

	(void)state;
	connected(1);
	for (unsigned round = 0; round < 100; round++) { /* around the ring, several times */
		posted = pv_ring_ready(&q->rx);
		assert_int_equal(posted, 256);
		for (unsigned i = 0; i < 3; i++) {
			fake_frame(frame, sizes[i], round + i);
			fake_deliver(&k, q, frame, sizes[i], NETRXF_data_validated, 0);
		}
		pv_ring_publish(&q->rx);
		assert_int_equal(pv_netfront_borrow(f, 0, l, 8), 3);
		assert_int_equal(pv_ring_ready(&q->rx), 256 - 5);
		for (unsigned i = 0; i < 3; i++) {
			uint32_t at = 0;

			assert_int_equal(l[i].packet.len, sizes[i]);
			assert_true(l[i].packet.data_validated);
			assert_ptr_equal(l[i].packet.data, l[i].iov[0].iov_base);
			assert_int_equal(l[i].niov, (sizes[i] + 4095) / 4096);
			fake_frame(frame, sizes[i], round + i);
			for (unsigned j = 0; j < l[i].niov; at += (uint32_t)l[i].iov[j++].iov_len)
				assert_memory_equal(l[i].iov[j].iov_base, frame + at, l[i].iov[j].iov_len);
			assert_int_equal(at, sizes[i]);
		}
		if (round % 2)
			assert_int_equal(recv_one(0, &p), 0);
		else
			assert_int_equal(pv_netfront_borrow(f, 0, NULL, 0), 0);
	}
	assert_int_equal(stats().rx_packets, 300);
}

static void netfront_borrow_passes_over_what_is_no_packet(void **state)
{
	struct fake_queue *q = &k.queue[0];
	static struct pv_netfront_loan l[2];
	struct netif_rx_request req;

	(void)state;
	connected(1);
	assert_true(pv_ring_ready(&q->rx) > 0);
	pv_net_rx_take(&q->rx, &req);
	pv_net_rx_fill_rsp(&q->rx, req.id, 0, 0, NETIF_RSP_ERROR);
	fake_frame(frame, 100, 7);
	fake_deliver(&k, q, frame, 100, 0, 0);
	pv_ring_publish(&q->rx);
	assert_int_equal(pv_netfront_borrow(f, 0, l, 2), 1);
	assert_memory_equal(l[0].iov[0].iov_base, frame, 100);
	assert_int_equal(stats().rx_errors, 1);
	assert_int_equal(pv_netfront_borrow(f, 0, l, 2), 0);
	assert_int_equal(pv_ring_ready(&q->rx), 256);
	assert_int_equal(pv_netfront_borrow(f, 3, l, 2), -EINVAL);
}

/* The first half of a chain is published, the second later: it waits. */
static void netfront_recv_chain_in_two_halves(void **state)
{
	struct fake_queue *q = &k.queue[0];
	struct netif_rx_request req[2];
	struct pv_netfront_packet p;

	(void)state;
	connected(1);
	fake_frame(frame, 5000, 0);
	assert_true(pv_ring_ready(&q->rx) > 2);
	for (unsigned i = 0; i < 2; i++)
		pv_net_rx_take(&q->rx, &req[i]);
	fake_copy(&k, true, req[0].gref, 0, frame, 4096);
	fake_copy(&k, true, req[1].gref, 0, frame + 4096, 904);
	pv_net_rx_fill_rsp(&q->rx, req[0].id, 0, NETRXF_more_data, 4096);
	fake_publish(&k, q, &q->rx);
	assert_int_equal(recv_one(0, &p), 0);
	pv_net_rx_fill_rsp(&q->rx, req[1].id, 0, 0, 904);
	assert_true(pv_ring_publish(&q->rx)); /* and asks to be told of the rest */
	assert_int_equal(recv_one(0, &p), 1);
	assert_memory_equal(room, frame, 5000);
}

static void netfront_recv_error_status(void **state)
{
	struct fake_queue *q = &k.queue[0];
	struct netif_rx_request req;
	struct pv_netfront_packet p;

	(void)state;
	connected(1);
	assert_true(pv_ring_ready(&q->rx) > 0);
	pv_net_rx_take(&q->rx, &req);
	pv_net_rx_fill_rsp(&q->rx, req.id, 0, 0, NETIF_RSP_ERROR);
	pv_ring_publish(&q->rx);
	assert_int_equal(recv_one(0, &p), 0);
	assert_int_equal(stats().rx_errors, 1);
	assert_int_equal(pv_netfront_state(f), XenbusStateConnected);
}

/* An event wakes the descriptor once; the port is unmasked only when recv said that nothing is left. */
static void netfront_fd_wakes_again_after_rest(void **state)
{
	struct pollfd fd;
	struct pv_netfront_packet p;

	(void)state;
	connected(1);
	assert_int_equal(recv_one(0, &p), 0);
	fd = (struct pollfd){ .fd = pv_netfront_fd(f), .events = POLLIN };
	for (unsigned i = 0; i < 20; i++) {
		fake_deliver(&k, &k.queue[0], frame, 100, 0, 0);
		assert_true(pv_ring_publish(&k.queue[0].rx));
		pv_evt_notify(k.h, k.queue[0].port);
		assert_int_equal(poll(&fd, 1, 20000), 1);
		assert_int_equal(pv_netfront_work(f), 1);
		assert_int_equal(poll(&fd, 1, 0), 0);
		assert_int_equal(recv_one(0, &p), 1);
		assert_int_equal(recv_one(0, &p), 0);
	}
}

static void netfront_work_comes_back_after_a_new_offer(void **state)
{
	uint32_t grants;

	(void)state;
	connected(2);
	grants = fake_guest(&k).grants;
	assert_int_equal(send_one(0, 60), 1); /* lost with the backend */
	for (unsigned i = 0; i < 3; i++) {
		fake_disconnect(&k);
		if (i == 2) { /* the backend says that it stopped, and offers when we said that we let go */
			fake_state(&k, XenbusStateClosed, 0);
			fake_until(pv_netfront_work(f) == 0 && pv_netfront_state(f) == XenbusStateInitialising);
			pv_noxs_choice_read(k.control, &k.choice);
			assert_int_equal(k.choice.state, XenbusStateClosed);
		}
		k.offer.vif.queues_max = i == 1 ? 1 : 2;
		fake_offer(&k);
		fake_until(pv_netfront_work(f) == 0 && pv_netfront_state(f) == XenbusStateInitialised);
		fake_connect(&k);
		fake_until(pv_netfront_work(f) == 1);
		assert_int_equal(pv_netfront_state(f), XenbusStateConnected);
		assert_int_equal(pv_netfront_queues(f), i == 1 ? 1 : 2);
		assert_int_equal(send_one(0, 100), 1);
		assert_true(fake_take(&k, &k.queue[0], &got));
		assert_memory_equal(got.data, frame, 100);
		assert_int_equal(fake_guest(&k).pinned, 0);
	}
	assert_int_equal(fake_guest(&k).grants, grants);
	assert_int_equal(stats().tx_errors, 3); /* the first, and the two that were not answered in time */
}

static void netfront_work_device_removed(void **state)
{
	(void)state;
	connected(1);
	fake_disconnect(&k);
	fake_state(&k, XenbusStateClosed, 0);
	fake_remove(&k);
	fake_until(pv_netfront_work(f) == -ESHUTDOWN);
	assert_int_equal(pv_netfront_state(f), XenbusStateClosed);
	assert_int_equal(send_one(0, 60), -ESHUTDOWN);
}

static void netfront_close_frees_everything(void **state)
{
	uint32_t grants = fake_guest(&k).grants, ports = fake_guest(&k).ports;

	(void)state;
	connected(2);
	assert_true(fake_guest(&k).grants > grants + 1000);
	assert_int_equal(send_one(0, 60), 1);
	fake_disconnect(&k);
	fake_follow(&k);
	pv_netfront_close(f, 20000);
	f = NULL;
	assert_int_equal(fake_guest(&k).grants, grants);
	assert_int_equal(fake_guest(&k).ports, ports);
	assert_int_equal(fake_guest(&k).handles, 0);
	pv_netfront_close(NULL, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(netfront_open_choice),
		T(netfront_open_gso_needs_sg),
		T(netfront_open_not_announced),
		T(netfront_open_no_grants_left),
		T(netfront_open_as_many_pages_as_asked),
		T(netfront_open_few_grants_left),
		T(netfront_send_before_connected),
		T(netfront_send_one_slot),
		T(netfront_send_sizes),
		T(netfront_send_shows_nothing_else),
		T(netfront_send_gso_and_checksum),
		T(netfront_send_what_was_not_agreed),
		T(netfront_send_ipv6_checksum_is_its_own_feature),
		T(netfront_send_full_then_room),
		T(netfront_send_answers_in_any_order),
		T(netfront_recv_sizes),
		T(netfront_recv_gso),
		T(netfront_recv_burst_and_rest),
		T(netfront_recv_buffer_too_small),
		T(netfront_borrow_lends_until_the_next_call),
		T(netfront_borrow_passes_over_what_is_no_packet),
		T(netfront_recv_chain_in_two_halves),
		T(netfront_recv_error_status),
		T(netfront_fd_wakes_again_after_rest),
		T(netfront_work_comes_back_after_a_new_offer),
		T(netfront_work_device_removed),
		T(netfront_close_frees_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
