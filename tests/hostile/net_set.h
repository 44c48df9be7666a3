/* net_set.h - two guests exchange numbered packets through the whole product, while `pvio set` changes their vifs. What is no reason to lose a
 * packet loses none. The program that includes this says by DIALECT how its frontends find their devices. */
#ifndef NET_SET_H
#define NET_SET_H

#include "net_stream.h"
#include <pvio/message.h>

static uint64_t before; /* the loss when it was looked at last */

static uint64_t newly_lost(void)
{
	uint64_t n;

	drain();
	n = lost() - before;
	before += n;
	return n;
}

static void goes_on_and_loses_nothing(void)
{
	run_on(200);
	assert_int_equal(newly_lost(), 0);
}

/* What guest 2 sees of its vif: with noxs its offer follows at once. What Linux looks at when it connects anew is in XenStore; a carrier is not. */
static const char *seen(const char *key)
{
#ifdef XENBUS_PORT_H
	struct xb *xb = port_of(NULL, G2, NULL, 0);

	return xb_get(xb, xb_find(xb, PV_NOXS_VIF, 1)->node, key);
#else
	const struct pv_noxs_vif_offer *v = pv_netfront_offer(ab.to);
	static char text[PV_MAC_TEXT];

	if (!strcmp(key, "mac"))
		pv_mac_text(v->mac, text);
	else
		snprintf(text, sizeof(text), "%u", strcmp(key, "mtu") ? v->carrier : v->mtu);
	return text;
#endif
}

/* Change it under the stream, until the guest sees it. */
static void set_and_see(const char *key, const char *value)
{
	uint64_t end = stream_ms() + PATIENCE_MS;

	beside_the_stream("set g2 vif1 %s=%s", key, value);
	while (strcmp(key, "carrier") || !strcmp(DIALECT, "noxs")) {
		if (!strcmp(seen(key), value))
			return;
		turn(true);
		if (stream_ms() > end)
			fail_msg("%s is %s, not %s", key, seen(key), value);
	}
}

static void mtu_changes(void **state)
{
	uint64_t too_big, n;

	(void)state;
	set_and_see("mtu", "9000");
	run_on(200);
	set_and_see("mtu", "1460"); /* as large as they are */
	goes_on_and_loses_nothing();
	too_big = counted("g2 vif1", "rx_too_big");
	set_and_see("mtu", "1000");
	run_on(200);
	n = newly_lost();
	assert_true(n > 0);
	assert_int_equal(counted("g2 vif1", "rx_too_big") - too_big, n);
	set_and_see("mtu", "1500");
	newly_lost();
	goes_on_and_loses_nothing();
	assert_int_equal(counted("g1 vif1", "rx_too_big"), 0);
}

/* The old address goes on, as long as the guest uses it; and so does the new one. */
static void mac_changes(void **state)
{
	static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 0x77 };

	(void)state;
	set_and_see("mac", "02:00:00:00:00:77");
	goes_on_and_loses_nothing();
	memcpy(ab.to_mac, mac, 6);
	memcpy(ba.from_mac, mac, 6);
	goes_on_and_loses_nothing();
}

static void carrier_goes_and_comes(void **state)
{
	struct stream a, b;
	uint64_t bad;

	(void)state;
	set_and_see("carrier", "0");
	drain(); /* what was let through before */
	a = ab;
	b = ba;
	bad = counted("g2 vif1", "tx_bad");
	while (ab.next < a.next + WINDOW + 1 || ba.next < b.next + WINDOW + 1)
		turn(true);
	drain();
	assert_int_equal(ab.got, a.got);
	assert_int_equal(ba.got, b.got);
	assert_int_equal(counted("g2 vif1", "tx_bad") - bad, ba.next - b.next);
	set_and_see("carrier", "1");
	newly_lost();
	goes_on_and_loses_nothing();
}

static void generous_limits_lose_nothing(void **state)
{
	(void)state;
	beside_the_stream("set g1 vif1 rate-tx=10G rate-rx=10G pps-tx=1M pps-rx=1M burst=1M");
	beside_the_stream("set g2 vif1 rate-tx=10G rate-rx=10G pps-tx=1M pps-rx=1M burst=1M");
	run_on(200);
	beside_the_stream("set g1 vif1 rate-tx= rate-rx= pps-tx= pps-rx= burst=");
	beside_the_stream("set g2 vif1 rate-tx= rate-rx= pps-tx= pps-rx= burst=");
	goes_on_and_loses_nothing();
}

/* However fast the machine, never more than was allowed in the time that has passed; and what is beyond it waits. */
static void low_limit_holds(const char *key, const char *counter, const struct stream *s)
{
	enum { RATE = 400 /* packets a second */, PACKETS = 300, SLACK = RATE / 100 /* the burst */ + 128 /* a turn */ + WINDOW /* under way before */ };
	uint64_t begin, got;
	double most;

	beside_the_stream("set g1 vif1 %s=%d", key, RATE);
	begin = stream_ms();
	got = s->got;
	run_on(PACKETS);
	most = (double)(stream_ms() + 1 - begin) / 1000 * RATE * 1.02 + SLACK;
	if ((double)(s->got - got) > most)
		fail_msg("%s: %llu packets passed, not %.0f at most", key, (unsigned long long)(s->got - got), most);
	assert_true(counted("g1 vif1", counter) > 0);
	beside_the_stream("set g1 vif1 %s=", key);
	goes_on_and_loses_nothing();
}

static void low_limits_delay(void **state)
{
	(void)state;
	low_limit_holds("pps-tx", "tx_limited", &ab);
	low_limit_holds("pps-rx", "rx_limited", &ba);
}

static int set_up(void **state)
{
	int rc = sandbox_up(state);

	if (rc)
		return rc;
	assert_int_equal(pvio("attach g1 vif 1 --dialect " DIALECT), 0);
	assert_int_equal(pvio("attach g2 vif 1 --dialect " DIALECT), 0);
	stream_open(1);
	newly_lost(); /* before the other had posted its pages */
	return 0;
}

static int set_down(void **state)
{
	stream_close();
#ifdef XENBUS_PORT_H
	port_down();
#endif
	return stream_down(state);
}

static int net_set(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mtu_changes),
		cmocka_unit_test(mac_changes),
		cmocka_unit_test(carrier_goes_and_comes),
		cmocka_unit_test(generous_limits_lose_nothing),
		cmocka_unit_test(low_limits_delay),
	};

	return cmocka_run_group_tests(tests, set_up, set_down);
}

#endif
