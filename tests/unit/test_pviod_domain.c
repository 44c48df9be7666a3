/* test_pviod_domain.c - what of domains is no hypercall: a PVH guest's memory and tables, states, wrong specs. tests/xen does the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xen/hvm/e820.h>
#include <xen/sched.h>
#include "dom0-tools/domain.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* ---- memory ---- */

static void pvh_memory_layout_puts_a_small_guest_below_the_hole(void **state)
{
	struct pvh_memory m;

	(void)state;
	pvh_memory_layout(160 * MIB, &m);
	assert_int_equal(m.low_end, 160 * MIB);
	assert_int_equal(m.high_end, 0);
	pvh_memory_layout(PVH_HOLE_START, &m); /* as much as fits exactly */
	assert_int_equal(m.low_end, PVH_HOLE_START);
	assert_int_equal(m.high_end, 0);
}

static void pvh_memory_layout_puts_the_rest_above_4_gib(void **state)
{
	struct pvh_memory m;

	(void)state;
	pvh_memory_layout(PVH_HOLE_START + MIB, &m);
	assert_int_equal(m.low_end, PVH_HOLE_START);
	assert_int_equal(m.high_end, PVH_HOLE_END + MIB);
	pvh_memory_layout(64 * GIB, &m);
	assert_int_equal(m.low_end + (m.high_end - PVH_HOLE_END), 64 * GIB);
}

static void pvh_memory_map_has_all_memory_once_and_in_order(void **state)
{
	const uint64_t sizes[] = { 16 * MIB, 4031 * MIB, 4 * GIB, 100 * GIB };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct e820entry map[PVH_MAP_MAX];
		struct pvh_memory m;
		uint64_t ram = 0, end = 0;
		unsigned n;

		pvh_memory_layout(sizes[i], &m);
		n = pvh_memory_map(&m, map);
		assert_true(n <= PVH_MAP_MAX);
		for (unsigned k = 0; k < n; k++) {
			assert_true(map[k].addr >= end && map[k].size > 0);
			end = map[k].addr + map[k].size;
			ram += map[k].type == E820_RAM ? map[k].size : 0;
		}
		assert_int_equal(ram, sizes[i]);
		assert_int_equal(map[1].type, E820_ACPI);
		assert_int_equal(map[1].addr, PVH_HOLE_START);
	}
}

static void pv_memory_map_leaves_out_where_the_host_has_devices(void **state)
{
	const struct e820entry host[] = {
		{ 0, 640 << 10, E820_RAM }, { 640 << 10, 384 << 10, E820_RESERVED }, { MIB, 2046 * MIB, E820_RAM }, { 2047 * MIB, MIB, E820_RESERVED },
		{ 0xfec00000, 0x1000, E820_RESERVED }, { 4 * GIB, 60 * GIB, E820_RAM },
	};
	struct e820entry map[PV_MAP_MAX];
	uint64_t hole = pv_memory_hole(host, 6);

	(void)state;
	assert_int_equal(hole, 2047 * MIB);
	assert_int_equal(pv_memory_map(2047 * MIB, hole, map), 1); /* as much as fits exactly */
	assert_true(map[0].addr == 0 && map[0].size == 2047 * MIB && map[0].type == E820_RAM);
	assert_int_equal(pv_memory_map(8 * GIB, hole, map), 2);
	assert_true(map[0].size == hole && map[1].addr == 4 * GIB && map[1].size == 8 * GIB - hole && map[1].type == E820_RAM);
	assert_int_equal(pv_memory_hole(host, 0), 0);
}

/* ---- ACPI, read as a kernel does: from the RSDP on ---- */

enum { BASE = 0xfc000000 };
static uint8_t page[PVH_ACPI_BYTES];

static uint32_t u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

static uint64_t u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s += *p++;
	return s;
}

/* The table at a guest-physical address, whole and valid. */
static const uint8_t *table(uint64_t at, const char *signature)
{
	const uint8_t *t = page + (at - BASE);

	assert_true(at >= BASE && at + 36 <= BASE + PVH_ACPI_BYTES);
	assert_memory_equal(t, signature, 4);
	assert_true(at + u32(t + 4) <= BASE + PVH_ACPI_BYTES);
	assert_int_equal(sum(t, u32(t + 4)), 0);
	return t;
}

static const uint8_t *root(void)
{
	assert_memory_equal(page, "RSD PTR ", 8);
	assert_int_equal(page[15], 2);
	assert_int_equal(sum(page, 20), 0);
	assert_int_equal(sum(page, 36), 0);
	return table(u64(page + 24), "XSDT");
}

static void pvh_acpi_tables_lead_from_the_rsdp_to_each_table(void **state)
{
	const uint8_t *xsdt, *fadt;

	(void)state;
	pvh_acpi_tables(page, BASE, 1);
	xsdt = root();
	assert_int_equal(u32(xsdt + 4), 36 + 2 * 8);
	fadt = table(u64(xsdt + 36), "FACP");
	assert_int_equal(u32(fadt + 4), 268);
	assert_int_equal(u32(fadt + 112), 1 << 20); /* HW_REDUCED_ACPI, and nothing else */
	assert_int_equal(u32(fadt + 40), u64(fadt + 140));
	assert_int_equal(u32(table(u64(fadt + 140), "DSDT") + 4), 36);
	table(u64(xsdt + 44), "APIC");
}

static void pvh_acpi_tables_have_a_lapic_for_each_vcpu(void **state)
{
	const unsigned counts[] = { 1, 2, 3, DOMAIN_VCPUS_MAX };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *madt, *end;
		unsigned n = 0;

		pvh_acpi_tables(page, BASE, counts[i]);
		madt = table(u64(root() + 44), "APIC");
		end = madt + u32(madt + 4);
		assert_int_equal(u32(madt + 36), 0xfee00000);
		for (const uint8_t *e = madt + 44; e < end; e += e[1], n++) {
			assert_int_equal(e[0], 0);
			assert_int_equal(e[1], 8);
			assert_int_equal(e[2], n);
			assert_int_equal(e[3], 2 * n);
			assert_int_equal(u32(e + 4), 1);
		}
		assert_int_equal(n, counts[i]);
	}
}

/* ---- states ---- */

static struct domain_info info_of(uint32_t flags)
{
	xc_domaininfo_t from = { .domain = 7, .flags = flags, .tot_pages = 256, .nr_online_vcpus = 1, .max_vcpu_id = 1, .cpu_time = 5, .handle = { 9 } };
	struct domain_info to;

	domain_info_from(&from, &to);
	return to;
}

static void domain_info_from_tells_the_state(void **state)
{
	struct domain_info i = info_of(XEN_DOMINF_hvm_guest | XEN_DOMINF_running);

	(void)state;
	assert_true(i.domid == 7 && i.hvm && i.memory == 1024 && i.vcpus == 2 && i.cpu_ns == 5 && i.uuid[0] == 9);
	assert_int_equal(i.state, DOMAIN_RUNNING);
	assert_int_equal(info_of(0).state, DOMAIN_RUNNING); /* it could */
	assert_int_equal(info_of(XEN_DOMINF_blocked).state, DOMAIN_BLOCKED);
	assert_int_equal(info_of(XEN_DOMINF_blocked | XEN_DOMINF_paused).state, DOMAIN_PAUSED);
	i = info_of(XEN_DOMINF_paused | XEN_DOMINF_shutdown | SHUTDOWN_crash << XEN_DOMINF_shutdownshift);
	assert_int_equal(i.state, DOMAIN_SHUTDOWN);
	assert_string_equal(domain_reason_name(i.reason), "crash");
	assert_int_equal(info_of(XEN_DOMINF_shutdown | XEN_DOMINF_dying).state, DOMAIN_DYING);
	assert_string_equal(domain_reason_name(255), "unknown");
}

/* ---- building: what is refused before Xen is asked ---- */

static void refused(struct domain_spec spec, int rc, const char *word)
{
	struct domain_made made;
	char why[240] = "";

	assert_int_equal(domain_build(&spec, &made, why, sizeof(why)), rc);
	if (!strstr(why, word))
		fail_msg("\"%s\" does not say \"%s\"", why, word);
}

static void domain_build_refuses_a_wrong_spec(void **state)
{
	const struct domain_spec good = { .kernel = "/dev/null", .memory = 64, .vcpus = 1 };
	struct domain_spec s = good;
	char line[2000];

	(void)state;
	s.memory = 0;
	refused(s, -EINVAL, "memory");
	s = good, s.vcpus = DOMAIN_VCPUS_MAX + 1;
	refused(s, -EINVAL, "vcpus");
	s = good, s.kernel = "/nonexistent/vmlinuz";
	refused(s, -ENOENT, "kernel /nonexistent/vmlinuz");
	s = good, s.ramdisk = "/nonexistent/initrd";
	refused(s, -ENOENT, "ramdisk /nonexistent/initrd");
	s = good, s.pvh = s.passthrough = true;
	refused(s, -EOPNOTSUPP, "vPCI");
	memset(line, 'x', sizeof(line));
	line[1024] = '\0';
	s = good, s.cmdline = line;
	refused(s, -EINVAL, "command line");
}

static void domain_build_names_what_is_missing_without_xen(void **state)
{
	(void)state;
	if (access("/dev/xen/privcmd", F_OK) == 0)
		skip();
	refused((struct domain_spec){ .kernel = "/dev/null", .memory = 64, .vcpus = 1 }, -ENOENT, "xen-privcmd");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pvh_memory_layout_puts_a_small_guest_below_the_hole),
		cmocka_unit_test(pvh_memory_layout_puts_the_rest_above_4_gib),
		cmocka_unit_test(pvh_memory_map_has_all_memory_once_and_in_order),
		cmocka_unit_test(pv_memory_map_leaves_out_where_the_host_has_devices),
		cmocka_unit_test(pvh_acpi_tables_lead_from_the_rsdp_to_each_table),
		cmocka_unit_test(pvh_acpi_tables_have_a_lapic_for_each_vcpu),
		cmocka_unit_test(domain_info_from_tells_the_state),
		cmocka_unit_test(domain_build_refuses_a_wrong_spec),
		cmocka_unit_test(domain_build_names_what_is_missing_without_xen),
	};

	return cmocka_run_group_tests_name("pviod_domain", tests, NULL, NULL);
}
