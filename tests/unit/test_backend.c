/* test_backend.c - names, encoders and decoders with every bound, and a backend's life with a pviod that comes and goes. */
#include <errno.h>
#include <poll.h>
#include <pvio/backend.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xen/io/blkif.h>
#include <cmocka.h>

/* ---- names ---- */

static const struct {
	const char *name;
	uint32_t devid;
} disks[] = {
	{ "xvda", 51712 }, { "xvda1", 51713 }, { "xvda15", 51727 }, { "xvdb", 51728 }, { "xvdp", 51952 }, { "xvdp15", 51967 },
	{ "xvda16", 1 << 28 | 16 }, { "xvda255", 1 << 28 | 255 }, { "xvdq", 1 << 28 | 16 << 8 },
	{ "xvdq1", 1 << 28 | 16 << 8 | 1 },
	{ "xvdz", 1 << 28 | 25 << 8 }, { "xvdaa", 1 << 28 | 26 << 8 }, { "xvdba3", 1 << 28 | 52 << 8 | 3 },
	{ "xvdzz", 1 << 28 | 701 << 8 },
	{ "xvdaaa", 1 << 28 | 702 << 8 }, { "xvdbgqcv", 1 << 28 | 1048575 << 8 },
	{ "sda", 2048 }, { "sda15", 2063 }, { "sdb", 2064 }, { "sdp", 2288 }, { "hda", 768 }, { "hda63", 831 }, { "hdb", 832 },
	{ "hdc", 5632 },
	{ "hdd63", 5759 }, { "0", 0 }, { "7", 7 }, { "4294967295", UINT32_MAX },
};

static void devid_of_knows_disks(void **state)
{
	char name[32];
	uint32_t devid;

	(void)state;
	for (unsigned i = 0; i < sizeof(disks) / sizeof(disks[0]); i++) {
		if (pv_devid_of(PV_NOXS_VBD, disks[i].name, &devid) != 0 || devid != disks[i].devid)
			fail_msg("%s is not %u", disks[i].name, disks[i].devid);
		pv_devid_name(PV_NOXS_VBD, disks[i].devid, name, sizeof(name));
		assert_string_equal(name, disks[i].name);
	}
	assert_int_equal(pv_devid_of(PV_NOXS_VBD, "51712", &devid), 0);
	pv_devid_name(PV_NOXS_VBD, devid, name, sizeof(name));
	assert_string_equal(name, "xvda");
}

static void devid_of_refuses_what_is_no_name(void **state)
{
	static const char *const wrong[] = {
		"", "x", "xvd", "xvd1", "xvdA", "xvda0", "xvda01", "xvda256", "xvda1x", "xvda-1", "xvda ", " xvda", "xvdbgqcw", "xvdzzzzzzzzzzzzz",
		"sdq", "sda16", "hde", "hda64", "sd", "hd", "vda", "nvme0n1", "-1", "+1", "01", "1 ", "0x10", "4294967296", "99999999999999999999", "1.0",
	};
	uint32_t devid;

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (pv_devid_of(PV_NOXS_VBD, wrong[i], &devid) != -EINVAL)
			fail_msg("'%s' was taken for %u", wrong[i], devid);
	assert_int_equal(pv_devid_of(PV_NOXS_VIF, "xvda", &devid), -EINVAL);
	assert_int_equal(pv_devid_of(PV_NOXS_VIF, "3", &devid), 0);
	assert_int_equal(devid, 3);
}

/* Whatever the number, its name leads back to it. */
static void devid_name_leads_back(void **state)
{
	unsigned seed = 3;
	char name[32];

	(void)state;
	for (unsigned i = 0; i < 300000; i++) {
		uint32_t devid = i < 70000 ? i : i < 140000 ? (1u << 28) + i - 70000 : (uint32_t)rand_r(&seed) * 2 + (i & 1), again = ~devid;

		pv_devid_name(PV_NOXS_VBD, devid, name, sizeof(name));
		if (pv_devid_of(PV_NOXS_VBD, name, &again) != 0 || again != devid)
			fail_msg("%u is called %s, which is %u", devid, name, again);
	}
	pv_devid_name(PV_NOXS_VIF, 51712, name, sizeof(name));
	assert_string_equal(name, "51712");
	pv_devid_name(PV_NOXS_VBD, 51712, name, 3); /* little room */
	assert_int_equal(strlen(name), 2);
}

static void types_have_names(void **state)
{
	(void)state;
	for (enum pv_noxs_type t = PV_NOXS_VIF; t <= PV_NOXS_PIPE; t++)
		assert_int_equal(pv_type_of(pv_type_name(t)), t);
	assert_string_equal(pv_type_name(PV_NOXS_VBD), "vbd");
	assert_null(pv_type_name(PV_NOXS_NONE));
	assert_null(pv_type_name(99));
	assert_null(pv_type_name(-1));
	assert_int_equal(pv_type_of("tap"), PV_NOXS_NONE);
	assert_int_equal(pv_type_of(""), PV_NOXS_NONE);
	assert_int_equal(pv_type_of(NULL), PV_NOXS_NONE);
}

/* ---- encoders and decoders ---- */

static const struct pv_noxs_vif_offer vif_offer = {
	.mac = { 0x00, 0x16, 0x3e, 0xab, 0xcd, 0xef }, .queues_max = 16, .mtu = 9000, .features = 0x3f, .carrier = 1,
};

static const struct pv_noxs_vbd_offer vbd_offer = {
	.sectors = INT64_MAX / 512 / 8 * 8, .sector_size = 4096, .physical_sector_size = 8192, .info = VDISK_READONLY, .features = 0x1f,
	.queues_max = 3, .ring_order_max = 4, .indirect_max = 4096, .discard_granularity = 4096, .discard_alignment = 512,
};

static const char vif_text[] = "{\"queues_max\":16,\"mtu\":9000,\"features\":63,\"carrier\":1,\"mac\":\"00:16:3e:ab:cd:ef\"}";
static const char vbd_text[] = "{\"sectors\":18014398509481976,\"sector_size\":4096,\"physical_sector_size\":8192,\"info\":4,\"features\":31,"
			       "\"queues_max\":3,\"ring_order_max\":4,\"indirect_max\":4096,\"discard_granularity\":4096,\"discard_alignment\":512}";
static const char vif_connect_text[] =
	"{\"kind\":\"vif\",\"guest\":7,\"devid\":0,\"config\":{\"bridge\":\"b0\"},\"choice\":{\"generation\":4294967295,\"features\":3,"
	"\"ring_order\":0,\"abi\":0,\"queues\":[{\"tx_gref\":1,\"rx_gref\":2,\"tx_port\":3,\"rx_port\":3},"
	"{\"tx_gref\":4294967295,\"rx_gref\":0,\"tx_port\":4294967295,\"rx_port\":1}]}}";
static const char vbd_connect_text[] =
	"{\"kind\":\"vbd\",\"guest\":32751,\"devid\":51712,\"config\":{},\"choice\":{\"generation\":1,\"features\":1,\"ring_order\":1,\"abi\":2,"
	"\"queues\":[{\"port\":5,\"ring_gref\":[8,9]}]}}";

static const char vf_connect_text[] =
	"{\"kind\":\"vf\",\"guest\":3,\"devid\":0,\"config\":{\"vf\":\"0000:01:10.0\"},\"choice\":{\"generation\":2,\"features\":0,"
	"\"ring_order\":0,\"abi\":0,\"queues\":[{\"gref\":77,\"port\":6}]}}";

static void same_text(struct json_object *o, const char *text)
{
	assert_string_equal(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN), text);
	json_object_put(o);
}

static void offer_survives_the_journey(void **state)
{
	struct pv_noxs_offer o = { .vif = vif_offer }, got;
	struct json_object *j = pv_offer_to_json(&o, PV_NOXS_VIF);
	char why[200];

	(void)state;
	memset(&got, 0xff, sizeof(got));
	assert_int_equal(pv_offer_from_json(j, PV_NOXS_VIF, &got, why, sizeof(why)), 0);
	assert_memory_equal(&got.vif, &vif_offer, sizeof(vif_offer));
	assert_int_equal(got.magic, UINT32_MAX); /* the rest is pviod's */
	assert_int_equal(got.bytes[1983], 0);
	same_text(j, vif_text);
	memset(o.bytes, 0, sizeof(o.bytes));
	o.vbd = vbd_offer;
	j = pv_offer_to_json(&o, PV_NOXS_VBD);
	assert_int_equal(pv_offer_from_json(j, PV_NOXS_VBD, &got, why, sizeof(why)), 0);
	assert_memory_equal(&got.vbd, &vbd_offer, sizeof(vbd_offer));
	same_text(j, vbd_text);
	memset(o.bytes, 0, sizeof(o.bytes));
	o.vf.functions = PV_NOXS_VFS_MAX;
	j = pv_offer_to_json(&o, PV_NOXS_VF);
	assert_int_equal(pv_offer_from_json(j, PV_NOXS_VF, &got, why, sizeof(why)), 0);
	assert_memory_equal(got.bytes, o.bytes, sizeof(o.bytes));
	same_text(j, "{\"functions\":32}");
	assert_int_equal(pv_offer_from_json(NULL, PV_NOXS_SYSCTL, &got, why, sizeof(why)), -EINVAL);
	same_text(pv_offer_to_json(&o, PV_NOXS_SYSCTL), "{}");
}

static void connect_survives_the_journey(void **state)
{
	static const char *const texts[] = { vif_connect_text, vbd_connect_text, vf_connect_text };
	char why[200] = "";

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct json_object *j = json_tokener_parse(texts[i]);
		struct pv_connect c;

		if (pv_connect_from_json(j, &c, why, sizeof(why)) != 0)
			fail_msg("%s: %s", texts[i], why);
		same_text(pv_connect_to_json(&c), texts[i]);
		if (i == 0) {
			assert_int_equal(c.id.guest, 7);
			assert_int_equal(c.choice.queues, 2);
			assert_int_equal(c.choice.vif[1].tx_port, UINT32_MAX);
			assert_string_equal(json_object_get_string(json_object_object_get(c.config, "bridge")), "b0");
		} else if (i == 2) {
			assert_int_equal(c.choice.vf[0].gref, 77);
			assert_int_equal(c.choice.vf[0].port, 6);
		} else {
			assert_int_equal(c.id.guest, 32751);
			assert_int_equal(c.choice.abi, PV_VBD_ABI_X86_64);
			assert_int_equal(c.choice.vbd[0].ring_gref[1], 9);
			assert_int_equal(c.choice.vbd[0].port, 5);
		}
		assert_int_equal(c.choice.magic, PV_NOXS_MAGIC);
		json_object_put(j);
	}
}

static void connect_has_a_configuration_even_without_one(void **state)
{
	struct pv_connect c = { .id = { 1, PV_NOXS_VIF, 2 }, .choice = { .queues = 65535 } }; /* more queues than there are: not read */

	(void)state;
	for (int i = 0; i < PV_NOXS_QUEUES_MAX; i++)
		c.choice.vif[i].tx_port = c.choice.vif[i].rx_port = 1;
	struct json_object *j = pv_connect_to_json(&c);
	char why[200];

	assert_int_equal(pv_connect_from_json(j, &c, why, sizeof(why)), 0);
	assert_int_equal(c.choice.queues, PV_NOXS_QUEUES_MAX);
	json_object_put(j);
}

static void full_vbd_choice_survives_the_journey(void **state)
{
	struct pv_connect c = { .id = { 9, PV_NOXS_VBD, 51712 }, .choice = { .queues = 16, .ring_order = 4, .generation = 3 } }, got;
	struct json_object *j;
	char why[200];

	(void)state;
	for (unsigned q = 0; q < 16; q++) {
		c.choice.vbd[q].port = q + 1;
		for (unsigned p = 0; p < 16; p++)
			c.choice.vbd[q].ring_gref[p] = q << 8 | p;
	}
	j = pv_connect_to_json(&c);
	assert_int_equal(pv_connect_from_json(j, &got, why, sizeof(why)), 0);
	assert_memory_equal(got.choice.bytes, c.choice.bytes, sizeof(c.choice.bytes));
	json_object_put(j);
}

/* One place of a message replaced by something wrong (or right), and whether it is still taken. */
struct edit {
	const char *from, *to;
	bool ok;
};

enum decoder { ID, VIF_OFFER, VBD_OFFER, CONNECT };

static int decode(enum decoder d, struct json_object *j, char *why, size_t len)
{
	struct pv_noxs_offer offer;
	struct pv_device_id id;
	struct pv_connect c;

	switch (d) {
	case ID: return pv_device_id_from_json(j, &id, why, len);
	case VIF_OFFER: return pv_offer_from_json(j, PV_NOXS_VIF, &offer, why, len);
	case VBD_OFFER: return pv_offer_from_json(j, PV_NOXS_VBD, &offer, why, len);
	default: return pv_connect_from_json(j, &c, why, len);
	}
}

static void try_edits(enum decoder d, const char *text, const struct edit *e)
{
	for (; e->from; e++) {
		const char *at = strstr(text, e->from);
		char edited[1024], why[200] = "";
		struct json_object *j;
		int ret;

		if (!at)
			fail_msg("no %s in %s", e->from, text);
		snprintf(edited, sizeof(edited), "%.*s%s%s", (int)(at - text), text, e->to, at + strlen(e->from));
		j = json_tokener_parse(edited);
		if (!j)
			fail_msg("%s does not parse", edited);
		ret = decode(d, j, why, sizeof(why));
		if (ret != (e->ok ? 0 : -EINVAL) || (why[0] == 0) != e->ok)
			fail_msg("%s: returned %d, %s", edited, ret, why);
		json_object_put(j);
	}
}

static void device_id_from_json_checks_everything(void **state)
{
	static const struct edit edits[] = {
		{ "7", "7", true }, { "7", "0", true }, { "7", "32751", true }, { "7", "32752", false }, { "7", "-1", false },
		{ "7", "65543", false },
		{ "7", "4294967303", false }, { "7", "18446744073709551623", false }, { "7", "99999999999999999999999", false },
		{ "7", "7.0", false }, { "7", "\"7\"", false }, { "7", "null", false }, { "7", "true", false },
		{ "7", "[7]", false }, { "7", "{}", false },
		{ "guest", "gast", false }, { "51712", "4294967295", true }, { "51712", "4294967296", false },
		{ "51712", "-1", false },
		{ "vbd", "vif", true }, { "vbd", "pipe", true }, { "vbd", "VBD", false }, { "vbd", "", false },
		{ "vbd", "vbd ", false }, { "\"vbd\"", "2", false },
		{ "\"vbd\"", "null", false }, { "kind", "type", false }, { "\"kind\"", "\"more\":{\"a\":[1]},\"kind\"", true },
		{ 0 },
	};
	char why[200];

	(void)state;
	try_edits(ID, "{\"kind\":\"vbd\",\"guest\":7,\"devid\":51712}", edits);
	assert_int_equal(decode(ID, NULL, why, sizeof(why)), -EINVAL);
}

static void offer_from_json_checks_everything(void **state)
{
	static const struct edit vif[] = {
		{ "16,", "1,", true }, { "16,", "0,", false }, { "16,", "17,", false }, { "16,", "65552,", false },
		{ "9000", "68", true }, { "9000", "67", false },
		{ "9000", "65535", true }, { "9000", "65536", false }, { "63", "511", true }, { "63", "512", false }, { "63", "0", true },
		{ "63", "-1", false }, { "carrier\":1", "carrier\":2", false },
		{ "00:16:3e:ab:cd:ef", "00:16:3E:AB:CD:EF", true }, { "00:16:3e", "01:16:3e", false },
		{ "00:16:3e", "0:16:3e", false },
		{ "00:16:3e", "00-16-3e", false }, { "00:16:3e", "00:16:3g", false }, { ":ef", "", false },
		{ ":ef", ":ef:00", false }, { ":ef", ":ef ", false },
		{ "\"00:16:3e:ab:cd:ef\"", "3", false }, { "mac", "max", false }, { "mtu", "MTU", false },
		{ "{", "{\"new\":-1,", true }, { 0 },
	};
	static const struct edit vbd[] = {
		{ "18014398509481976", "0", true }, { "18014398509481976", "8", true }, { "18014398509481976", "7", false },
		{ "18014398509481976", "18014398509481984", false },
		{ "18014398509481976", "-8", false }, { "18014398509481976", "18446744073709551608", false },
		{ "4096,\"phys", "512,\"phys", true }, { "4096,\"phys", "1024,\"phys", false },
		{ "4096,\"phys", "511,\"phys", false }, { "4096,\"phys", "8192,\"phys", false },
		{ "8192", "4096", true }, { "8192", "2048", false }, { "8192", "6144", false }, { "8192", "1073741825", false },
		{ "info\":4", "info\":7", true }, { "info\":4", "info\":8", false }, { "31", "32", false },
		{ "max\":3", "max\":17", false }, { "max\":3", "max\":0", false },
		{ "order_max\":4", "order_max\":5", false }, { "order_max\":4", "order_max\":0", true },
		{ "indirect_max\":4096", "indirect_max\":4097", false },
		{ "indirect_max\":4096", "indirect_max\":0", true }, { "granularity\":4096", "granularity\":100", false },
		{ "alignment\":512", "alignment\":1", false },
		{ "alignment\":512", "alignment\":4294967296", false }, { 0 },
	};

	(void)state;
	try_edits(VIF_OFFER, vif_text, vif);
	try_edits(VBD_OFFER, vbd_text, vbd);
}

static void connect_from_json_checks_everything(void **state)
{
	static const struct edit vif[] = {
		{ "\"vif\"", "\"vf\"", false }, { "guest\":7", "guest\":70000", false }, { "{\"bridge\":\"b0\"}", "{}", true },
		{ "{\"bridge\":\"b0\"}", "[]", false },
		{ "{\"bridge\":\"b0\"}", "null", false }, { "\"b0\"", "1", false }, { "\"b0\"", "null", false },
		{ "\"b0\"", "{}", false }, { "config", "conf", false },
		{ "choice", "choices", false }, { "4294967295", "4294967296", false }, { "features\":3", "features\":-3", false },
		{ "ring_order\":0", "ring_order\":5", false }, { "ring_order\":0", "ring_order\":256", false },
		{ "abi\":0", "abi\":3", false },
		{ "queues\":[", "queues\":[1,", false }, { "queues\":[", "queues\":[null,", false },
		{ "queues", "queue", false }, { "tx_gref\":1", "tx_gref\":\"1\"", false },
		{ "tx_port\":3", "tx_port\":0", false }, { "rx_port\":3", "rx_port\":0", false },
		{ "rx_port\":3", "rx_port\":4294967296", false },
		{ "\"tx_gref\":1,", "", false }, { "\"tx_gref\":1", "\"tx_gref\":1,\"new\":true", true }, { 0 },
	};
	static const struct edit vbd[] = {
		{ "[8,9]", "[8]", false }, { "[8,9]", "[8,9,10]", false }, { "[8,9]", "[]", false }, { "[8,9]", "8", false },
		{ "[8,9]", "[8,-9]", false },
		{ "[8,9]", "[8,\"9\"]", false }, { "[8,9]", "[8,4294967296]", false }, { "[8,9]", "{\"0\":8,\"1\":9}", false },
		{ "order\":1", "order\":0", false }, { "order\":1", "order\":2", false }, { "port\":5", "port\":0", false },
		{ "[{\"port\":5,\"ring_gref\":[8,9]}]", "[]", false }, { "[{\"port\":5,\"ring_gref\":[8,9]}]", "{}", false },
		{ 0 },
	};
	static const struct edit vf[] = {
		{ "port\":6", "port\":0", false }, { "gref\":77", "gref\":-1", false }, { "\"gref\":77,", "", false }, { "[{", "[{\"gref\":1,\"port\":1},{", false },
		{ "\"vf\"", "\"sysctl\"", false }, { 0 },
	};

	(void)state;
	try_edits(CONNECT, vif_connect_text, vif);
	try_edits(CONNECT, vbd_connect_text, vbd);
	try_edits(CONNECT, vf_connect_text, vf);
}

static void connect_from_json_refuses_too_many(void **state)
{
	struct json_object *j = json_tokener_parse(vbd_connect_text), *queues, *config;
	struct pv_connect c;
	char why[200], key[16];

	(void)state;
	queues = json_object_object_get(json_object_object_get(j, "choice"), "queues");
	for (int i = 1; i < 16; i++)
		json_object_array_add(queues, json_object_get(json_object_array_get_idx(queues, 0)));
	assert_int_equal(pv_connect_from_json(j, &c, why, sizeof(why)), 0);
	json_object_array_add(queues, json_object_get(json_object_array_get_idx(queues, 0)));
	assert_int_equal(pv_connect_from_json(j, &c, why, sizeof(why)), -EINVAL);
	json_object_put(j);

	j = json_tokener_parse(vbd_connect_text);
	config = json_object_object_get(j, "config");
	for (int i = 0; i < 65; i++) {
		assert_int_equal(pv_connect_from_json(j, &c, why, sizeof(why)), 0);
		snprintf(key, sizeof(key), "k%d", i);
		json_object_object_add(config, key, json_object_new_string("v"));
	}
	assert_int_equal(pv_connect_from_json(j, &c, why, sizeof(why)), -EINVAL);
	json_object_put(j);
}

/* Legal messages with random changes: what is taken is within the bounds. */
static void from_json_survives_random_changes(void **state)
{
	static const char *const texts[] = { vif_connect_text, vbd_connect_text, vif_text, vbd_text };
	unsigned seed = 5, taken = 0;

	(void)state;
	for (int i = 0; i < 60000; i++) {
		enum decoder d = i % 4 < 2 ? CONNECT : i % 4 == 2 ? VIF_OFFER : VBD_OFFER;
		char text[1024], why[100];
		struct json_object *j;

		strcpy(text, texts[i % 4]);
		for (int n = 1 + rand_r(&seed) % 4; n > 0; n--)
			text[rand_r(&seed) % strlen(text)] = "0123456789{}[]\",:-e."[rand_r(&seed) % 20];
		j = json_tokener_parse(text);
		if (d == CONNECT) {
			struct pv_connect c;

			if (pv_connect_from_json(j, &c, why, sizeof(why)) == 0) {
				taken++;
				assert_in_range(c.choice.queues, 1, PV_NOXS_QUEUES_MAX);
				assert_in_range(c.choice.ring_order, 0, 4);
				assert_in_range(c.choice.abi, 0, 2);
				assert_in_range(c.id.guest, 0, 0x7fef);
			}
		} else {
			taken += decode(d, j, why, sizeof(why)) == 0;
		}
		json_object_put(j);
	}
	assert_true(taken > 1000);
}

/* ---- a backend and its pviod ---- */

static char dir[] = "/tmp/test_backend.XXXXXX", path[64];

struct told { /* what the backend was asked last, and what it shall answer */
	int prepares, connects, disconnects, removes;
	struct pv_device_id id;
	char config[100];
	struct pv_noxs_choice choice;
	int ret;
	bool breaks; /* while connecting */
	struct pv_backend *b;
};

static void note(struct told *t, const struct pv_device_id *id, struct json_object *config, char *why, size_t len)
{
	t->id = *id;
	if (config)
		snprintf(t->config, sizeof(t->config), "%s", json_object_to_json_string_ext(config, JSON_C_TO_STRING_PLAIN));
	if (t->ret)
		snprintf(why, len, "vbd %u: it went wrong; mend it", id->devid);
}

static int op_prepare(void *ctx, const struct pv_device_id *id, struct json_object *config, struct pv_noxs_offer *offer, char *why,
		      size_t len)
{
	struct told *t = ctx;

	t->prepares++;
	note(t, id, config, why, len);
	offer->vbd = vbd_offer;
	return t->ret;
}

static int op_connect(void *ctx, const struct pv_connect *c, char *why, size_t len)
{
	struct told *t = ctx;

	t->connects++;
	t->choice = c->choice;
	note(t, &c->id, c->config, why, len);
	if (t->breaks)
		pv_backend_broken(t->b, &c->id, -EPROTO, "the guest lied at once");
	return t->ret;
}

static int op_disconnect(void *ctx, const struct pv_device_id *id, char *why, size_t len)
{
	struct told *t = ctx;

	t->disconnects++;
	note(t, id, NULL, why, len);
	return t->ret;
}

static int op_remove(void *ctx, const struct pv_device_id *id, char *why, size_t len)
{
	struct told *t = ctx;

	t->removes++;
	note(t, id, NULL, why, len);
	return t->ret;
}

static struct json_object *op_stats(void *ctx, const struct pv_device_id *id)
{
	(void)ctx;
	return id->devid == 51712 ? json_tokener_parse("{\"reads\":5}") : NULL;
}

static struct json_object *op_inspect(void *ctx, const struct pv_device_id *id)
{
	(void)ctx;
	return id->devid == 51712 ? json_tokener_parse("{\"req_prod\":6}") : NULL;
}

static struct json_object *op_ask(void *ctx, const struct pv_device_id *id, const char *what, struct json_object *params, int *error,
				  char *why, size_t len)
{
	struct json_object *o;

	(void)ctx;
	if (id->devid != 51712)
		return NULL;
	if (strcmp(what, "echo")) {
		snprintf(why, len, "vbd xvda of guest 7: it understands echo, not %s", what);
		*error = -ENOTSUP;
		return NULL;
	}
	o = json_object_new_object();
	json_object_object_add(o, "params", json_object_get(params));
	return o;
}

static const struct pv_backend_ops ops = {
	.kind = "vbd", .prepare = op_prepare, .connect = op_connect, .disconnect = op_disconnect, .remove = op_remove, .stats = op_stats,
	.inspect = op_inspect, .ask = op_ask,
};

struct pviod { /* as seen by a backend: a listener, and the last connection */
	int fd;
	struct pv_rpc *rpc;
	bool refuses; /* register */
	int registers, brokens, closed;
	char params[400], broken[400];
};

static void pviod_call(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	struct pviod *p = ctx;
	bool reg = strcmp(method, "register") == 0;

	snprintf(reg ? p->params : p->broken, sizeof(p->params), "%s", json_object_to_json_string_ext(params, JSON_C_TO_STRING_PLAIN));
	p->registers += reg;
	p->brokens += strcmp(method, "broken") == 0;
	if (reg && p->refuses)
		pv_rpc_fail(rpc, id, -EEXIST, "there is one already");
	else
		pv_rpc_reply(rpc, id, NULL);
}

static void pviod_closed(void *ctx, struct pv_rpc *rpc, int err)
{
	struct pviod *p = ctx;

	(void)err;
	pv_rpc_free(rpc);
	p->rpc = NULL;
	p->closed++;
}

static const struct pv_rpc_ops pviod_ops = { pviod_call, pviod_closed };

static void pviod_start(struct pviod *p)
{
	*p = (struct pviod){ .fd = pv_rpc_listen(path) };
	assert_true(p->fd >= 0);
}

static void pviod_stop(struct pviod *p)
{
	pv_rpc_free(p->rpc);
	p->rpc = NULL;
	close(p->fd);
	p->fd = -1;
}

/* Let both work until what they wait for is there. Waits as long as the backend's back-off does. */
static void run_until(struct pv_backend *b, struct pviod *p, const int *counter, int value)
{
	while (*counter < value) {
		struct pollfd f[3] = { { .fd = pv_backend_fd(b), .events = pv_backend_events(b) }, { .fd = -1 }, { .fd = -1 } };

		int fd;

		if (p && p->fd >= 0)
			f[1] = (struct pollfd){ .fd = p->fd, .events = POLLIN };
		if (p && p->rpc)
			f[2] = (struct pollfd){ .fd = pv_rpc_fd(p->rpc), .events = pv_rpc_events(p->rpc) };
		poll(f, 3, pv_backend_timeout(b));
		pv_backend_work(b);
		if (f[1].revents) {
			pv_rpc_free(p->rpc);
			fd = accept4(p->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
			assert_int_equal(pv_rpc_new(fd, &pviod_ops, p, &p->rpc), 0);
		} else if (f[2].revents) {
			pv_rpc_work(p->rpc);
		}
	}
}

struct answer {
	int times, code;
	char message[600], result[600];
};

static void on_answer(void *arg, int code, const char *message, struct json_object *result)
{
	struct answer *a = arg;

	a->times++;
	a->code = code;
	snprintf(a->message, sizeof(a->message), "%s", message);
	snprintf(a->result, sizeof(a->result), "%s", json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN));
}

static struct answer ask(struct pv_backend *b, struct pviod *p, const char *method, const char *params)
{
	struct answer a = { 0 };

	assert_int_equal(pv_rpc_call(p->rpc, method, params ? json_tokener_parse(params) : NULL, 60000, on_answer, &a), 0);
	run_until(b, p, &a.times, 1);
	return a;
}

static struct pv_backend *start(struct told *t, struct pviod *p)
{
	struct pv_backend *b;

	*t = (struct told){ 0 };
	assert_int_equal(pv_backend_new(path, "blkback", &ops, t, &b), 0);
	t->b = b;
	pviod_start(p);
	run_until(b, p, &p->registers, 1);
	return b;
}

static void stop(struct pv_backend *b, struct pviod *p)
{
	pv_backend_free(b);
	pviod_stop(p);
}

static const char xvda[] = "{\"kind\":\"vbd\",\"guest\":7,\"devid\":51712}";
static const struct pv_device_id xvda_id = { 7, PV_NOXS_VBD, 51712 };

static void backend_registers(void **state)
{
	char want[200];
	struct pviod p;
	struct told t;
	struct pv_backend *b = start(&t, &p);

	(void)state;
	snprintf(want, sizeof(want), "{\"kind\":\"vbd\",\"name\":\"blkback\",\"pid\":%d,\"version\":\"%s\",\"domid\":0}",
		 (int)getpid(), PVIO_VERSION);
	assert_string_equal(p.params, want);
	stop(b, &p);
}

static void backend_says_its_domain(void **state)
{
	struct told t = { 0 };
	struct pv_backend *b;
	struct pviod p;

	(void)state;
	pviod_start(&p);
	assert_int_equal(pv_backend_new(path, "blkback", &ops, &t, &b), 0);
	pv_backend_domid(b, 5);
	run_until(b, &p, &p.registers, 1);
	assert_non_null(strstr(p.params, "\"domid\":5"));
	stop(b, &p);
}

static void backend_serves_calls(void **state)
{
	struct pviod p;
	struct told t;
	struct pv_backend *b = start(&t, &p);
	struct answer a;

	(void)state;
	a = ask(b, &p, "prepare", "{\"kind\":\"vbd\",\"guest\":7,\"devid\":51712,\"config\":{\"path\":\"disk.img\"}}");
	assert_int_equal(a.code, 0);
	assert_string_equal(a.result, vbd_text);
	assert_string_equal(t.config, "{\"path\":\"disk.img\"}");
	a = ask(b, &p, "connect", vbd_connect_text);
	assert_int_equal(a.code, 0);
	assert_int_equal(t.id.guest, 32751);
	assert_int_equal(t.choice.vbd[0].ring_gref[1], 9);
	assert_string_equal(ask(b, &p, "stats", xvda).result, "{\"reads\":5}");
	assert_string_equal(ask(b, &p, "inspect", xvda).result, "{\"req_prod\":6}");
	assert_int_equal(ask(b, &p, "disconnect", xvda).code, 0);
	assert_int_equal(ask(b, &p, "remove", xvda).code, 0);
	assert_memory_equal(&t.id, &xvda_id, sizeof(xvda_id));
	assert_int_equal(t.prepares, 1);
	assert_int_equal(t.connects, 1);
	assert_int_equal(t.disconnects, 1);
	assert_int_equal(t.removes, 1);
	stop(b, &p);
}

static void backend_is_asked_by_name(void **state)
{
	struct pviod p;
	struct told t;
	struct pv_backend *b = start(&t, &p);
	struct answer a;

	(void)state;
	a = ask(b, &p, "ask", "{\"kind\":\"vbd\",\"guest\":7,\"devid\":51712,\"what\":\"echo\",\"params\":{\"deep\":[1]}}");
	assert_string_equal(a.result, "{\"params\":{\"deep\":[1]}}");
	a = ask(b, &p, "ask", "{\"kind\":\"vbd\",\"guest\":7,\"devid\":51712,\"what\":\"echo\"}");
	assert_string_equal(a.result, "{\"params\":null}");
	a = ask(b, &p, "ask", "{\"kind\":\"vbd\",\"guest\":7,\"devid\":51712,\"what\":\"dance\"}");
	assert_int_equal(a.code, -ENOTSUP);
	assert_string_equal(a.message, "vbd xvda of guest 7: it understands echo, not dance");
	a = ask(b, &p, "ask", "{\"kind\":\"vbd\",\"guest\":7,\"devid\":51728,\"what\":\"echo\"}");
	assert_int_equal(a.code, -ENOENT);
	assert_string_equal(a.message, "blkback has no vbd xvdb of guest 7");
	assert_int_equal(ask(b, &p, "ask", xvda).code, PV_RPC_BAD_PARAMS); /* for what? */
	stop(b, &p);
}

static void backend_without_ask_says_so(void **state)
{
	struct pv_backend_ops silent = ops;
	struct told t = { 0 };
	struct pv_backend *b;
	struct pviod p;
	struct answer a;

	(void)state;
	silent.ask = NULL;
	assert_int_equal(pv_backend_new(path, "blkback", &silent, &t, &b), 0);
	pviod_start(&p);
	run_until(b, &p, &p.registers, 1);
	a = ask(b, &p, "ask", "{\"kind\":\"vbd\",\"guest\":7,\"devid\":51712,\"what\":\"echo\"}");
	assert_int_equal(a.code, -ENOTSUP);
	assert_string_equal(a.message, "blkback cannot be asked for echo");
	stop(b, &p);
}

static void backend_answers_failures_with_words(void **state)
{
	static const char *const methods[] = { "prepare", "connect", "disconnect", "remove" };
	struct pviod p;
	struct told t;
	struct pv_backend *b = start(&t, &p);
	struct answer a;

	(void)state;
	t.ret = -ENOSPC;
	for (int i = 0; i < 4; i++) {
		a = ask(b, &p, methods[i], vbd_connect_text);
		assert_int_equal(a.code, -ENOSPC);
		assert_string_equal(a.message, "vbd 51712: it went wrong; mend it");
	}
	a = ask(b, &p, "stats", "{\"kind\":\"vbd\",\"guest\":7,\"devid\":51728}");
	assert_int_equal(a.code, -ENOENT);
	assert_string_equal(a.message, "blkback has no vbd xvdb of guest 7");
	stop(b, &p);
}

static void backend_refuses_what_it_cannot_be_asked(void **state)
{
	struct pviod p;
	struct told t;
	struct pv_backend *b = start(&t, &p);

	(void)state;
	assert_int_equal(ask(b, &p, "explode", xvda).code, PV_RPC_NO_METHOD);
	assert_int_equal(ask(b, &p, "stats", NULL).code, PV_RPC_BAD_PARAMS);
	assert_int_equal(ask(b, &p, "stats", "{\"kind\":\"vif\",\"guest\":7,\"devid\":0}").code, PV_RPC_BAD_PARAMS);
	assert_int_equal(ask(b, &p, "disconnect", "[]").code, PV_RPC_BAD_PARAMS);
	assert_int_equal(ask(b, &p, "prepare", xvda).code, PV_RPC_BAD_PARAMS); /* no config */
	assert_int_equal(ask(b, &p, "connect", xvda).code, PV_RPC_BAD_PARAMS);
	assert_int_equal(t.prepares + t.connects + t.disconnects + t.removes, 0);
	assert_int_equal(p.closed, 0);
	stop(b, &p);
}

static void broken_is_told_once_a_connection(void **state)
{
	struct pviod p;
	struct told t;
	struct pv_backend *b = start(&t, &p);

	(void)state;
	pv_backend_broken(b, &xvda_id, -EPROTO, "vbd xvda of guest 7: impossible index");
	pv_backend_broken(b, &xvda_id, -EIO, "again");
	run_until(b, &p, &p.brokens, 1);
	assert_string_equal(p.broken, "{\"kind\":\"vbd\",\"guest\":7,\"devid\":51712,\"error\":-71,\"why\":\"vbd xvda of guest 7: impossible index\"}");
	assert_int_equal(ask(b, &p, "stats", xvda).code, 0);
	assert_int_equal(p.brokens, 1);
	assert_int_equal(ask(b, &p, "disconnect", xvda).code, 0); /* that connection is over */
	pv_backend_broken(b, &xvda_id, -EIO, "the next one");
	run_until(b, &p, &p.brokens, 2);
	stop(b, &p);
}

static void broken_while_connecting_is_told(void **state)
{
	struct pviod p;
	struct told t;
	struct pv_backend *b = start(&t, &p);

	(void)state;
	t.breaks = true;
	assert_int_equal(ask(b, &p, "connect", vbd_connect_text).code, 0);
	assert_int_equal(ask(b, &p, "connect", vbd_connect_text).code, 0);
	run_until(b, &p, &p.brokens, 2);
	stop(b, &p);
}

static void broken_waits_for_pviod_and_is_told_to_a_new_one(void **state)
{
	struct pviod p;
	struct told t;
	struct pv_backend *b = start(&t, &p);

	(void)state;
	pviod_stop(&p);
	pv_backend_work(b); /* sees it */
	pv_backend_broken(b, &xvda_id, -EIO, "while nobody listened");
	pviod_start(&p);
	run_until(b, &p, &p.brokens, 1);
	assert_int_equal(p.registers, 1);
	pviod_stop(&p);
	pviod_start(&p);
	run_until(b, &p, &p.brokens, 1);
	stop(b, &p);
}

static void backend_comes_back_later_each_time(void **state)
{
	struct told t = { 0 };
	struct pv_backend *b;
	int most[] = { 50, 100, 200, 400, 800, 1000, 1000 };

	(void)state;
	unlink(path);
	assert_int_equal(pv_backend_new(path, "blkback", &ops, &t, &b), 0);
	assert_int_equal(pv_backend_timeout(b), 0);
	for (unsigned i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
		while (pv_backend_timeout(b) > 0)
			poll(NULL, 0, pv_backend_timeout(b));
		pv_backend_work(b);
		assert_int_equal(pv_backend_fd(b), -1);
		assert_int_equal(pv_backend_events(b), 0);
		assert_in_range(pv_backend_timeout(b), 0, most[i]);
	}
	pv_backend_free(b);
	pv_backend_free(NULL);
}

static void backend_that_is_refused_tries_again(void **state)
{
	struct told t = { 0 };
	struct pv_backend *b;
	struct pviod p;

	(void)state;
	pviod_start(&p);
	p.refuses = true;
	assert_int_equal(pv_backend_new(path, "blkback", &ops, &t, &b), 0);
	run_until(b, &p, &p.registers, 3);
	pv_backend_broken(b, &xvda_id, -EIO, "not before it is registered");
	p.refuses = false;
	run_until(b, &p, &p.brokens, 1);
	assert_int_equal(p.registers, 4);
	stop(b, &p);
}

static void backend_new_refuses_long_names(void **state)
{
	char longer[200];
	struct pv_backend *b;

	(void)state;
	memset(longer, 'x', sizeof(longer));
	longer[150] = 0;
	assert_int_equal(pv_backend_new(longer, "b", &ops, NULL, &b), -ENAMETOOLONG);
	assert_int_equal(pv_backend_new(path, longer, &ops, NULL, &b), -ENAMETOOLONG);
	assert_null(b);
}

static int dir_make(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/pviod.sock", dir);
	return 0;
}

static int dir_remove(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(devid_of_knows_disks),
		cmocka_unit_test(devid_of_refuses_what_is_no_name),
		cmocka_unit_test(devid_name_leads_back),
		cmocka_unit_test(types_have_names),
		cmocka_unit_test(offer_survives_the_journey),
		cmocka_unit_test(connect_survives_the_journey),
		cmocka_unit_test(connect_has_a_configuration_even_without_one),
		cmocka_unit_test(full_vbd_choice_survives_the_journey),
		cmocka_unit_test(device_id_from_json_checks_everything),
		cmocka_unit_test(offer_from_json_checks_everything),
		cmocka_unit_test(connect_from_json_checks_everything),
		cmocka_unit_test(connect_from_json_refuses_too_many),
		cmocka_unit_test(from_json_survives_random_changes),
		cmocka_unit_test(backend_registers),
		cmocka_unit_test(backend_says_its_domain),
		cmocka_unit_test(backend_serves_calls),
		cmocka_unit_test(backend_is_asked_by_name),
		cmocka_unit_test(backend_without_ask_says_so),
		cmocka_unit_test(backend_answers_failures_with_words),
		cmocka_unit_test(backend_refuses_what_it_cannot_be_asked),
		cmocka_unit_test(broken_is_told_once_a_connection),
		cmocka_unit_test(broken_while_connecting_is_told),
		cmocka_unit_test(broken_waits_for_pviod_and_is_told_to_a_new_one),
		cmocka_unit_test(backend_comes_back_later_each_time),
		cmocka_unit_test(backend_that_is_refused_tries_again),
		cmocka_unit_test(backend_new_refuses_long_names),
	};

	return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
