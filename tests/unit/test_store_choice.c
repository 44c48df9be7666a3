/* test_store_choice.c - offers as XenStore's keys, and a frontend's keys as a choice: what Linux writes, what it might, and what no
 * frontend should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <xen/io/blkif.h>
#include "dom0-tools/pviod.h"

/* ---- a directory in memory ---- */

enum { KEYS = 512 };

static struct {
	char key[40], value[64];
} keys[KEYS];
static int nkeys, reads, fail_at;

static int find(const char *key)
{
	for (int i = 0; i < nkeys; i++)
		if (strcmp(keys[i].key, key) == 0)
			return i;
	return -1;
}

static void put(void *arg, const char *key, const char *value)
{
	int i = find(key);

	(void)arg;
	if (i < 0)
		i = nkeys++;
	assert_true(i < KEYS);
	snprintf(keys[i].key, sizeof(keys[i].key), "%s", key);
	snprintf(keys[i].value, sizeof(keys[i].value), "%s", value);
}

static void drop(const char *key)
{
	int i = find(key);

	assert_true(i >= 0);
	keys[i] = keys[--nkeys];
}

static int get(void *arg, const char *key, char *buf, size_t len)
{
	int i = find(key);

	(void)arg;
	if (++reads == fail_at)
		return -EIO;
	if (i < 0)
		return -ENOENT;
	if (strlen(keys[i].value) >= len)
		return -EINVAL;
	strcpy(buf, keys[i].value);
	return (int)strlen(buf);
}

static const struct store_writer writer = { .put = put };
static const struct store_reader reader = { .read = get };

static const char *value_of(const char *key)
{
	int i = find(key);

	return i < 0 ? "" : keys[i].value;
}

/* "key=value key=value ..." */
static void keys_are(const char *text)
{
	char copy[4096], *save, *word;

	nkeys = 0;
	assert_true(strlen(text) < sizeof(copy));
	strcpy(copy, text);
	for (word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		char *eq = strchr(word, '=');

		*eq = '\0';
		put(NULL, word, eq + 1);
	}
}

/* ---- offers and frontends ---- */

static struct pv_noxs_offer vif_offer(void)
{
	return (struct pv_noxs_offer){
		.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 3, .type = PV_NOXS_VIF, .state = XenbusStateInitWait,
		.vif = { .mac = { 0, 0x16, 0x3e, 1, 0xab, 3 }, .queues_max = 4, .mtu = 1500, .carrier = 1,
			 .features = PV_VIF_SG | PV_VIF_CSUM_IPV4 | PV_VIF_CSUM_IPV6 | PV_VIF_GSO_TCPV4 | PV_VIF_GSO_TCPV6 },
	};
}

static struct pv_noxs_offer vbd_offer(void)
{
	return (struct pv_noxs_offer){
		.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 3, .type = PV_NOXS_VBD, .state = XenbusStateInitWait,
		.vbd = { .sectors = 1ull << 40, .sector_size = 512, .physical_sector_size = 4096, .queues_max = 4, .ring_order_max = 4,
			 .indirect_max = 256, .features = PV_VBD_FLUSH | PV_VBD_DISCARD | PV_VBD_PERSISTENT,
			 .discard_granularity = 4096, .discard_alignment = 512 },
	};
}

#define LINUX_VIF "request-rx-copy=1 feature-rx-notify=1 feature-sg=1 feature-gso-tcpv4=1 feature-gso-tcpv6=1 feature-ipv6-csum-offload=1"
#define LINUX_VIF_ONE LINUX_VIF " multi-queue-num-queues=1 tx-ring-ref=8 rx-ring-ref=9 event-channel-tx=11 event-channel-rx=12"
#define LINUX_VBD "protocol=x86_64-abi feature-persistent=1"
#define LINUX_VBD_ONE LINUX_VBD " ring-ref=8 event-channel=15"

static struct pv_noxs_choice c;
static const char *why;

static int choose(const struct pv_noxs_offer *offer, const char *text)
{
	keys_are(text);
	reads = 0;
	why = NULL;
	return store_choice(&reader, offer, &c, &why);
}

static void refused(const struct pv_noxs_offer *offer, const char *text, const char *words)
{
	int rc = choose(offer, text);

	if (rc != -EPROTO)
		fail_msg("%s: %d, not -EPROTO", text, rc);
	if (!why || !strstr(why, words))
		fail_msg("%s: refused for \"%s\", not for \"%s\"", text, why ? why : "nothing", words);
}

/* ---- offers as keys ---- */

static void offer_of_a_vif_names_what_linux_looks_for(void **state)
{
	struct pv_noxs_offer o = vif_offer();

	(void)state;
	nkeys = 0;
	store_offer(&writer, &o);
	assert_string_equal(value_of("mac"), "00:16:3e:01:ab:03");
	assert_string_equal(value_of("mtu"), "1500");
	assert_string_equal(value_of("feature-rx-copy"), "1");
	assert_string_equal(value_of("feature-rx-flip"), "0");
	assert_string_equal(value_of("feature-split-event-channels"), "1");
	assert_string_equal(value_of("multi-queue-max-queues"), "4");
	assert_string_equal(value_of("feature-sg"), "1");
	assert_string_equal(value_of("feature-gso-tcpv4"), "1");
	assert_string_equal(value_of("feature-gso-tcpv6"), "1");
	assert_string_equal(value_of("feature-ipv6-csum-offload"), "1");
	assert_string_equal(value_of("feature-no-csum-offload"), "0");
	assert_string_equal(value_of("feature-multicast-control"), "0");
	assert_string_equal(value_of("feature-dynamic-multicast-control"), "0");
	assert_string_equal(value_of("feature-ctrl-ring"), "0");
	assert_string_equal(value_of("feature-xdp-headroom"), "0");
	assert_string_equal(value_of("feature-rx-notify"), ""); /* the frontend's alone */
	o.vif.features = PV_VIF_MCAST_CONTROL | PV_VIF_CTRL_RING | PV_VIF_HEADROOM | PV_VIF_NO_RX_NOTIFY;
	store_offer(&writer, &o);
	assert_string_equal(value_of("feature-dynamic-multicast-control"), "1");
	assert_string_equal(value_of("feature-ctrl-ring"), "1");
	assert_string_equal(value_of("feature-xdp-headroom"), "1");
	assert_string_equal(value_of("feature-sg"), "0");
	assert_string_equal(value_of("feature-no-csum-offload"), "1");
	assert_string_equal(value_of("feature-multicast-control"), "1");
}

static void offer_of_a_vbd_names_what_linux_looks_for(void **state)
{
	struct pv_noxs_offer o = vbd_offer();

	(void)state;
	nkeys = 0;
	store_offer(&writer, &o);
	assert_string_equal(value_of("sectors"), "1099511627776");
	assert_string_equal(value_of("sector-size"), "512");
	assert_string_equal(value_of("physical-sector-size"), "4096");
	assert_string_equal(value_of("info"), "0");
	assert_string_equal(value_of("mode"), "w");
	assert_string_equal(value_of("multi-queue-max-queues"), "4");
	assert_string_equal(value_of("max-ring-page-order"), "4");
	assert_string_equal(value_of("feature-max-indirect-segments"), "256");
	assert_string_equal(value_of("feature-flush-cache"), "1");
	assert_string_equal(value_of("feature-barrier"), "0");
	assert_string_equal(value_of("feature-discard"), "1");
	assert_string_equal(value_of("discard-granularity"), "4096");
	assert_string_equal(value_of("discard-alignment"), "512");
	assert_string_equal(value_of("discard-secure"), "0");
	assert_string_equal(value_of("feature-persistent"), "1");
	o.vbd.info = VDISK_READONLY | VDISK_CDROM;
	store_offer(&writer, &o);
	assert_string_equal(value_of("mode"), "r");
	assert_string_equal(value_of("info"), "5");
}

/* ---- a vif's choice ---- */

static void vif_of_linux_with_one_queue(void **state)
{
	struct pv_noxs_offer o = vif_offer();

	(void)state;
	assert_int_equal(choose(&o, LINUX_VIF_ONE), 0);
	assert_int_equal(c.queues, 1);
	assert_int_equal(c.features, o.vif.features);
	assert_int_equal(c.generation, 3);
	assert_int_equal(c.vif[0].tx_gref, 8);
	assert_int_equal(c.vif[0].rx_gref, 9);
	assert_int_equal(c.vif[0].tx_port, 11);
	assert_int_equal(c.vif[0].rx_port, 12);
}

static void vif_of_linux_with_many_queues(void **state)
{
	struct pv_noxs_offer o = vif_offer();
	char text[2048] = LINUX_VIF " multi-queue-num-queues=4";

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
			 " queue-%u/tx-ring-ref=%u queue-%u/rx-ring-ref=%u queue-%u/event-channel=%u", i, 100 + i, i, 200 + i, i, 300 + i);
	assert_int_equal(choose(&o, text), 0);
	assert_int_equal(c.queues, 4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(c.vif[i].tx_gref, 100 + i);
		assert_int_equal(c.vif[i].rx_gref, 200 + i);
		assert_int_equal(c.vif[i].tx_port, 300 + i);
		assert_int_equal(c.vif[i].rx_port, 300 + i);
	}
	drop("queue-3/rx-ring-ref");
	assert_int_equal(store_choice(&reader, &o, &c, &why), -EPROTO);
	assert_string_equal(why, "rx-ring-ref is missing or no number of 32 bits");
}

/* What it can be sent is what both know; what it says about things that were not offered is no lie. */
static void vif_features_are_those_of_both(void **state)
{
	struct pv_noxs_offer o = vif_offer();

	(void)state;
	o.vif.features = PV_VIF_GSO_TCPV4 | PV_VIF_CSUM_IPV4;
	assert_int_equal(choose(&o, LINUX_VIF_ONE), 0);
	assert_int_equal(c.features, PV_VIF_GSO_TCPV4 | PV_VIF_CSUM_IPV4);
	o = vif_offer();
	assert_int_equal(choose(&o, "request-rx-copy=1 feature-rx-notify=1 tx-ring-ref=8 rx-ring-ref=9 event-channel=1"), 0);
	assert_int_equal(c.features, PV_VIF_CSUM_IPV4); /* on, unless said otherwise */
	assert_int_equal(choose(&o, LINUX_VIF_ONE " feature-no-csum-offload=1 feature-gso-tcpv6=0"), 0);
	assert_int_equal(c.features, PV_VIF_SG | PV_VIF_CSUM_IPV6 | PV_VIF_GSO_TCPV4);
	o.vif.features |= PV_VIF_MCAST_CONTROL;
	assert_int_equal(choose(&o, LINUX_VIF_ONE " request-multicast-control=1"), 0);
	assert_true(c.features & PV_VIF_MCAST_CONTROL);
}

static void vif_with_one_port_for_both_rings(void **state)
{
	struct pv_noxs_offer o = vif_offer();

	(void)state;
	assert_int_equal(choose(&o, LINUX_VIF " tx-ring-ref=8 rx-ring-ref=9 event-channel=11"), 0);
	assert_int_equal(c.vif[0].tx_port, 11);
	assert_int_equal(c.vif[0].rx_port, 11);
}

static void vif_with_a_control_ring(void **state)
{
	struct pv_noxs_offer o = vif_offer();

	(void)state;
	assert_int_equal(choose(&o, LINUX_VIF_ONE " ctrl-ring-ref=77 event-channel-ctrl=78"), 0);
	assert_int_equal(c.features, o.vif.features); /* it was not offered */
	o.vif.features |= PV_VIF_CTRL_RING;
	assert_int_equal(choose(&o, LINUX_VIF_ONE " ctrl-ring-ref=77 event-channel-ctrl=78"), 0);
	assert_true(c.features & PV_VIF_CTRL_RING);
	assert_int_equal(c.ctrl_gref, 77);
	assert_int_equal(c.ctrl_port, 78);
	assert_int_equal(choose(&o, LINUX_VIF_ONE), 0);
	assert_false(c.features & PV_VIF_CTRL_RING);
	refused(&o, LINUX_VIF_ONE " ctrl-ring-ref=77", "event-channel-ctrl");
	refused(&o, LINUX_VIF_ONE " ctrl-ring-ref=77 event-channel-ctrl=0", "a control ring without a port");
	refused(&o, LINUX_VIF_ONE " ctrl-ring-ref=-1 event-channel-ctrl=5", "ctrl-ring-ref");
}

static void vif_headroom_is_at_most_what_there_can_be(void **state)
{
	struct pv_noxs_offer o = vif_offer();

	(void)state;
	assert_int_equal(choose(&o, LINUX_VIF_ONE " xdp-headroom=256"), 0);
	assert_int_equal(c.headroom, 0); /* not offered */
	o.vif.features |= PV_VIF_HEADROOM;
	assert_int_equal(choose(&o, LINUX_VIF_ONE " xdp-headroom=256"), 0);
	assert_true(c.features & PV_VIF_HEADROOM);
	assert_int_equal(c.headroom, 256);
	assert_int_equal(choose(&o, LINUX_VIF_ONE " xdp-headroom=32767"), 0);
	assert_int_equal(c.headroom, PV_NOXS_HEADROOM_MAX);
	assert_int_equal(choose(&o, LINUX_VIF_ONE " xdp-headroom=0"), 0);
	assert_false(c.features & PV_VIF_HEADROOM);
	refused(&o, LINUX_VIF_ONE " xdp-headroom=-1", "xdp-headroom");
}

static void vif_that_does_not_notify_is_looked_at(void **state)
{
	struct pv_noxs_offer o = vif_offer();

	(void)state;
	o.vif.features |= PV_VIF_NO_RX_NOTIFY;
	assert_int_equal(choose(&o, LINUX_VIF_ONE), 0);
	assert_false(c.features & PV_VIF_NO_RX_NOTIFY);
	assert_int_equal(choose(&o, LINUX_VIF_ONE " feature-rx-notify=0"), 0);
	assert_true(c.features & PV_VIF_NO_RX_NOTIFY);
	assert_int_equal(choose(&o, "request-rx-copy=1 tx-ring-ref=8 rx-ring-ref=9 event-channel=1"), 0);
	assert_true(c.features & PV_VIF_NO_RX_NOTIFY);
	refused(&o, "tx-ring-ref=8 rx-ring-ref=9 event-channel=1 feature-rx-notify=1", "request-rx-copy must be 1");
}

/* What a connected frontend may change is read again; the rest of its keys is not looked at. */
static void rechoice_takes_over_what_may_change(void **state)
{
	struct pv_noxs_offer o = vif_offer();
	struct pv_noxs_choice now;

	(void)state;
	o.vif.features |= PV_VIF_HEADROOM | PV_VIF_MCAST_CONTROL;
	assert_int_equal(choose(&o, LINUX_VIF_ONE), 0);
	now = c;
	keys_are("xdp-headroom=256 request-multicast-control=1 tx-ring-ref=99 feature-sg=0 multi-queue-num-queues=7");
	assert_int_equal(store_rechoice(&reader, &o, &now, &c, &why), 0);
	assert_int_equal(c.features, now.features | PV_VIF_HEADROOM | PV_VIF_MCAST_CONTROL);
	assert_int_equal(c.headroom, 256);
	assert_memory_equal(c.vif, now.vif, sizeof(c.vif));
	assert_true(choice_differs(&c, &now));
	now = c;
	keys_are("xdp-headroom=0");
	assert_int_equal(store_rechoice(&reader, &o, &now, &c, &why), 0);
	assert_false(c.features & (PV_VIF_HEADROOM | PV_VIF_MCAST_CONTROL));
	keys_are("request-multicast-control=perhaps");
	assert_int_equal(store_rechoice(&reader, &o, &now, &c, &why), -EPROTO);
	assert_non_null(why);
}

static void vif_that_cannot_be_served_is_told_why(void **state)
{
	static const struct {
		const char *more, *words;
	} bad[] = {
		{ "request-rx-copy=0", "request-rx-copy must be 1" },
		{ "feature-rx-notify=0", "feature-rx-notify must be 1" },
		{ "multi-queue-num-queues=0", "multi-queue-num-queues" },
		{ "multi-queue-num-queues=5", "multi-queue-num-queues" },
		{ "multi-queue-num-queues=4294967295", "multi-queue-num-queues" },
		{ "multi-queue-num-queues=2", "tx-ring-ref" },
		{ "tx-ring-ref=", "tx-ring-ref" },
		{ "tx-ring-ref=-1", "tx-ring-ref" },
		{ "tx-ring-ref=+1", "tx-ring-ref" },
		{ "tx-ring-ref=0x10", "tx-ring-ref" },
		{ "tx-ring-ref=8\n", "tx-ring-ref" },
		{ "tx-ring-ref=4294967296", "tx-ring-ref" },
		{ "tx-ring-ref=18446744073709551617", "tx-ring-ref" },
		{ "rx-ring-ref=nine", "rx-ring-ref" },
		{ "rx-ring-ref=00000000000000000000000000009", "rx-ring-ref" },
		{ "event-channel-tx=0", "a queue without a port" },
		{ "event-channel-rx=0", "a queue without a port" },
		{ "event-channel-rx=1e3", "event-channel-rx" },
		{ "feature-sg=yes", "a feature" },
	};
	struct pv_noxs_offer o = vif_offer();

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[1024];

		snprintf(text, sizeof(text), LINUX_VIF_ONE " %s", bad[i].more);
		refused(&o, text, bad[i].words);
	}
	refused(&o, "", "request-rx-copy");
	refused(&o, LINUX_VIF, "tx-ring-ref");
	refused(&o, LINUX_VIF " tx-ring-ref=1 rx-ring-ref=2", "event-channel");
	refused(&o, LINUX_VIF " tx-ring-ref=1 rx-ring-ref=2 event-channel-tx=3", "event-channel-rx");
}

/* ---- a vbd's choice ---- */

static void vbd_of_linux_with_one_page(void **state)
{
	struct pv_noxs_offer o = vbd_offer();

	(void)state;
	assert_int_equal(choose(&o, LINUX_VBD_ONE), 0);
	assert_int_equal(c.queues, 1);
	assert_int_equal(c.ring_order, 0);
	assert_int_equal(c.abi, PV_VBD_ABI_X86_64);
	assert_int_equal(c.features, PV_VBD_FLUSH | PV_VBD_DISCARD | PV_VBD_PERSISTENT);
	assert_int_equal(c.vbd[0].ring_gref[0], 8);
	assert_int_equal(c.vbd[0].port, 15);
}

static void vbd_of_linux_with_many_pages_and_queues(void **state)
{
	struct pv_noxs_offer o = vbd_offer();
	char text[4096] = LINUX_VBD " ring-page-order=4 multi-queue-num-queues=2";

	(void)state;
	for (unsigned q = 0; q < 2; q++) {
		for (unsigned i = 0; i < 16; i++)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), " queue-%u/ring-ref%u=%u", q, i, 100 * (q + 1) + i);
		snprintf(text + strlen(text), sizeof(text) - strlen(text), " queue-%u/event-channel=%u", q, 50 + q);
	}
	assert_int_equal(choose(&o, text), 0);
	assert_int_equal(c.queues, 2);
	assert_int_equal(c.ring_order, 4);
	for (unsigned q = 0; q < 2; q++) {
		assert_int_equal(c.vbd[q].port, 50 + q);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(c.vbd[q].ring_gref[i], 100 * (q + 1) + i);
	}
	drop("queue-1/ring-ref15");
	assert_int_equal(store_choice(&reader, &o, &c, &why), -EPROTO);
	assert_string_equal(why, "a ring-ref is missing or no number of 32 bits");
}

/* With an order of 0 some frontends number their one page, and some do not. */
static void vbd_of_order_zero_is_read_either_way(void **state)
{
	struct pv_noxs_offer o = vbd_offer();

	(void)state;
	assert_int_equal(choose(&o, "ring-page-order=0 ring-ref0=7 event-channel=2"), 0);
	assert_int_equal(c.vbd[0].ring_gref[0], 7);
	assert_int_equal(choose(&o, "ring-page-order=0 ring-ref=9 event-channel=2"), 0);
	assert_int_equal(c.vbd[0].ring_gref[0], 9);
	o.vbd.ring_order_max = 0;
	assert_int_equal(choose(&o, "ring-ref=9 event-channel=2"), 0);
}

static void vbd_abi_is_named_or_native(void **state)
{
	struct pv_noxs_offer o = vbd_offer();

	(void)state;
	assert_int_equal(choose(&o, "ring-ref=9 event-channel=2"), 0);
	assert_int_equal(c.abi, PV_VBD_ABI_NATIVE);
	assert_int_equal(c.features, PV_VBD_FLUSH | PV_VBD_DISCARD); /* nobody said that pages stay */
	assert_int_equal(choose(&o, "ring-ref=9 event-channel=2 protocol=x86_32-abi"), 0);
	assert_int_equal(c.abi, PV_VBD_ABI_X86_32);
	refused(&o, "ring-ref=9 event-channel=2 protocol=arm-abi", "protocol");
	refused(&o, "ring-ref=9 event-channel=2 protocol=x86_64-abi-and-more-of-it", "protocol");
}

static void vbd_that_cannot_be_served_is_told_why(void **state)
{
	static const struct {
		const char *more, *words;
	} bad[] = {
		{ "ring-ref=x", "ring-ref" },
		{ "event-channel=0", "a queue without a port" },
		{ "event-channel=-5", "event-channel" },
		{ "ring-page-order=5", "ring-page-order" },
		{ "ring-page-order=32", "ring-page-order" },
		{ "ring-page-order=4294967295", "ring-page-order" },
		{ "ring-page-order=two", "ring-page-order" },
		{ "ring-page-order=1", "a ring-ref" },
		{ "multi-queue-num-queues=5", "multi-queue-num-queues" },
		{ "multi-queue-num-queues=3", "a ring-ref" },
		{ "feature-persistent=perhaps", "a feature" },
	};
	struct pv_noxs_offer o = vbd_offer();

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[1024];

		snprintf(text, sizeof(text), LINUX_VBD_ONE " %s", bad[i].more);
		refused(&o, text, bad[i].words);
	}
	refused(&o, LINUX_VBD " ring-ref=1", "event-channel");
	o.vbd.ring_order_max = 60000; /* a backend's nonsense is no reason to believe the guest's */
	refused(&o, LINUX_VBD_ONE " ring-page-order=31", "ring-page-order");
	o.vbd.queues_max = 60000;
	refused(&o, LINUX_VBD_ONE " multi-queue-num-queues=17", "multi-queue-num-queues");
}

/* ---- what is not the frontend's fault ---- */

static struct pv_noxs_offer vf_offer(void)
{
	return (struct pv_noxs_offer){ .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 3, .type = PV_NOXS_VF,
				       .state = XenbusStateInitWait, .vf = { .functions = PV_NOXS_VFS_MAX } };
}

static void offer_of_a_vf_names_its_slots_and_not_the_machines(void **state)
{
	struct pv_noxs_offer offer = vf_offer();

	(void)state;
	nkeys = 0;
	store_offer(&writer, &offer);
	assert_string_equal(value_of("num_devs"), "32");
	assert_string_equal(value_of("root_num"), "1");
	assert_string_equal(value_of("root-0"), "0000:00");
	assert_string_equal(value_of("vdev-31"), "0000:00:1f.0");
	assert_int_equal(nkeys, 3 + 32);
}

static void vf_of_linux(void **state)
{
	struct pv_noxs_offer offer = vf_offer();

	(void)state;
	assert_int_equal(choose(&offer, "pci-op-ref=8 event-channel=15 magic=7"), 0);
	assert_int_equal(c.queues, 1);
	assert_int_equal(c.vf[0].gref, 8);
	assert_int_equal(c.vf[0].port, 15);
}

static void vf_that_cannot_be_served_is_told_why(void **state)
{
	struct pv_noxs_offer offer = vf_offer();

	(void)state;
	refused(&offer, "pci-op-ref=8 event-channel=15", "magic");
	refused(&offer, "pci-op-ref=8 event-channel=15 magic=6", "magic");
	refused(&offer, "pci-op-ref=8 event-channel=15 magic=7777777777", "magic");
	refused(&offer, "event-channel=15 magic=7", "pci-op-ref");
	refused(&offer, "pci-op-ref=8 magic=7", "event-channel");
	refused(&offer, "pci-op-ref=4294967296 event-channel=15 magic=7", "pci-op-ref");
	refused(&offer, "pci-op-ref=8 event-channel=0 magic=7", "port");
}

static void store_that_fails_is_no_misdeed(void **state)
{
	struct pv_noxs_offer offers[] = { vif_offer(), vbd_offer() };
	static const char *const texts[] = { LINUX_VIF_ONE, LINUX_VBD_ONE };

	(void)state;
	for (int i = 0; i < 2; i++) {
		int n;

		assert_int_equal(choose(&offers[i], texts[i]), 0);
		n = reads;
		for (fail_at = 1; fail_at <= n; fail_at++)
			assert_int_equal(choose(&offers[i], texts[i]), -EIO);
		fail_at = 0;
	}
}

/* Whatever is asked for, a choice costs a bounded number of reads. */
static void reads_are_bounded(void **state)
{
	struct pv_noxs_offer o = vbd_offer();

	(void)state;
	o.vbd.queues_max = 16;
	keys_are(LINUX_VBD " ring-page-order=4 multi-queue-num-queues=16");
	for (unsigned q = 0; q < 16; q++) {
		char key[40];

		for (unsigned i = 0; i < 16; i++) {
			snprintf(key, sizeof(key), "queue-%u/ring-ref%u", q, i);
			put(NULL, key, "1");
		}
		snprintf(key, sizeof(key), "queue-%u/event-channel", q);
		put(NULL, key, "1");
	}
	reads = 0;
	assert_int_equal(store_choice(&reader, &o, &c, &why), 0);
	assert_true(reads <= 16 * 17 + 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offer_of_a_vif_names_what_linux_looks_for),
		cmocka_unit_test(offer_of_a_vbd_names_what_linux_looks_for),
		cmocka_unit_test(vif_of_linux_with_one_queue),
		cmocka_unit_test(vif_of_linux_with_many_queues),
		cmocka_unit_test(vif_features_are_those_of_both),
		cmocka_unit_test(vif_with_one_port_for_both_rings),
		cmocka_unit_test(vif_with_a_control_ring),
		cmocka_unit_test(vif_headroom_is_at_most_what_there_can_be),
		cmocka_unit_test(vif_that_does_not_notify_is_looked_at),
		cmocka_unit_test(rechoice_takes_over_what_may_change),
		cmocka_unit_test(vif_that_cannot_be_served_is_told_why),
		cmocka_unit_test(vbd_of_linux_with_one_page),
		cmocka_unit_test(vbd_of_linux_with_many_pages_and_queues),
		cmocka_unit_test(vbd_of_order_zero_is_read_either_way),
		cmocka_unit_test(vbd_abi_is_named_or_native),
		cmocka_unit_test(vbd_that_cannot_be_served_is_told_why),
		cmocka_unit_test(offer_of_a_vf_names_its_slots_and_not_the_machines),
		cmocka_unit_test(vf_of_linux),
		cmocka_unit_test(vf_that_cannot_be_served_is_told_why),
		cmocka_unit_test(store_that_fails_is_no_misdeed),
		cmocka_unit_test(reads_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
