/* test_pci.c - the page of pciif: ops by hand, and by a guest that keeps to nothing. */
#include "tests/unit/vf_function.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { FUNCTIONS = 2, SECOND = 1000000 /* ticks */ };

static struct fn fn[FUNCTIONS];
static struct vf_kept kept[FUNCTIONS];
static struct vf_function function[FUNCTIONS];
static struct vf_pciif p;
static _Alignas(4096) union {
	uint8_t bytes[4096];
	struct xen_pci_sharedinfo info;
} page;
static uint64_t now, until;

/* As a process that begins: everything but what is kept. */
static void begin(void)
{
	p = (struct vf_pciif){ .function = function, .nr = FUNCTIONS, .pirq = &fn_pirq_ops, .ctx = fn };
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		function[i].kept = &kept[i];
		assert_int_equal(vf_conf_init(&function[i].conf, &fn_dev, &fn_ops, &fn[i]), 0);
	}
	vf_pciif_open(&p, &page, SECOND, now);
}

static int up(void **state)
{
	(void)state;
	now = 5 * SECOND;
	memset(&page, 0, sizeof(page));
	memset(kept, 0, sizeof(kept));
	for (unsigned i = 0; i < FUNCTIONS; i++)
		fn_init(&fn[i]);
	begin();
	return 0;
}

/* An op of the guest, through the page. Returns its err. */
static int ask(const struct xen_pci_op *op)
{
	page.info.op = *op;
	page.info.flags |= XEN_PCIF_active;
	now += SECOND;
	assert_int_equal(vf_pciif_work(&p, now, &until), 1);
	assert_false(page.info.flags & XEN_PCIF_active);
	return page.info.op.err;
}

static int ask_conf(uint32_t cmd, uint32_t devfn, int32_t offset, int32_t size, uint32_t value)
{
	return ask(&(struct xen_pci_op){ .cmd = cmd, .devfn = devfn, .offset = offset, .size = size, .value = value, .err = 77 });
}

static int ask_msix(uint32_t devfn, uint32_t n, const uint16_t *entries)
{
	struct xen_pci_op op = { .cmd = XEN_PCI_OP_enable_msix, .devfn = devfn, .value = n };

	for (uint32_t i = 0; i < n && i < SH_INFO_MAX_VEC; i++)
		op.msix_entries[i] = (struct xen_msix_entry){ .vector = 0xaaaa, .entry = entries[i] };
	return ask(&op);
}

static const uint16_t three[] = { 0, 1, 2 };

/* ---- configuration space ---- */

static void conf_read_is_of_the_function_in_its_slot(void **state)
{
	(void)state;
	fn[1].space[PCI_REVISION_ID] = 9;
	begin();
	assert_int_equal(ask_conf(XEN_PCI_OP_conf_read, 0, 0, 4, 0), XEN_PCI_ERR_success);
	assert_int_equal(page.info.op.value, 0x10ca8086);
	assert_int_equal(ask_conf(XEN_PCI_OP_conf_read, 8, PCI_REVISION_ID, 1, 0), XEN_PCI_ERR_success);
	assert_int_equal(page.info.op.value, 9);
	assert_int_equal(ask_conf(XEN_PCI_OP_conf_write, 8, PCI_COMMAND, 2, PCI_COMMAND_MASTER), XEN_PCI_ERR_success);
	assert_int_equal(fn[0].writes, 0);
	assert_int_equal(fn[1].writes, 1);
}

static void slots_without_a_function_are_empty(void **state)
{
	static const struct { uint32_t domain, bus, devfn; } none[] = {
		{ 0, 0, 1 }, { 0, 0, 7 }, { 0, 0, 16 }, { 0, 0, 255 }, { 0, 0, UINT32_MAX }, { 0, 0, 1u << 31 }, { 0, 1, 0 }, { 1, 0, 0 }, { UINT32_MAX, 0, 0 },
		{ 0, 0, UINT32_MAX & ~7u },
	};

	(void)state;
	for (unsigned cmd = XEN_PCI_OP_conf_read; cmd <= XEN_PCI_OP_disable_msix; cmd++)
		for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++)
			assert_int_equal(ask(&(struct xen_pci_op){ .cmd = cmd, .domain = none[i].domain, .bus = none[i].bus,
					 .devfn = none[i].devfn, .size = 4, .value = 1 }), XEN_PCI_ERR_dev_not_found);
	assert_int_equal(p.counts.refused, 0);
	assert_int_equal(fn[0].writes + fn[1].writes, 0);
	assert_int_equal(fn[0].maps + fn[1].maps, 0);
}

static void registers_that_are_none_are_refused(void **state)
{
	static const struct { int32_t offset, size; } bad[] = { { 0, 3 }, { 4095, 4 }, { 4095, 2 }, { 4096, 1 }, { -1, 1 }, { -4, 4 }, { 0, 0 }, { 0, -1 },
		{ INT32_MIN, 4 }, { INT32_MAX, 1 }, { 2, 4 } };

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (unsigned cmd = XEN_PCI_OP_conf_read; cmd <= XEN_PCI_OP_conf_write; cmd++)
			assert_int_equal(ask_conf(cmd, 0, bad[i].offset, bad[i].size, 0xffffffff), XEN_PCI_ERR_invalid_offset);
	assert_int_equal(fn[0].writes, 0);
}

static void commands_that_are_none_are_refused(void **state)
{
	static const uint32_t unknown[] = { XEN_PCI_OP_aer_detected, XEN_PCI_OP_aer_resume, XEN_PCI_OP_aer_mmio, XEN_PCI_OP_aer_slotreset,
		XEN_PCI_OP_enable_multi_msi, 11, 255, 1u << 31, UINT32_MAX };

	(void)state;
	for (unsigned i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		assert_int_equal(ask_conf(unknown[i], 0, 0, 4, 1), XEN_PCI_ERR_not_implemented);
	assert_int_equal(fn[0].writes, 0);
}

static void access_that_fails_is_told_the_guest(void **state)
{
	(void)state;
	fn[0].fail = -EIO;
	assert_int_equal(ask_conf(XEN_PCI_OP_conf_read, 0, PCI_COMMAND, 2, 0), XEN_PCI_ERR_op_failed);
	assert_int_equal(ask_conf(XEN_PCI_OP_conf_read, 8, PCI_COMMAND, 2, 0), XEN_PCI_ERR_success);
}

/* ---- interrupts ---- */

static void msix_is_mapped_masked_and_then_on(void **state)
{
	(void)state;
	assert_int_equal(ask_msix(0, 3, three), XEN_PCI_ERR_success);
	assert_int_equal(page.info.op.value, 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(page.info.op.msix_entries[i].vector, fn[0].pirq[i + 1]);
		assert_int_equal(page.info.op.msix_entries[i].entry, i);
	}
	assert_int_equal(fn[0].masked_at_map, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL | (FN_VECTORS - 1));
	assert_int_equal(fn_get(&fn[0], FN_MSIX + PCI_MSIX_FLAGS, 2), PCI_MSIX_FLAGS_ENABLE | (FN_VECTORS - 1));
	assert_int_equal(ask_conf(XEN_PCI_OP_disable_msix, 0, 0, 0, 0), XEN_PCI_ERR_success);
	assert_int_equal(fn_mapped(&fn[0]), 0);
	assert_int_equal(fn_get(&fn[0], FN_MSIX + PCI_MSIX_FLAGS, 2), FN_VECTORS - 1);
	assert_int_equal(ask_msix(0, 3, three), XEN_PCI_ERR_success);
	assert_int_equal(fn_mapped(&fn[0]), 3);
	assert_int_equal(page.info.op.msix_entries[2].vector, fn[0].pirq[3]);
	assert_int_equal(ask_conf(XEN_PCI_OP_disable_msix, 0, 0, 0, 0), XEN_PCI_ERR_success);
	assert_int_equal(ask_conf(XEN_PCI_OP_disable_msix, 0, 0, 0, 0), XEN_PCI_ERR_success); /* once more */
}

static void msix_of_entries_that_are_none_is_refused(void **state)
{
	static const uint16_t beyond[] = { FN_VECTORS }, twice[] = { 1, 1 }, six[] = { 0, 1, 2, 3, 4, 5 }, wrap[] = { 0xffff };

	(void)state;
	assert_int_equal(ask_msix(0, 0, NULL), XEN_PCI_ERR_invalid_offset);
	assert_int_equal(ask_msix(0, 1, beyond), XEN_PCI_ERR_invalid_offset);
	assert_int_equal(ask_msix(0, 1, wrap), XEN_PCI_ERR_invalid_offset);
	assert_int_equal(ask_msix(0, 2, twice), XEN_PCI_ERR_invalid_offset);
	assert_int_equal(ask_msix(0, 6, six), XEN_PCI_ERR_invalid_offset);
	assert_int_equal(ask_conf(XEN_PCI_OP_enable_msix, 0, 0, 0, SH_INFO_MAX_VEC + 1), XEN_PCI_ERR_invalid_offset);
	assert_int_equal(ask_conf(XEN_PCI_OP_enable_msix, 0, 0, 0, UINT32_MAX), XEN_PCI_ERR_invalid_offset);
	assert_int_equal(page.info.op.value, 1); /* Linux looks there too */
	assert_int_equal(fn[0].maps, 0);
	assert_int_equal(fn[0].writes, 0);
}

static void msix_that_xen_refuses_is_undone(void **state)
{
	(void)state;
	fn[0].map_fails_at = 2;
	assert_int_equal(ask_msix(0, 3, three), XEN_PCI_ERR_op_failed);
	assert_int_equal(page.info.op.msix_entries[0].vector, 0xaaaa); /* nothing is told of what came to nothing */
	assert_int_equal(fn_mapped(&fn[0]), 0);
	assert_int_equal(fn_get(&fn[0], FN_MSIX + PCI_MSIX_FLAGS, 2), FN_VECTORS - 1);
	fn[0].map_fails_at = -1;
	assert_int_equal(ask_msix(0, 3, three), XEN_PCI_ERR_success);
}

static void msix_with_a_pirq_that_does_not_fit_is_undone(void **state)
{
	(void)state;
	fn[0].next_pirq = 65535;
	assert_int_equal(ask_msix(0, 3, three), XEN_PCI_ERR_op_failed);
	assert_int_equal(fn_mapped(&fn[0]), 0);
}

static void msix_again_is_the_same_answer_and_another_is_refused(void **state)
{
	struct xen_pci_op first;

	(void)state;
	assert_int_equal(ask_msix(0, 3, three), XEN_PCI_ERR_success);
	first = page.info.op;
	assert_int_equal(ask_msix(0, 3, three), XEN_PCI_ERR_success);
	assert_memory_equal(&first, &page.info.op, sizeof(first));
	assert_int_equal(fn[0].maps, 3);
	assert_int_equal(ask_msix(0, 2, three), XEN_PCI_ERR_access_denied);
	assert_int_equal(ask_conf(XEN_PCI_OP_enable_msi, 0, 0, 0, 0), XEN_PCI_ERR_access_denied);
	assert_int_equal(fn_mapped(&fn[0]), 3);
}

static void msi_is_one_interrupt(void **state)
{
	(void)state;
	assert_int_equal(ask_conf(XEN_PCI_OP_enable_msi, 8, 0, 0, 0), XEN_PCI_ERR_success);
	assert_int_equal(page.info.op.value, 17);
	assert_int_equal(fn[1].pirq[0], 17);
	assert_true(fn_get(&fn[1], FN_MSI + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_ENABLE);
	assert_int_equal(ask_conf(XEN_PCI_OP_disable_msi, 8, 0, 0, 0), XEN_PCI_ERR_success);
	assert_int_equal(fn_mapped(&fn[1]), 0);
}

static void interrupts_of_a_function_that_has_none_are_refused(void **state)
{
	(void)state;
	fn[0].space[PCI_STATUS] = 0;
	begin();
	assert_int_equal(ask_conf(XEN_PCI_OP_enable_msi, 0, 0, 0, 0), XEN_PCI_ERR_invalid_offset);
	assert_int_equal(ask_msix(0, 1, three), XEN_PCI_ERR_invalid_offset);
	assert_int_equal(ask_conf(XEN_PCI_OP_disable_msix, 0, 0, 0, 0), XEN_PCI_ERR_success);
}

/* ---- the page, a process after another, and the end ---- */

static void answer_writes_nothing_but_the_answer(void **state)
{
	static uint8_t before[4096];
	struct xen_pci_op op = { .cmd = XEN_PCI_OP_conf_read, .size = 4, .offset = 0 };
	const size_t err = offsetof(struct xen_pci_sharedinfo, op.err), value = offsetof(struct xen_pci_sharedinfo, op.value);

	(void)state;
	memset(&page, 0xa5, sizeof(page));
	op.info = 0x5a5a5a5a;
	page.info.op.cmd = op.cmd, page.info.op.domain = page.info.op.bus = page.info.op.devfn = 0;
	page.info.op.offset = 0, page.info.op.size = 4;
	page.info.flags = 0xfffffff7 | XEN_PCIF_active;
	memcpy(before, &page, sizeof(before));
	assert_int_equal(vf_pciif_work(&p, now += SECOND, &until), 1);
	before[0] &= (uint8_t)~XEN_PCIF_active;
	memcpy(before + err, &(int32_t){ XEN_PCI_ERR_success }, 4);
	memcpy(before + value, &(uint32_t){ 0x10ca8086 }, 4);
	assert_memory_equal(before, &page, sizeof(before));
}

static void successor_answers_what_was_asked_and_keeps_interrupts(void **state)
{
	uint16_t vector;

	(void)state;
	assert_int_equal(ask_conf(XEN_PCI_OP_conf_write, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER), XEN_PCI_ERR_success);
	assert_int_equal(ask_msix(0, 3, three), XEN_PCI_ERR_success);
	vector = page.info.op.msix_entries[2].vector;
	page.info.op.msix_entries[2].vector = 0;
	page.info.flags = XEN_PCIF_active; /* killed before it cleared that */
	kept[0].asked = 3;
	begin();
	assert_int_equal(vf_pciif_work(&p, now, &until), 1);
	assert_int_equal(page.info.op.err, XEN_PCI_ERR_success);
	assert_int_equal(page.info.op.msix_entries[2].vector, vector);
	assert_int_equal(fn[0].maps, 3);
	assert_int_equal(ask_conf(XEN_PCI_OP_conf_read, 0, PCI_COMMAND, 2, 0), XEN_PCI_ERR_success);
	assert_int_equal(page.info.op.value, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(ask_conf(XEN_PCI_OP_disable_msix, 0, 0, 0, 0), XEN_PCI_ERR_success);
	assert_int_equal(fn_mapped(&fn[0]), 0);
}

static void close_leaves_a_function_quiet_and_the_next_guest_nothing(void **state)
{
	static const struct vf_kept nothing;

	(void)state;
	assert_int_equal(ask_conf(XEN_PCI_OP_conf_write, 0, PCI_COMMAND, 2, 0xffff), XEN_PCI_ERR_success);
	assert_int_equal(ask_msix(0, 3, three), XEN_PCI_ERR_success);
	assert_int_equal(vf_pciif_close(&p), 0);
	assert_int_equal(fn_get(&fn[0], PCI_COMMAND, 2), 0);
	assert_int_equal(fn_mapped(&fn[0]), 0);
	assert_memory_equal(&kept[0], &nothing, sizeof(nothing));
	assert_int_equal(vf_pciif_close(&p), 0);
	page.info.flags = XEN_PCIF_active;
	assert_int_equal(vf_pciif_work(&p, now += SECOND, &until), 0);
	begin();
	assert_int_equal(ask_conf(XEN_PCI_OP_conf_read, 0, PCI_COMMAND, 2, 0), XEN_PCI_ERR_success);
	assert_int_equal(page.info.op.value, 0);
}

static void close_does_all_whatever_fails(void **state)
{
	(void)state;
	fn[0].unmap_fails = -EIO;
	fn[1].fail = -ENODEV; /* it went */
	assert_int_equal(vf_pciif_close(&p), -EIO);
	assert_int_equal(fn[0].unmaps + fn[1].unmaps, 2);
}

/* A guest that asks without end, or notifies for nothing, gets what is its own, and then waits. */
static void work_is_bounded_whatever_the_events(void **state)
{
	(void)state;
	for (int ops = 0; ops < 2; ops++) {
		unsigned n = 0;

		now += SECOND;
		for (uint64_t end = now + SECOND; now < end; now += 10) { /* 100000 events in a second */
			page.info.flags = ops ? XEN_PCIF_active : 0;
			n += vf_pciif_work(&p, now, &until) != -EAGAIN;
		}
		assert_in_range(n, VF_PCIIF_OPS * 9 / 10, VF_PCIIF_OPS * 11 / 10);
		page.info.flags = XEN_PCIF_active;
		while (vf_pciif_work(&p, now, &until) != -EAGAIN)
			page.info.flags = XEN_PCIF_active;
		assert_true(until > now);
		assert_true(page.info.flags & XEN_PCIF_active);
		assert_int_equal(vf_pciif_work(&p, until, &until), 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(conf_read_is_of_the_function_in_its_slot, up),
		cmocka_unit_test_setup(slots_without_a_function_are_empty, up),
		cmocka_unit_test_setup(registers_that_are_none_are_refused, up),
		cmocka_unit_test_setup(commands_that_are_none_are_refused, up),
		cmocka_unit_test_setup(access_that_fails_is_told_the_guest, up),
		cmocka_unit_test_setup(msix_is_mapped_masked_and_then_on, up),
		cmocka_unit_test_setup(msix_of_entries_that_are_none_is_refused, up),
		cmocka_unit_test_setup(msix_that_xen_refuses_is_undone, up),
		cmocka_unit_test_setup(msix_with_a_pirq_that_does_not_fit_is_undone, up),
		cmocka_unit_test_setup(msix_again_is_the_same_answer_and_another_is_refused, up),
		cmocka_unit_test_setup(msi_is_one_interrupt, up),
		cmocka_unit_test_setup(interrupts_of_a_function_that_has_none_are_refused, up),
		cmocka_unit_test_setup(answer_writes_nothing_but_the_answer, up),
		cmocka_unit_test_setup(successor_answers_what_was_asked_and_keeps_interrupts, up),
		cmocka_unit_test_setup(close_leaves_a_function_quiet_and_the_next_guest_nothing, up),
		cmocka_unit_test_setup(close_does_all_whatever_fails, up),
		cmocka_unit_test_setup(work_is_bounded_whatever_the_events, up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
