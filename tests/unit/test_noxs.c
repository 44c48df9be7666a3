/* test_noxs.c - the pages: layout as in NOXS.md, round trips, every bound, and both ends at once. Run from the top folder. */
#include <errno.h>
#include <pthread.h>
#include <pvio/noxs.h>
#include <pvio/pipe.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

static struct pv_noxs_device_page device __attribute__((aligned(4096)));
static struct pv_noxs_control_page control __attribute__((aligned(4096)));
static uint8_t store_page[4096] __attribute__((aligned(4096)));

/* ---- layout: the tables of NOXS.md are the header's structs ---- */

static const struct layout {
	const char *table, *field;
	size_t offset, size;
} layouts[] = {
#define F(type, field) { #type, #field, offsetof(struct type, field), sizeof(((struct type *)0)->field) }
	F(pv_noxs_pointer, magic), F(pv_noxs_pointer, version), F(pv_noxs_pointer, generation), F(pv_noxs_pointer, gref),
	F(pv_noxs_pointer, port),
	F(pv_noxs_device_page, magic), F(pv_noxs_device_page, version), F(pv_noxs_device_page, generation),
	F(pv_noxs_device_page, domid), F(pv_noxs_device_page, next_gref), F(pv_noxs_device_page, reserved),
	F(pv_noxs_device_page, entries),
	F(pv_noxs_entry, type), F(pv_noxs_entry, state), F(pv_noxs_entry, backend_domid), F(pv_noxs_entry, reserved0),
	F(pv_noxs_entry, devid), F(pv_noxs_entry, control_gref), F(pv_noxs_entry, port), F(pv_noxs_entry, generation),
	F(pv_noxs_entry, reserved1),
	F(pv_noxs_offer, magic), F(pv_noxs_offer, version), F(pv_noxs_offer, generation), F(pv_noxs_offer, state),
	F(pv_noxs_offer, type), F(pv_noxs_offer, reserved0), F(pv_noxs_offer, error), F(pv_noxs_offer, reserved),
	F(pv_noxs_offer, bytes),
	F(pv_noxs_vif_offer, mac), F(pv_noxs_vif_offer, queues_max), F(pv_noxs_vif_offer, mtu), F(pv_noxs_vif_offer, features),
	F(pv_noxs_vif_offer, carrier), F(pv_noxs_vif_offer, untrusted), F(pv_noxs_vif_offer, pair),
	F(pv_noxs_vbd_offer, sectors), F(pv_noxs_vbd_offer, sector_size), F(pv_noxs_vbd_offer, physical_sector_size),
	F(pv_noxs_vbd_offer, info), F(pv_noxs_vbd_offer, features), F(pv_noxs_vbd_offer, queues_max),
	F(pv_noxs_vbd_offer, ring_order_max), F(pv_noxs_vbd_offer, indirect_max), F(pv_noxs_vbd_offer, discard_granularity),
	F(pv_noxs_vbd_offer, discard_alignment),
	F(pv_noxs_choice, magic), F(pv_noxs_choice, version), F(pv_noxs_choice, generation), F(pv_noxs_choice, state),
	F(pv_noxs_choice, alive), F(pv_noxs_choice, ring_order), F(pv_noxs_choice, abi), F(pv_noxs_choice, reserved0),
	F(pv_noxs_choice, queues), F(pv_noxs_choice, reserved1), F(pv_noxs_choice, features), F(pv_noxs_choice, ctrl_gref),
	F(pv_noxs_choice, ctrl_port), F(pv_noxs_choice, headroom), F(pv_noxs_choice, pair), F(pv_noxs_choice, reserved),
	F(pv_noxs_choice, bytes),
	F(pv_noxs_vif_queue, tx_gref), F(pv_noxs_vif_queue, rx_gref), F(pv_noxs_vif_queue, tx_port), F(pv_noxs_vif_queue, rx_port),
	F(pv_noxs_vbd_queue, ring_gref), F(pv_noxs_vbd_queue, port), F(pv_noxs_vbd_queue, reserved),
	F(pv_noxs_vf_offer, functions),
	F(pv_noxs_vf_queue, gref), F(pv_noxs_vf_queue, port), F(pv_noxs_vf_queue, reserved),
	F(pv_noxs_pipe_offer, version),
	F(pv_noxs_pipe_queue, gref), F(pv_noxs_pipe_queue, port), F(pv_noxs_pipe_queue, reserved),
	F(pv_pipe_page, guest), F(pv_pipe_page, dom0), F(pv_pipe_page, reserved), F(pv_pipe_page, up), F(pv_pipe_page, down),
	F(pv_pipe_line, put), F(pv_pipe_line, taken), F(pv_pipe_line, put_event), F(pv_pipe_line, taken_event),
	F(pv_pipe_line, alive), F(pv_pipe_line, reserved),
#undef F
};

enum { NR_LAYOUTS = sizeof(layouts) / sizeof(layouts[0]) };

/* Tables stand below a heading that ends in `struct name`; their rows begin "| offset | size | `field` |". */
static void layout_is_that_of_noxs_md(void **state)
{
	char line[512], table[64] = "", field[64], type[64];
	bool seen[NR_LAYOUTS] = { false };
	unsigned offset, size, row = 0;
	FILE *md = fopen("rings/NOXS.md", "r");

	(void)state;
	assert_non_null(md);
	while (fgets(line, sizeof(line), md)) {
		const char *heading = line[0] == '#' ? strstr(line, "`struct ") : NULL;
		unsigned i;

		if (line[0] == '#')
			table[0] = 0;
		if (heading && sscanf(heading, "`struct %63[a-z_0-9]`", type) == 1)
			strcpy(table, type);
		if (!table[0] || sscanf(line, "| %u | %u | `%63[a-z_0-9]` |", &offset, &size, field) != 3)
			continue;
		row++;
		for (i = 0; i < NR_LAYOUTS && (strcmp(layouts[i].table, table) || strcmp(layouts[i].field, field)); i++)
			;
		if (i == NR_LAYOUTS)
			fail_msg("NOXS.md: %s has no field %s", table, field);
		if (layouts[i].offset != offset || layouts[i].size != size)
			fail_msg("NOXS.md: %s.%s is at %zu, %zu bytes", table, field, layouts[i].offset, layouts[i].size);
		seen[i] = true;
	}
	fclose(md);
	for (unsigned i = 0; i < NR_LAYOUTS; i++)
		if (!seen[i])
			fail_msg("NOXS.md: %s.%s is missing", layouts[i].table, layouts[i].field);
	assert_int_equal(row, NR_LAYOUTS);
}

static void constants_are_those_of_the_specification(void **state)
{
	(void)state;
	assert_int_equal(PV_NOXS_POINTER_OFFSET, 2560);
	assert_int_equal(PV_NOXS_CHOICE_OFFSET, offsetof(struct pv_noxs_control_page, choice));
	assert_int_equal(PV_NOXS_CHOICE_OFFSET + offsetof(struct pv_noxs_choice, alive), 2064);
	assert_int_equal(sizeof(struct pv_noxs_pointer), 20);
	assert_int_equal(sizeof(struct pv_noxs_vif_queue), 16);
	assert_int_equal(sizeof(struct pv_noxs_vbd_queue), 80);
	assert_int_equal(sizeof(struct pv_noxs_vf_queue), 16);
	assert_int_equal(sizeof(struct pv_noxs_pipe_queue), 16);
	assert_int_equal(offsetof(struct pv_noxs_offer, vf), 64);
	assert_int_equal(offsetof(struct pv_noxs_choice, vf), 64);
	assert_int_equal(PV_PIPE_NOTICE_OFFSET, 80);
	assert_int_equal(offsetof(struct pv_noxs_offer, pipe), 64);
	assert_int_equal(offsetof(struct pv_noxs_choice, pipe), 64);
	assert_int_equal(offsetof(struct pv_noxs_offer, vif), 64);
	assert_int_equal(offsetof(struct pv_noxs_offer, vbd), 64);
	assert_int_equal(offsetof(struct pv_noxs_choice, vif), 64);
	assert_int_equal(offsetof(struct pv_noxs_choice, vbd), 64);
	assert_memory_equal(&(uint32_t){ PV_NOXS_MAGIC }, "noxs", 4);
}

/* The worked example of NOXS.md, byte by byte: lines "OFFSET  xx xx ..." in the block below the heading `example`. */
static void read_example(const char *title, uint8_t *page)
{
	FILE *md = fopen("rings/NOXS.md", "r");
	bool in = false;
	unsigned lines = 0;
	char line[512];

	assert_non_null(md);
	memset(page, 0, 4096);
	while (fgets(line, sizeof(line), md)) {
		unsigned at;
		int used;
		char *s = line;

		if (line[0] == '#')
			in = strstr(line, title) != NULL;
		if (!in || sscanf(line, "    %4x:%n", &at, &used) != 1)
			continue;
		lines++;
		for (s += used; *s == ' ' && s[1] != ' ' && s[1] != '\n'; s += 3) {
			assert_in_range(at, 0, 4095);
			page[at++] = (uint8_t)strtoul(s, NULL, 16);
		}
	}
	fclose(md);
	assert_true(lines > 0);
}

static const struct pv_noxs_entry example_entry = {
	.type = PV_NOXS_VIF, .state = XenbusStateConnected, .backend_domid = 0, .devid = 0, .control_gref = 0x12, .port = 0x21,
	.generation = 1,
};

static const struct pv_noxs_offer example_offer = {
	.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 1, .state = XenbusStateConnected, .type = PV_NOXS_VIF,
	.vif = { .mac = { 0x00, 0x16, 0x3e, 0x5e, 0x6c, 0x01 }, .queues_max = 2, .mtu = 1500,
		 .features = PV_VIF_SG | PV_VIF_CSUM_IPV4 | PV_VIF_CSUM_IPV6 | PV_VIF_GSO_TCPV4, .carrier = 1 },
};

static const struct pv_noxs_choice example_choice = {
	.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 1, .state = XenbusStateConnected, .alive = 1, .queues = 2,
	.features = PV_VIF_SG | PV_VIF_CSUM_IPV4,
	.vif = { { 0x301, 0x302, 0x41, 0x42 }, { 0x303, 0x304, 0x43, 0x43 } },
};

static void device_write_gives_the_example(void **state)
{
	uint8_t page[4096];

	(void)state;
	pv_noxs_device_init(&device, 7);
	pv_noxs_device_write(&device, 0, &example_entry);
	pv_noxs_device_write(&device, 0, &example_entry);
	read_example("Example: the device page", page);
	assert_memory_equal(&device, page, 4096);
}

static void offer_and_choice_write_give_the_example(void **state)
{
	uint8_t page[4096];
	const char *why;

	(void)state;
	memset(&control, 0, sizeof(control));
	pv_noxs_offer_write(&control, &example_offer);
	pv_noxs_choice_write(&control, &example_choice);
	read_example("Example: the control page", page);
	assert_memory_equal(&control, page, 4096);
	assert_int_equal(pv_noxs_choice_check(&example_choice, &example_offer, &why), 0);
	assert_null(why);
}

/* ---- pointer ---- */

static void pointer_read_gives_what_was_written(void **state)
{
	const struct pv_noxs_pointer p = { PV_NOXS_MAGIC, PV_NOXS_VERSION, 3, 8, 5 };
	struct pv_noxs_pointer got;

	(void)state;
	memset(store_page, 0xff, sizeof(store_page));
	assert_int_equal(pv_noxs_pointer_read(store_page, &got), -ENOENT);
	pv_noxs_pointer_write(store_page, &p);
	assert_int_equal(pv_noxs_pointer_read(store_page, &got), 0);
	assert_memory_equal(&got, &p, sizeof(p));
	for (unsigned i = 0; i < sizeof(store_page); i++) /* the ring of the store and everything else is left alone */
		if (i < PV_NOXS_POINTER_OFFSET || i >= PV_NOXS_POINTER_OFFSET + sizeof(p))
			assert_int_equal(store_page[i], 0xff);
}

static void pointer_read_refuses_unknown_versions(void **state)
{
	struct pv_noxs_pointer p = { PV_NOXS_MAGIC, PV_NOXS_VERSION + 1, 3, 8, 5 };

	(void)state;
	pv_noxs_pointer_write(store_page, &p);
	assert_int_equal(pv_noxs_pointer_read(store_page, &p), -EPROTO);
}

static void pointer_format_gives_the_node(void **state)
{
	const struct pv_noxs_pointer p = { PV_NOXS_MAGIC, PV_NOXS_VERSION, 3, 18, 33 }, longest = { ~0u, ~0u, ~0u, ~0u, ~0u };
	char text[PV_NOXS_POINTER_TEXT];

	(void)state;
	assert_int_equal(pv_noxs_pointer_format(&p, text, sizeof(text)), 9);
	assert_string_equal(text, "1 3 18 33"); /* the example of NOXS.md */
	assert_int_equal(pv_noxs_pointer_format(&p, text, 10), 9);
	assert_int_equal(pv_noxs_pointer_format(&p, text, 9), -ENOSPC);
	assert_int_equal(pv_noxs_pointer_format(&longest, text, sizeof(text)), PV_NOXS_POINTER_TEXT - 1);
}

static void pointer_parse_takes_what_format_gives(void **state)
{
	const struct pv_noxs_pointer all[] = { { PV_NOXS_MAGIC, PV_NOXS_VERSION, 3, 18, 33 },
					       { PV_NOXS_MAGIC, PV_NOXS_VERSION, ~0u, 0, ~0u } };
	char text[PV_NOXS_POINTER_TEXT];
	struct pv_noxs_pointer got;

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int n = pv_noxs_pointer_format(&all[i], text, sizeof(text));

		text[n] = '7'; /* what is behind its length does not count */
		assert_int_equal(pv_noxs_pointer_parse(text, n, &got), 0);
		assert_memory_equal(&got, &all[i], sizeof(got));
	}
}

static void pointer_parse_is_strict(void **state)
{
	static const char *const bad[] = { "1", "1 ", "1 2 3", "1 2 3 ", "1 2 3 4 ", " 1 2 3 4", "1  2 3 4", "1 2 3 4 5", "1 2 3 4\n", "1\t2\t3\t4",
					   "1,2,3,4", "1 -2 3 4", "1 +2 3 4", "1 02 3 4", "1 0x2 3 4", "1 2 3 4294967296",
					   "1 2 3 99999999999999999999", "0 2 3 4", "2 2 3 4", "01 2 3 4", "noxs", "1 2 3 four", " " };
	struct pv_noxs_pointer got;

	(void)state;
	assert_int_equal(pv_noxs_pointer_parse("", 0, &got), -ENOENT);
	assert_int_equal(pv_noxs_pointer_parse("1 2 3 4", 8, &got), -EPROTO); /* its NUL is not part of it */
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (pv_noxs_pointer_parse(bad[i], strlen(bad[i]), &got) != -EPROTO)
			fail_msg("'%s' was taken", bad[i]);
}

static void hint_parse_finds_its_word(void **state)
{
	static const char *const none[] = { "", "\n", "quiet ro", "xnoxs=1,2", "noxs", "noxs 1,2" };
	static const char *const bad[] = { "noxs=", "noxs=1", "noxs=1,", "noxs=,2", "noxs=1,2,3", "noxs=1, 2", "noxs=-1,2", "noxs=1,2x",
					   "noxs=4294967296,2", "noxs=x noxs=1,2" };
	const struct pv_noxs_pointer want = { PV_NOXS_MAGIC, PV_NOXS_VERSION, 0, 18, 33 };
	struct pv_noxs_pointer got;

	(void)state;
	assert_int_equal(pv_noxs_hint_parse("console=hvc0 noxs=18,33 quiet\n", &got), 0);
	assert_memory_equal(&got, &want, sizeof(got));
	assert_int_equal(pv_noxs_hint_parse("noxs=18,33\n", &got), 0);
	assert_int_equal(pv_noxs_hint_parse("  a noxs=18,33 noxs=1,2", &got), 0);
	assert_memory_equal(&got, &want, sizeof(got));
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_int_equal(pv_noxs_hint_parse(none[i], &got), -ENOENT);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (pv_noxs_hint_parse(bad[i], &got) != -EPROTO)
			fail_msg("'%s' was taken", bad[i]);
}

/* ---- device page ---- */

static const struct pv_noxs_entry vif3 = {
	.type = PV_NOXS_VIF, .state = XenbusStateInitWait, .devid = 3, .control_gref = 9, .port = 4, .generation = 1,
};

static void device_read_gives_what_was_written(void **state)
{
	const struct pv_noxs_entry hole = { 0 };
	struct pv_noxs_device_page got;

	(void)state;
	pv_noxs_device_init(&device, 7);
	assert_int_equal(pv_noxs_device_read(&device, &got), 0);
	assert_int_equal(got.domid, 7);
	assert_int_equal(pv_noxs_device_find(&got, PV_NOXS_VIF, 3), -ENOENT);
	pv_noxs_device_write(&device, PV_NOXS_ENTRIES - 1, &vif3);
	pv_noxs_device_link(&device, 77);
	assert_int_equal(pv_noxs_device_read(&device, &got), 0);
	assert_int_equal(got.next_gref, 77);
	assert_int_equal(got.generation, 4);
	assert_int_equal(pv_noxs_device_find(&got, PV_NOXS_VIF, 3), PV_NOXS_ENTRIES - 1);
	assert_int_equal(pv_noxs_device_find(&got, PV_NOXS_VBD, 3), -ENOENT);
	assert_memory_equal(&got.entries[PV_NOXS_ENTRIES - 1], &vif3, sizeof(vif3));
	pv_noxs_device_write(&device, PV_NOXS_ENTRIES - 1, &hole);
	assert_int_equal(pv_noxs_device_read(&device, &got), 0);
	assert_int_equal(pv_noxs_device_find(&got, PV_NOXS_VIF, 3), -ENOENT);
}

/* The list of 2017: removing one device wiped those of the same type or id, and holes ended the search. */
static void device_write_of_a_hole_leaves_the_others(void **state)
{
	const struct pv_noxs_entry hole = { 0 };
	struct pv_noxs_device_page got;
	struct pv_noxs_entry e = vif3;

	(void)state;
	pv_noxs_device_init(&device, 7);
	for (unsigned i = 0; i < PV_NOXS_ENTRIES; i++) {
		e.type = i & 1 ? PV_NOXS_VIF : PV_NOXS_VBD;
		e.devid = i / 2;
		pv_noxs_device_write(&device, i, &e);
	}
	for (unsigned i = 0; i < PV_NOXS_ENTRIES; i += 3)
		pv_noxs_device_write(&device, i, &hole);
	assert_int_equal(pv_noxs_device_read(&device, &got), 0);
	for (unsigned i = 0; i < PV_NOXS_ENTRIES; i++)
		assert_int_equal(pv_noxs_device_find(&got, i & 1 ? PV_NOXS_VIF : PV_NOXS_VBD, i / 2), i % 3 ? (int)i : -ENOENT);
}

static void device_read_gives_up_on_a_page_that_stays_odd(void **state)
{
	struct pv_noxs_device_page got;

	(void)state;
	pv_noxs_device_init(&device, 7);
	device.generation = 5;
	assert_int_equal(pv_noxs_device_read(&device, &got), -EAGAIN);
}

static void device_read_refuses_what_is_no_device_page(void **state)
{
	struct pv_noxs_device_page got;

	(void)state;
	memset(&device, 0, sizeof(device));
	assert_int_equal(pv_noxs_device_read(&device, &got), -EPROTO);
	pv_noxs_device_init(&device, 7);
	device.version = 2;
	assert_int_equal(pv_noxs_device_read(&device, &got), -EPROTO);
	pv_noxs_device_init(&device, 7);
	device.magic++;
	assert_int_equal(pv_noxs_device_read(&device, &got), -EPROTO);
}

/* ---- offer ---- */

static const struct pv_noxs_offer vbd_offer = {
	.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 2, .state = XenbusStateInitWait, .type = PV_NOXS_VBD,
	.vbd = { .sectors = 2048, .sector_size = 512, .physical_sector_size = 4096, .info = 4,
		 .features = PV_VBD_FLUSH | PV_VBD_DISCARD | PV_VBD_PERSISTENT, .queues_max = 4, .ring_order_max = 3,
		 .indirect_max = 256, .discard_granularity = 4096, .discard_alignment = 512 },
};

static struct pv_noxs_offer vif_offer_of(enum xenbus_state backend)
{
	struct pv_noxs_offer o = example_offer;

	o.state = backend;
	return o;
}

static void offer_read_gives_what_was_written(void **state)
{
	struct pv_noxs_offer vif = vif_offer_of(XenbusStateInitWait), got;

	(void)state;
	pv_noxs_offer_write(&control, &vif);
	assert_int_equal(pv_noxs_offer_read(&control, PV_NOXS_VIF, &got), 0);
	assert_memory_equal(&got, &vif, sizeof(got));
	pv_noxs_offer_write(&control, &vbd_offer);
	assert_int_equal(pv_noxs_offer_read(&control, PV_NOXS_VBD, &got), 0);
	assert_memory_equal(&got, &vbd_offer, sizeof(got));
	assert_int_equal(pv_noxs_offer_read(&control, PV_NOXS_VIF, &got), -EPROTO);
}

static void offer_read_waits_for_an_offer_that_is_being_written(void **state)
{
	struct pv_noxs_offer got;

	(void)state;
	pv_noxs_offer_write(&control, &vbd_offer);
	control.offer.state = XenbusStateInitialising;
	assert_int_equal(pv_noxs_offer_read(&control, PV_NOXS_VBD, &got), -EAGAIN);
}

static void offer_read_shows_no_offer_when_closed(void **state)
{
	struct pv_noxs_offer got;

	(void)state;
	pv_noxs_offer_write(&control, &vbd_offer);
	control.offer.vbd.sector_size = 1;
	for (enum xenbus_state s = XenbusStateUnknown; s <= XenbusStateReconfigured; s++) {
		pv_noxs_backend_state(&control, s, -EIO);
		if (s == XenbusStateInitialising)
			continue;
		if (s == XenbusStateInitWait || s == XenbusStateInitialised || s == XenbusStateConnected) {
			assert_int_equal(pv_noxs_offer_read(&control, PV_NOXS_VBD, &got), -EPROTO);
			continue;
		}
		assert_int_equal(pv_noxs_offer_read(&control, PV_NOXS_VBD, &got), 0);
		assert_int_equal(got.state, s);
		assert_int_equal(got.error, -EIO);
		assert_int_equal(got.vbd.sector_size, 0);
	}
}

static void backend_state_is_read_as_written(void **state)
{
	(void)state;
	pv_noxs_offer_write(&control, &vbd_offer);
	assert_int_equal(pv_noxs_backend_state_read(&control), XenbusStateInitWait);
	pv_noxs_backend_state(&control, XenbusStateClosed, -ENOSPC);
	assert_int_equal(pv_noxs_backend_state_read(&control), XenbusStateClosed);
	assert_int_equal(control.offer.error, -ENOSPC);
	control.offer.state = 9; /* not XenBus' */
	assert_int_equal(pv_noxs_backend_state_read(&control), XenbusStateUnknown);
	control.offer.state = UINT32_MAX;
	assert_int_equal(pv_noxs_backend_state_read(&control), XenbusStateUnknown);
}

/* One field of the page, what a hostile backend's side writes there, and what is read: a value, or -EPROTO. */
struct offer_case {
	const char *name;
	enum pv_noxs_type type;
	size_t offset, size;
	uint64_t value;
	int64_t want;
};

#define WHERE(half, field) offsetof(struct half, field), sizeof(((struct half *)0)->field)
#define O(type, field, value, want) { #field " = " #value, type, WHERE(pv_noxs_offer, field), value, want }
#define VIF(field, value, want) O(PV_NOXS_VIF, field, value, want)
#define VBD(field, value, want) O(PV_NOXS_VBD, field, value, want)
static const struct offer_case offer_cases[] = {
	VIF(magic, 0, -EPROTO), VIF(version, 0, -EPROTO), VIF(version, 2, -EPROTO), VIF(type, PV_NOXS_VBD, -EPROTO),
	VIF(type, 99, -EPROTO),
	VIF(error, 1, -EIO), VIF(error, INT32_MIN, -EIO), VIF(error, -4096, -EIO), VIF(error, -4095, -4095), VIF(error, 0, 0),
	VIF(vif.queues_max, 0, -EPROTO), VIF(vif.queues_max, 16, 16), VIF(vif.queues_max, 17, 16), VIF(vif.queues_max, 65535, 16),
	VIF(vif.mtu, 67, -EPROTO), VIF(vif.mtu, 68, 68), VIF(vif.mtu, 65521, 65521), VIF(vif.mtu, 65522, 65521),
	VIF(vif.mtu, UINT32_MAX, 65521),
	VIF(vif.features, UINT32_MAX, 511), VIF(vif.untrusted, 9, 1), VIF(vif.carrier, 0, 0), VIF(vif.carrier, 7, 1), VIF(vif.mac, 1, -EPROTO),
	VIF(vif.pair, 1, 1), VIF(vif.pair, 2, 2), VIF(vif.pair, 3, 0), VIF(vif.pair, UINT32_MAX, 0),
	VBD(vbd.sectors, 0, 0), VBD(vbd.sectors, INT64_MAX / 512, INT64_MAX / 512),
	VBD(vbd.sectors, INT64_MAX / 512 + 1, -EPROTO),
	VBD(vbd.sectors, UINT64_MAX, -EPROTO),
	VBD(vbd.sector_size, 0, -EPROTO), VBD(vbd.sector_size, 513, -EPROTO), VBD(vbd.sector_size, 1024, -EPROTO),
	VBD(vbd.sector_size, 4096, 4096), VBD(vbd.sector_size, 8192, -EPROTO),
	VBD(vbd.physical_sector_size, 0, 512), VBD(vbd.physical_sector_size, 256, -EPROTO),
	VBD(vbd.physical_sector_size, 513, -EPROTO),
	VBD(vbd.physical_sector_size, 1 << 20, 1 << 20), VBD(vbd.info, UINT32_MAX, 7), VBD(vbd.features, UINT32_MAX, 31),
	VBD(vbd.queues_max, 0, -EPROTO), VBD(vbd.queues_max, 17, 16), VBD(vbd.ring_order_max, 4, 4),
	VBD(vbd.ring_order_max, 5, 4),
	VBD(vbd.ring_order_max, 65535, 4), VBD(vbd.indirect_max, 4096, 4096), VBD(vbd.indirect_max, 4097, 4096),
	VBD(vbd.discard_granularity, 511, -EPROTO), VBD(vbd.discard_alignment, 100, -EPROTO),
};

static void offer_read_checks_each_field(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(offer_cases) / sizeof(offer_cases[0]); i++) {
		const struct offer_case *c = &offer_cases[i];
		struct pv_noxs_offer o = c->type == PV_NOXS_VIF ? vif_offer_of(XenbusStateConnected) : vbd_offer, got;
		int64_t value = 0;
		int ret;

		memcpy((char *)&o + c->offset, &c->value, c->size < 8 ? c->size : 8);
		memcpy(&control.offer, &o, sizeof(o));
		ret = pv_noxs_offer_read(&control, c->type, &got);
		memcpy(&value, (char *)&got + c->offset, c->size < 8 ? c->size : 8);
		if (c->offset == offsetof(struct pv_noxs_offer, error))
			value = (int32_t)value;
		if (c->want == -EPROTO ? ret != -EPROTO : ret != 0 || value != c->want)
			fail_msg("%s: returned %d, value %lld", c->name, ret, (long long)value);
	}
}

static void offer_read_refuses_half_a_sector(void **state)
{
	struct pv_noxs_offer o = vbd_offer;

	(void)state;
	o.vbd.sector_size = 4096;
	o.vbd.sectors = 2049;
	pv_noxs_offer_write(&control, &o);
	assert_int_equal(pv_noxs_offer_read(&control, PV_NOXS_VBD, &o), -EPROTO);
}

static const struct pv_noxs_offer vf_offer = {
	.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 2, .state = XenbusStateInitWait, .type = PV_NOXS_VF,
	.vf = { .functions = PV_NOXS_VFS_MAX },
};

static void offer_read_of_a_vf_bounds_its_functions(void **state)
{
	struct pv_noxs_offer o = vf_offer, got;

	(void)state;
	pv_noxs_offer_write(&control, &o);
	assert_int_equal(pv_noxs_offer_read(&control, PV_NOXS_VF, &got), 0);
	assert_int_equal(got.vf.functions, PV_NOXS_VFS_MAX);
	for (o.vf.functions = 0; o.vf.functions <= PV_NOXS_VFS_MAX + 1; o.vf.functions += PV_NOXS_VFS_MAX + 1) {
		pv_noxs_offer_write(&control, &o);
		assert_int_equal(pv_noxs_offer_read(&control, PV_NOXS_VF, &got), -EPROTO);
	}
}

static const struct pv_noxs_offer pipe_offer = {
	.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 2, .state = XenbusStateInitWait, .type = PV_NOXS_PIPE,
	.pipe = { .version = PV_NOXS_PIPE_VERSION },
};

static void offer_read_refuses_a_pipe_of_another_version(void **state)
{
	struct pv_noxs_offer o = pipe_offer, got;

	(void)state;
	pv_noxs_offer_write(&control, &o);
	assert_int_equal(pv_noxs_offer_read(&control, PV_NOXS_PIPE, &got), 0);
	assert_memory_equal(&got, &o, sizeof(got));
	assert_int_equal(pv_noxs_offer_read(&control, PV_NOXS_VBD, &got), -EPROTO);
	o.pipe.version++;
	pv_noxs_offer_write(&control, &o);
	assert_int_equal(pv_noxs_offer_read(&control, PV_NOXS_PIPE, &got), -EPROTO);
}

/* ---- choice ---- */

static const struct pv_noxs_choice vbd_choice = {
	.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 2, .state = XenbusStateInitialised, .alive = 1, .ring_order = 3,
	.abi = PV_VBD_ABI_X86_64, .queues = 2, .features = PV_VBD_FLUSH,
	.vbd = { { .ring_gref = { 1, 2, 3, 4, 5, 6, 7, 8 }, .port = 9 }, { .ring_gref = { 11, 12, 13, 14, 15, 16, 17, 18 }, .port = 19 } },
};

static void choice_read_gives_what_was_written(void **state)
{
	struct pv_noxs_choice got;

	(void)state;
	pv_noxs_choice_write(&control, &vbd_choice);
	pv_noxs_choice_read(&control, &got);
	assert_memory_equal(&got, &vbd_choice, sizeof(got));
	pv_noxs_frontend_state(&control, XenbusStateClosing);
	pv_noxs_choice_read(&control, &got);
	assert_int_equal(got.state, XenbusStateClosing);
	assert_int_equal(got.queues, 2);
}

struct choice_case {
	const char *name;
	enum pv_noxs_type type;
	size_t offset, size;
	uint64_t value;
	bool ok;
};

#define C(type, field, value, ok) { #field " = " #value, type, WHERE(pv_noxs_choice, field), value, ok }
#define VIFC(field, value, ok) C(PV_NOXS_VIF, field, value, ok)
#define VBDC(field, value, ok) C(PV_NOXS_VBD, field, value, ok)
static const struct choice_case choice_cases[] = {
	VIFC(magic, 0, false), VIFC(magic, PV_NOXS_MAGIC, true), VIFC(version, 0, false), VIFC(version, 2, false),
	VIFC(generation, 0, false), VIFC(generation, 3, false), VIFC(generation, UINT32_MAX, false),
	VIFC(state, 0, false), VIFC(state, 1, false), VIFC(state, 2, false), VIFC(state, 3, true), VIFC(state, 4, true),
	VIFC(state, 5, false),
	VIFC(state, 6, false), VIFC(state, 7, false), VIFC(state, 8, false), VIFC(state, UINT32_MAX, false),
	VIFC(queues, 0, false), VIFC(queues, 1, true), VIFC(queues, 3, false), VIFC(queues, 65535, false),
	VIFC(features, 0, true), VIFC(features, 15, true), VIFC(features, 16, false), VIFC(features, UINT32_MAX, false),
	VIFC(vif[0].tx_port, 0, false), VIFC(vif[1].rx_port, 0, false), VIFC(vif[2].rx_port, 0, true),
	VIFC(vif[1].tx_gref, UINT32_MAX, true),
	VIFC(headroom, UINT32_MAX, true), VIFC(ctrl_port, 5, true), /* mean nothing without their bits */
	VIFC(ring_order, 255, true), VIFC(abi, 255, true), /* mean nothing to a vif */
	VIFC(reserved0, 255, true), VIFC(reserved1, 65535, true), VIFC(reserved, UINT64_MAX, true), VIFC(bytes[1983], 1, true),
	VBDC(queues, 0, false), VBDC(queues, 5, false), VBDC(queues, 17, false), VBDC(queues, 65535, false),
	VBDC(features, PV_VBD_BARRIER, false), VBDC(features, PV_VBD_FLUSH | PV_VBD_DISCARD, true),
	VBDC(features, 1u << 31, false),
	VBDC(ring_order, 0, true), VBDC(ring_order, 4, false), VBDC(ring_order, 5, false), VBDC(ring_order, 255, false),
	VBDC(abi, 0, true), VBDC(abi, 1, true), VBDC(abi, 3, false), VBDC(abi, 255, false),
	VBDC(vbd[0].port, 0, false), VBDC(vbd[1].port, 0, false), VBDC(vbd[1].reserved, UINT64_MAX, true),
	VBDC(vbd[0].ring_gref, UINT64_MAX, true),
};

static void choice_check_tells_each_fault(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(choice_cases) / sizeof(choice_cases[0]); i++) {
		const struct choice_case *t = &choice_cases[i];
		bool vif = t->type == PV_NOXS_VIF;
		struct pv_noxs_choice c = vif ? example_choice : vbd_choice;
		const char *why = "unset";
		int ret;

		memcpy((char *)&c + t->offset, &t->value, t->size < 8 ? t->size : 8);
		ret = pv_noxs_choice_check(&c, vif ? &example_offer : &vbd_offer, &why);
		if (ret != (t->ok ? 0 : -EPROTO) || (why == NULL) != t->ok)
			fail_msg("%s: returned %d, %s", t->name, ret, why ? why : "no reason");
	}
}

static void choice_check_looks_at_what_a_bit_brings(void **state)
{
	struct pv_noxs_offer o = example_offer;
	struct pv_noxs_choice c = example_choice;
	const char *why;

	(void)state;
	o.vif.features = PV_VIF_FEATURES;
	c.features |= PV_VIF_CTRL_RING | PV_VIF_HEADROOM;
	c.ctrl_port = 7;
	c.headroom = PV_NOXS_HEADROOM_MAX;
	assert_int_equal(pv_noxs_choice_check(&c, &o, &why), 0);
	c.headroom++;
	assert_int_equal(pv_noxs_choice_check(&c, &o, &why), -EPROTO);
	assert_string_equal(why, "a headroom above 2048 bytes");
	c.headroom = 0;
	c.ctrl_port = 0;
	assert_int_equal(pv_noxs_choice_check(&c, &o, &why), -EPROTO);
	assert_string_equal(why, "a control ring without a port");
	c.features &= ~(uint32_t)PV_VIF_CTRL_RING;
	assert_int_equal(pv_noxs_choice_check(&c, &o, &why), 0);
}

static void check_single(const struct pv_noxs_offer *offer, const struct pv_noxs_choice *good, uint32_t *port, struct pv_noxs_choice *c)
{
	const char *why;

	*c = *good;
	assert_int_equal(pv_noxs_choice_check(c, offer, &why), 0);
	c->queues = 2;
	assert_int_equal(pv_noxs_choice_check(c, offer, &why), -EPROTO);
	c->queues = 0;
	assert_int_equal(pv_noxs_choice_check(c, offer, &why), -EPROTO);
	*c = *good;
	c->features = 1;
	assert_int_equal(pv_noxs_choice_check(c, offer, &why), -EPROTO);
	*c = *good;
	*port = 0;
	assert_int_equal(pv_noxs_choice_check(c, offer, &why), -EPROTO);
}

static void choice_check_of_a_pipe_or_vf_wants_one_queue(void **state)
{
	struct pv_noxs_choice c, good = {
		.magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 2, .state = XenbusStateInitialised, .alive = 1, .queues = 1,
	};

	(void)state;
	good.pipe[0] = (struct pv_noxs_pipe_queue){ .gref = 5, .port = 6 };
	check_single(&pipe_offer, &good, &c.pipe[0].port, &c);
	good.vf[0] = (struct pv_noxs_vf_queue){ .gref = 5, .port = 6 };
	check_single(&vf_offer, &good, &c.vf[0].port, &c);
}

/* Bounds that hold whatever was offered: the arrays of a choice have 16 queues of 16 pages. */
static void choice_check_never_passes_what_a_choice_cannot_hold(void **state)
{
	struct pv_noxs_offer o = vbd_offer, n = example_offer;
	struct pv_noxs_choice c = vbd_choice;
	const char *why;

	(void)state;
	o.vbd.queues_max = n.vif.queues_max = o.vbd.ring_order_max = 65535;
	for (unsigned i = 0; i < PV_NOXS_QUEUES_MAX; i++)
		c.vbd[i].port = 1;
	c.queues = 16;
	c.ring_order = 4;
	assert_int_equal(pv_noxs_choice_check(&c, &o, &why), 0);
	c.ring_order = 5;
	assert_int_equal(pv_noxs_choice_check(&c, &o, &why), -EPROTO);
	c.ring_order = 4;
	c.queues = 17;
	assert_int_equal(pv_noxs_choice_check(&c, &o, &why), -EPROTO);
	c = example_choice;
	memset(c.bytes, 0xff, sizeof(c.bytes));
	c.queues = 17;
	assert_int_equal(pv_noxs_choice_check(&c, &n, &why), -EPROTO);
	c.queues = 16;
	assert_int_equal(pv_noxs_choice_check(&c, &n, &why), 0);
}

static void choice_check_refuses_devices_without_rings(void **state)
{
	struct pv_noxs_offer o = example_offer;
	const char *why;

	(void)state;
	o.type = PV_NOXS_SYSCTL;
	assert_int_equal(pv_noxs_choice_check(&example_choice, &o, &why), -EPROTO);
}

/* Random halves never pass unless everything they use is in bounds. */
static void choice_check_survives_random_pages(void **state)
{
	unsigned seed = 1, passed = 0;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		struct pv_noxs_choice c = vbd_choice;
		const char *why;

		for (int n = 1 + rand_r(&seed) % 3; n > 0; n--)
			((uint8_t *)&c)[rand_r(&seed) % 30] = (uint8_t)(rand_r(&seed) % 6);
		if (pv_noxs_choice_check(&c, &vbd_offer, &why) < 0)
			continue;
		passed++;
		assert_in_range(c.queues, 1, 4);
		assert_in_range(c.ring_order, 0, 3);
		assert_in_range(c.abi, 0, 2);
		assert_int_equal(c.features & ~vbd_offer.vbd.features, 0);
		assert_int_equal(c.generation, 2);
	}
	assert_true(passed > 0);
}

/* ---- what a reader sees in the middle of a write: the page's second part faults at the first access, and we look ---- */

static uint8_t *fault_page;
static void (*fault_look)(void);
static unsigned faults;

static void on_fault(int sig)
{
	(void)sig;
	faults++;
	fault_look();
	mprotect(fault_page, 8192, PROT_READ | PROT_WRITE);
}

/* Memory whose byte `offset` is the first that faults. */
static void *fault_at(size_t offset, void (*look)(void))
{
	uint8_t *area = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(area, MAP_FAILED);
	signal(SIGSEGV, on_fault);
	fault_page = area + 8192;
	fault_look = look;
	faults = 0;
	return fault_page - offset;
}

static void arm(void)
{
	mprotect(fault_page, 8192, PROT_NONE);
}

static void end_fault(void)
{
	assert_int_equal(faults, 1);
	signal(SIGSEGV, SIG_DFL);
	munmap(fault_page - 8192, 4 * 4096);
}

static struct pv_noxs_control_page *half_written;
static uint32_t state_then, generation_then;

static void look_at_offer(void)
{
	state_then = half_written->offer.state;
	generation_then = half_written->offer.generation;
}

static void offer_write_shows_initialising_until_it_is_complete(void **state)
{
	struct pv_noxs_offer o = vbd_offer;

	(void)state;
	half_written = fault_at(128, look_at_offer);
	pv_noxs_offer_write(half_written, &o);
	o.generation++;
	arm();
	pv_noxs_offer_write(half_written, &o);
	assert_int_equal(state_then, XenbusStateInitialising);
	assert_int_equal(generation_then, o.generation);
	assert_int_equal(half_written->offer.state, XenbusStateInitWait);
	end_fault();
}

static void offer_write_of_a_connected_device_keeps_its_state(void **state)
{
	struct pv_noxs_offer o = vbd_offer;

	(void)state;
	half_written = fault_at(128, look_at_offer);
	pv_noxs_offer_write(half_written, &o);
	pv_noxs_backend_state(half_written, XenbusStateConnected, 0);
	o.state = XenbusStateConnected;
	o.vbd.sectors *= 2;
	arm();
	pv_noxs_offer_write(half_written, &o);
	assert_int_equal(state_then, XenbusStateConnected);
	assert_int_equal(generation_then, o.generation);
	end_fault();
}

static void look_at_choice(void)
{
	state_then = half_written->choice.state;
}

static void choice_write_shows_its_state_last(void **state)
{
	(void)state;
	half_written = fault_at(PV_NOXS_CHOICE_OFFSET + 2040, look_at_choice);
	pv_noxs_choice_write(half_written, &vbd_choice); /* of an earlier connection */
	pv_noxs_frontend_state(half_written, XenbusStateConnected);
	arm();
	pv_noxs_choice_write(half_written, &vbd_choice);
	assert_int_equal(state_then, XenbusStateInitialising);
	assert_int_equal(half_written->choice.state, XenbusStateInitialised);
	end_fault();
}

static uint8_t *half_store;

static void look_at_pointer(void)
{
	memcpy(&state_then, half_store + PV_NOXS_POINTER_OFFSET, 4);
	memcpy(&generation_then, half_store + PV_NOXS_POINTER_OFFSET + 8, 4);
}

static void pointer_write_hides_it_until_it_is_complete(void **state)
{
	struct pv_noxs_pointer p = { PV_NOXS_MAGIC, PV_NOXS_VERSION, 1, 8, 5 };

	(void)state;
	half_store = fault_at(PV_NOXS_POINTER_OFFSET + 12, look_at_pointer);
	pv_noxs_pointer_write(half_store, &p);
	p.generation = 2;
	arm();
	pv_noxs_pointer_write(half_store, &p);
	assert_int_equal(state_then, 0);
	assert_int_equal(generation_then, 2);
	end_fault();
}

static struct pv_noxs_device_page *half_device;

static void look_at_device(void)
{
	generation_then = half_device->generation;
}

static void device_write_is_odd_until_it_is_complete(void **state)
{
	(void)state;
	half_device = fault_at(2048, look_at_device);
	pv_noxs_device_init(half_device, 7);
	arm();
	pv_noxs_device_write(half_device, (2048 - 64) / 32, &vif3);
	assert_int_equal(generation_then, 1);
	assert_int_equal(half_device->generation, 2);
	end_fault();
}

/* ---- both ends at once ---- */

enum { ROUNDS = 20000 };

static bool writing; /* atomic */

static void run_against(void *(*writer)(void *arg), void (*reader)(void))
{
	pthread_t t;

	__atomic_store_n(&writing, true, __ATOMIC_SEQ_CST);
	assert_int_equal(pthread_create(&t, NULL, writer, NULL), 0);
	while (__atomic_load_n(&writing, __ATOMIC_SEQ_CST))
		reader();
	pthread_join(t, NULL);
	reader();
}

static void *write_pointers(void *arg)
{
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		const struct pv_noxs_pointer p = { PV_NOXS_MAGIC, PV_NOXS_VERSION, i, i * 3, i * 7 };

		pv_noxs_pointer_write(store_page, &p);
	}
	__atomic_store_n(&writing, false, __ATOMIC_SEQ_CST);
	return arg;
}

static void read_pointer(void)
{
	struct pv_noxs_pointer p;
	int ret = pv_noxs_pointer_read(store_page, &p);

	if (ret == -ENOENT)
		return;
	assert_int_equal(ret, 0);
	assert_int_equal(p.gref, p.generation * 3);
	assert_int_equal(p.port, p.generation * 7);
}

static void pointer_read_never_mixes_two(void **state)
{
	struct pv_noxs_pointer p;

	(void)state;
	memset(store_page, 0, sizeof(store_page));
	run_against(write_pointers, read_pointer);
	assert_int_equal(pv_noxs_pointer_read(store_page, &p), 0);
	assert_int_equal(p.generation, ROUNDS);
}

/* All entries of a pair and the link say the same number, except while they are being written. */
static void *write_devices(void *arg)
{
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		struct pv_noxs_entry e = { .type = i & 1 ? PV_NOXS_VIF : PV_NOXS_NONE, .devid = i, .control_gref = i, .port = i };

		e.generation = i;
		pv_noxs_device_write(&device, 77, &e);
	}
	__atomic_store_n(&writing, false, __ATOMIC_SEQ_CST);
	return arg;
}

static void read_device(void)
{
	struct pv_noxs_device_page got;
	const struct pv_noxs_entry *e = &got.entries[77];
	int ret = pv_noxs_device_read(&device, &got);

	if (ret == -EAGAIN)
		return;
	assert_int_equal(ret, 0);
	assert_int_equal(got.generation, e->generation * 2);
	assert_int_equal(e->devid, e->generation);
	assert_int_equal(e->control_gref, e->generation);
	assert_int_equal(e->port, e->generation);
	assert_int_equal(e->type, e->generation & 1 ? PV_NOXS_VIF : PV_NOXS_NONE);
}

static void device_read_never_gives_half_an_entry(void **state)
{
	struct pv_noxs_device_page got;

	(void)state;
	pv_noxs_device_init(&device, 7);
	run_against(write_devices, read_device);
	assert_int_equal(pv_noxs_device_read(&device, &got), 0);
	assert_int_equal(got.entries[77].generation, ROUNDS);
}

static void *write_offers(void *arg)
{
	struct pv_noxs_offer o = vbd_offer;

	for (uint32_t i = 1; i <= ROUNDS; i++) {
		o.generation = i;
		o.vbd.sectors = i;
		o.vbd.discard_granularity = i * 512;
		pv_noxs_offer_write(&control, &o);
		if (i & 1)
			pv_noxs_backend_state(&control, XenbusStateConnected, 0);
		if (i & 2)
			pv_noxs_backend_state(&control, XenbusStateClosed, -EIO);
	}
	__atomic_store_n(&writing, false, __ATOMIC_SEQ_CST);
	return arg;
}

static void read_offer(void)
{
	struct pv_noxs_offer got;
	int ret = pv_noxs_offer_read(&control, PV_NOXS_VBD, &got);

	pv_noxs_backend_state_read(&control);
	if (ret == -EAGAIN)
		return;
	assert_int_equal(ret, 0);
	if (got.state == XenbusStateClosed) {
		assert_int_equal(got.vbd.sectors, 0);
		return;
	}
	assert_int_equal(got.vbd.sectors, got.generation);
	assert_int_equal(got.vbd.discard_granularity, got.generation * 512);
}

static void offer_read_never_mixes_two_generations(void **state)
{
	(void)state;
	pv_noxs_offer_write(&control, &vbd_offer);
	control.offer.vbd.sectors = control.offer.generation = 1;
	control.offer.vbd.discard_granularity = 512;
	run_against(write_offers, read_offer);
}

/* A guest that rewrites its half all the time: what was checked is the copy, and stays as it was checked. */
static void *scribble_choices(void *arg)
{
	unsigned seed = 1;

	for (int i = 0; i < 20 * ROUNDS; i++) {
		uint32_t word = rand_r(&seed) % 7;

		__atomic_store_n((uint32_t *)&control.choice + 4 + rand_r(&seed) % 3, word | word << 16, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&writing, false, __ATOMIC_SEQ_CST);
	return arg;
}

static void read_choice(void)
{
	struct pv_noxs_choice c, again;
	const char *why;
	int ret;

	pv_noxs_choice_read(&control, &c);
	again = c;
	ret = pv_noxs_choice_check(&c, &vbd_offer, &why);
	assert_memory_equal(&c, &again, sizeof(c));
	if (ret == 0)
		assert_in_range(c.queues, 1, 4);
}

static void choice_check_holds_while_the_guest_scribbles(void **state)
{
	(void)state;
	pv_noxs_choice_write(&control, &vbd_choice);
	run_against(scribble_choices, read_choice);
}

/* A choice is complete when its state shows it. The writer waits after each state, as a frontend does, until it was seen. */
static uint32_t seen; /* atomic: the last state that the reader saw */

static void wait_seen(uint32_t state)
{
	while (__atomic_load_n(&seen, __ATOMIC_ACQUIRE) != state)
		sched_yield();
}

static void *write_choices(void *arg)
{
	struct pv_noxs_choice c = vbd_choice;

	for (uint32_t i = 1; i <= ROUNDS / 20; i++) {
		pv_noxs_frontend_state(&control, XenbusStateInitialising);
		wait_seen(XenbusStateInitialising);
		c.features = c.vbd[15].port = c.generation = i;
		pv_noxs_choice_write(&control, &c);
		wait_seen(XenbusStateInitialised);
	}
	__atomic_store_n(&writing, false, __ATOMIC_SEQ_CST);
	return arg;
}

static void take_choice(void)
{
	struct pv_noxs_choice c;

	pv_noxs_choice_read(&control, &c);
	if (c.state == XenbusStateInitialised) {
		assert_int_equal(c.features, c.generation);
		assert_int_equal(c.vbd[15].port, c.generation);
	}
	__atomic_store_n(&seen, c.state, __ATOMIC_RELEASE);
	sched_yield();
}

static void choice_read_sees_all_that_precedes_the_state(void **state)
{
	(void)state;
	memset(&control, 0, sizeof(control));
	run_against(write_choices, take_choice);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layout_is_that_of_noxs_md),
		cmocka_unit_test(constants_are_those_of_the_specification),
		cmocka_unit_test(device_write_gives_the_example),
		cmocka_unit_test(offer_and_choice_write_give_the_example),
		cmocka_unit_test(pointer_read_gives_what_was_written),
		cmocka_unit_test(pointer_read_refuses_unknown_versions),
		cmocka_unit_test(pointer_format_gives_the_node),
		cmocka_unit_test(pointer_parse_takes_what_format_gives),
		cmocka_unit_test(pointer_parse_is_strict),
		cmocka_unit_test(hint_parse_finds_its_word),
		cmocka_unit_test(device_read_gives_what_was_written),
		cmocka_unit_test(device_write_of_a_hole_leaves_the_others),
		cmocka_unit_test(device_read_gives_up_on_a_page_that_stays_odd),
		cmocka_unit_test(device_read_refuses_what_is_no_device_page),
		cmocka_unit_test(offer_read_gives_what_was_written),
		cmocka_unit_test(offer_read_waits_for_an_offer_that_is_being_written),
		cmocka_unit_test(offer_read_shows_no_offer_when_closed),
		cmocka_unit_test(backend_state_is_read_as_written),
		cmocka_unit_test(offer_read_checks_each_field),
		cmocka_unit_test(offer_read_refuses_half_a_sector),
		cmocka_unit_test(offer_read_of_a_vf_bounds_its_functions),
		cmocka_unit_test(offer_read_refuses_a_pipe_of_another_version),
		cmocka_unit_test(choice_read_gives_what_was_written),
		cmocka_unit_test(choice_check_tells_each_fault),
		cmocka_unit_test(choice_check_looks_at_what_a_bit_brings),
		cmocka_unit_test(choice_check_of_a_pipe_or_vf_wants_one_queue),
		cmocka_unit_test(choice_check_never_passes_what_a_choice_cannot_hold),
		cmocka_unit_test(choice_check_refuses_devices_without_rings),
		cmocka_unit_test(choice_check_survives_random_pages),
		cmocka_unit_test(offer_write_shows_initialising_until_it_is_complete),
		cmocka_unit_test(offer_write_of_a_connected_device_keeps_its_state),
		cmocka_unit_test(choice_write_shows_its_state_last),
		cmocka_unit_test(pointer_write_hides_it_until_it_is_complete),
		cmocka_unit_test(device_write_is_odd_until_it_is_complete),
		cmocka_unit_test(pointer_read_never_mixes_two),
		cmocka_unit_test(device_read_never_gives_half_an_entry),
		cmocka_unit_test(offer_read_never_mixes_two_generations),
		cmocka_unit_test(choice_check_holds_while_the_guest_scribbles),
		cmocka_unit_test(choice_read_sees_all_that_precedes_the_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
