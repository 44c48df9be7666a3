/* test_pci_conf.c - what a guest sees of a virtual function's configuration space, and what it may change. */
#include "tests/unit/vf_function.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct fn fn;
static struct vf_conf c;

static int up(void **state)
{
	(void)state;
	fn_init(&fn);
	assert_int_equal(vf_conf_init(&c, &fn_dev, &fn_ops, &fn), 0);
	return 0;
}

static uint32_t get(uint32_t offset, uint32_t size)
{
	uint32_t v = 0xdeadbeef;

	assert_int_equal(vf_conf_read(&c, offset, size, &v), 0);
	return v;
}

static void put(uint32_t offset, uint32_t size, uint32_t value)
{
	assert_int_equal(vf_conf_write(&c, offset, size, value), 0);
}

static int init_again(const struct vf_conf_dev *dev)
{
	return vf_conf_init(&c, dev, &fn_ops, &fn);
}

/* ---- what is seen ---- */

static void read_of_the_header_is_the_vf_by_the_word_of_its_pf(void **state)
{
	(void)state;
	assert_int_equal(get(PCI_VENDOR_ID, 4), 0x10ca8086);
	assert_int_equal(get(PCI_DEVICE_ID, 2), 0x10ca);
	assert_int_equal(get(PCI_CLASS_REVISION, 4), 0x02000001);
	assert_int_equal(get(PCI_SUBSYSTEM_VENDOR_ID, 4), 0xa03c8086);
	assert_int_equal(get(PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(get(PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	assert_int_equal(get(PCI_ROM_ADDRESS, 4), 0);
	assert_int_equal(get(PCI_INTERRUPT_PIN, 1), 0);
}

static void read_of_capabilities_passes_over_what_is_not_known(void **state)
{
	(void)state;
	assert_int_equal(get(PCI_CAPABILITY_LIST, 1), FN_PM);
	assert_int_equal(get(FN_PM, 2), FN_MSI << 8 | PCI_CAP_ID_PM);
	assert_int_equal(get(FN_MSI, 2), FN_MSIX << 8 | PCI_CAP_ID_MSI);
	assert_int_equal(get(FN_MSIX, 2), FN_PCIE << 8 | PCI_CAP_ID_MSIX);
	assert_int_equal(get(FN_PCIE, 2), PCI_CAP_ID_EXP);
	for (unsigned at = FN_VENDOR; at < FN_MSIX; at += 4)
		assert_int_equal(get(at, 4), 0);
	for (unsigned at = VF_CONF_SEEN; at < VF_CONF_SPACE; at += 4)
		assert_int_equal(get(at, 4), 0);
}

static void read_of_capabilities_hides_what_a_guest_cannot_use(void **state)
{
	(void)state;
	assert_int_equal(get(FN_PM + PCI_PM_PMC, 2), 3);
	assert_int_equal(get(FN_MSI + PCI_MSI_FLAGS, 2), PCI_MSI_FLAGS_64BIT);
	assert_int_equal(get(FN_MSI + PCI_MSI_ADDRESS_LO, 4), 0);
	assert_int_equal(get(FN_MSIX + PCI_MSIX_FLAGS, 2), FN_VECTORS - 1);
	assert_int_equal(get(FN_MSIX + PCI_MSIX_TABLE, 4), 3);
	assert_int_equal(get(FN_MSIX + PCI_MSIX_PBA, 4), 0x2003);
	assert_int_equal(get(FN_PCIE + PCI_EXP_DEVCAP, 4), 0x00008cc2);
	assert_int_equal(c.msi, FN_MSI);
	assert_int_equal(c.msix, FN_MSIX);
	assert_int_equal(c.msix_entries, FN_VECTORS);
	assert_true(c.msix_table == fn_dev.bar[3].start);
}

static void read_of_what_changes_is_of_the_function(void **state)
{
	(void)state;
	fn_put16(&fn, FN_PCIE + PCI_EXP_DEVSTA, PCI_EXP_DEVSTA_TRPND);
	assert_int_equal(get(FN_PCIE + PCI_EXP_DEVSTA, 2), PCI_EXP_DEVSTA_TRPND);
	fn_put16(&fn, FN_MSIX + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | 77);
	assert_int_equal(get(FN_MSIX + PCI_MSIX_FLAGS, 2), PCI_MSIX_FLAGS_ENABLE | (FN_VECTORS - 1));
	assert_int_equal(get(FN_MSIX, 4) >> 16, PCI_MSIX_FLAGS_ENABLE | (FN_VECTORS - 1));
	assert_int_equal(get(FN_MSIX + 3, 1), PCI_MSIX_FLAGS_ENABLE >> 8);
}

static void access_that_is_no_register_is_refused(void **state)
{
	static const struct { uint32_t offset, size; } bad[] = {
		{ 0, 0 }, { 0, 3 }, { 0, 8 }, { 0, 5 }, { 1, 2 }, { 2, 4 }, { 4095, 2 }, { 4095, 4 }, { 4096, 1 }, { 4096, 4 }, { UINT32_MAX, 1 },
		{ UINT32_MAX, 4 }, { UINT32_MAX - 3, 4 }, { 0, UINT32_MAX }, { 4, 0x80000000 }, { 0x80000000, 4 },
	};
	uint32_t v;

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(vf_conf_read(&c, bad[i].offset, bad[i].size, &v), -EINVAL);
		assert_int_equal(v, 0);
		assert_int_equal(vf_conf_write(&c, bad[i].offset, bad[i].size, 1), -EINVAL);
	}
	assert_int_equal(get(4095, 1), 0);
	assert_int_equal(fn.writes, 0);
}

static void access_that_fails_tells_so(void **state)
{
	uint32_t v;

	(void)state;
	fn.fail = -EIO;
	assert_int_equal(vf_conf_read(&c, PCI_COMMAND, 2, &v), -EIO);
	assert_int_equal(vf_conf_write(&c, PCI_COMMAND, 2, PCI_COMMAND_MASTER), -EIO);
	assert_int_equal(get(PCI_VENDOR_ID, 4), 0x10ca8086); /* which asks nobody */
}

/* ---- what may be changed ---- */

static void write_of_a_bar_asks_for_its_size_and_moves_nothing(void **state)
{
	(void)state;
	assert_int_equal(get(PCI_BASE_ADDRESS_0, 4), 0x0001c00c);
	assert_int_equal(get(PCI_BASE_ADDRESS_1, 4), 8);
	put(PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	put(PCI_BASE_ADDRESS_1, 4, 0xffffffff);
	assert_int_equal(get(PCI_BASE_ADDRESS_0, 4), 0xffffc00c);
	assert_int_equal(get(PCI_BASE_ADDRESS_1, 4), 0xffffffff);
	put(PCI_BASE_ADDRESS_0, 4, 0x0001c00c);
	put(PCI_BASE_ADDRESS_1, 4, 8);
	assert_int_equal(get(PCI_BASE_ADDRESS_0, 4), 0x0001c00c);
	put(PCI_BASE_ADDRESS_0, 4, 0xfe000000); /* elsewhere */
	assert_int_equal(get(PCI_BASE_ADDRESS_0, 4), 0x0001c00c);
	assert_int_equal(get(PCI_BASE_ADDRESS_1, 4), 8);
	put(PCI_BASE_ADDRESS_2, 4, 0xffffffff);
	assert_int_equal(get(PCI_BASE_ADDRESS_2, 4), 0); /* there is none */
	put(PCI_BASE_ADDRESS_0, 2, 0xffff);
	assert_int_equal(get(PCI_BASE_ADDRESS_0, 4), 0x0001c00c);
	put(PCI_ROM_ADDRESS, 4, 0xfffff800);
	assert_int_equal(get(PCI_ROM_ADDRESS, 4), 0);
	assert_int_equal(fn.writes, 0);
}

static void write_of_the_command_lets_dma_begin_and_nothing_else(void **state)
{
	(void)state;
	put(PCI_COMMAND, 2, 0xffff);
	assert_int_equal(fn.writes, 1);
	assert_int_equal(fn.last_offset, PCI_COMMAND);
	assert_int_equal(fn.last_size, 1);
	assert_int_equal(fn.last_value, PCI_COMMAND_MASTER);
	assert_int_equal(get(PCI_COMMAND, 2), PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	put(PCI_COMMAND, 4, 0xffffffff); /* the status is beside it, where ones mean something */
	assert_int_equal(fn.writes, 1);
	assert_int_equal(fn_get(&fn, PCI_STATUS, 2), PCI_STATUS_CAP_LIST | PCI_STATUS_REC_MASTER_ABORT);
	put(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(fn_get(&fn, PCI_COMMAND, 2), 0);
	assert_int_equal(get(PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
}

/* Whatever is written wherever: of the function one bit changes. */
static void write_of_everything_passes_one_bit(void **state)
{
	static const uint32_t values[] = { 0xffffffff, 0, 0x55555555, 0xaaaaaaaa };
	struct fn before = fn;

	(void)state;
	for (unsigned size = 1; size <= 4; size *= 2)
		for (unsigned at = 0; at < VF_CONF_SPACE; at += size)
			for (unsigned i = 0; i < 4; i++)
				put(at, size, values[i]);
	for (unsigned at = 0; at < VF_CONF_SPACE; at++)
		assert_int_equal(fn.space[at] & ~(at == PCI_COMMAND ? PCI_COMMAND_MASTER : 0), before.space[at]);
	read_of_the_header_is_the_vf_by_the_word_of_its_pf(NULL);
	read_of_capabilities_passes_over_what_is_not_known(NULL);
}

static void write_of_a_power_state_is_believed_and_goes_nowhere(void **state)
{
	(void)state;
	put(FN_PM + PCI_PM_CTRL, 2, 0x8103);
	assert_int_equal(get(FN_PM + PCI_PM_CTRL, 2), 3);
	assert_int_equal(fn.writes, 0);
}

static void restore_brings_back_what_was_written_and_no_more(void **state)
{
	struct vf_conf_bits old;
	uint8_t lies[VF_CONF_SEEN];

	(void)state;
	put(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	put(PCI_INTERRUPT_LINE, 1, 11);
	put(PCI_BASE_ADDRESS_3, 4, 0xffffffff);
	old = c.bits;
	assert_int_equal(init_again(&fn_dev), 0);
	vf_conf_restore(&c, old.value);
	assert_memory_equal(&c.bits, &old, sizeof(old));
	memset(lies, 0xff, sizeof(lies));
	vf_conf_restore(&c, lies);
	assert_int_equal(get(PCI_VENDOR_ID, 4), 0x10ca8086);
	assert_int_equal(get(PCI_BASE_ADDRESS_2, 4), 0);
}

/* ---- ours ---- */

static void msix_goes_through_masked_and_writes_whole_words(void **state)
{
	(void)state;
	assert_int_equal(vf_conf_msix(&c, VF_MSIX_MASKED), 0);
	assert_int_equal(fn.last_offset, FN_MSIX + PCI_MSIX_FLAGS);
	assert_int_equal(fn.last_size, 2);
	assert_int_equal(fn.last_value, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL | (FN_VECTORS - 1));
	assert_int_equal(vf_conf_msix(&c, VF_MSIX_ON), 0);
	assert_int_equal(fn.last_value, PCI_MSIX_FLAGS_ENABLE | (FN_VECTORS - 1));
	assert_int_equal(vf_conf_msix(&c, VF_MSIX_OFF), 0);
	assert_int_equal(fn.last_value, FN_VECTORS - 1);
	assert_int_equal(vf_conf_msi(&c, true), 0);
	assert_int_equal(fn.last_offset, FN_MSI + PCI_MSI_FLAGS);
	assert_int_equal(fn.last_value & (PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE), PCI_MSI_FLAGS_ENABLE);
}

static void quiet_ends_dma_and_interrupts(void **state)
{
	(void)state;
	put(PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	vf_conf_msix(&c, VF_MSIX_ON);
	vf_conf_msi(&c, true);
	assert_int_equal(vf_conf_quiet(&c), 0);
	assert_int_equal(fn_get(&fn, PCI_COMMAND, 2), 0);
	assert_int_equal(fn_get(&fn, FN_MSIX + PCI_MSIX_FLAGS, 2), FN_VECTORS - 1);
	assert_int_equal(fn_get(&fn, FN_MSI + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_ENABLE, 0);
}

/* ---- functions that make no sense ---- */

static void init_refuses_what_is_no_vf(void **state)
{
	(void)state;
	fn.space[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
	assert_int_equal(init_again(&fn_dev), -EINVAL);
	fn_init(&fn);
	fn.fail = -EIO;
	assert_int_equal(init_again(&fn_dev), -EIO);
}

static void init_refuses_capabilities_that_lead_astray(void **state)
{
	(void)state;
	fn.space[FN_PCIE + 1] = FN_PM; /* a circle */
	assert_int_equal(init_again(&fn_dev), -EINVAL);
	fn.space[FN_PCIE + 1] = 0x20; /* into the header */
	assert_int_equal(init_again(&fn_dev), -EINVAL);
	fn.space[FN_PCIE + 1] = 0xfc; /* MSI-X that ends behind the end */
	fn.space[0xfc] = PCI_CAP_ID_MSIX;
	assert_int_equal(init_again(&fn_dev), -EINVAL);
	fn_capability(&fn, 0xfc, PCI_CAP_ID_EXP, 0);
	assert_int_equal(init_again(&fn_dev), -EINVAL);
	fn_capability(&fn, 0xfc, PCI_CAP_ID_VNDR, 0); /* not ours to judge */
	assert_int_equal(init_again(&fn_dev), 0);
	fn.space[PCI_STATUS] = 0;
	assert_int_equal(init_again(&fn_dev), 0);
	assert_int_equal(get(PCI_CAPABILITY_LIST, 1), 0);
	assert_int_equal(c.msix, 0);
	assert_int_equal(vf_conf_msix(&c, VF_MSIX_ON), -ENXIO);
	assert_int_equal(vf_conf_msix(&c, VF_MSIX_OFF), 0);
	assert_int_equal(vf_conf_msi(&c, true), -ENXIO);
}

static void init_refuses_an_interrupt_table_outside_of_its_bar(void **state)
{
	(void)state;
	fn_put32(&fn, FN_MSIX + PCI_MSIX_TABLE, 6);
	assert_int_equal(init_again(&fn_dev), -EINVAL);
	fn_put32(&fn, FN_MSIX + PCI_MSIX_TABLE, 2); /* no such BAR */
	assert_int_equal(init_again(&fn_dev), -EINVAL);
	fn_put32(&fn, FN_MSIX + PCI_MSIX_TABLE, 0x3fc0 | 3); /* for 4 entries */
	assert_int_equal(init_again(&fn_dev), -EINVAL);
	fn_put32(&fn, FN_MSIX + PCI_MSIX_TABLE, 0x3fb0 | 3);
	assert_int_equal(init_again(&fn_dev), 0);
}

static void init_refuses_bars_that_make_no_sense(void **state)
{
	static const struct vf_conf_bar bad[] = {
		{ 0x1000, 0x3000, 0 }, { 0x1800, 0x1000, 0 }, { 0x1000, 8, 0 }, { 0x1000, 0x1000, PCI_BASE_ADDRESS_SPACE_IO }, { 0x1000, 0x1000, 16 },
		{ 0x100000000, 0x1000, 0 }, { 0, 0x1000, 0 },
	};
	struct vf_conf_dev dev = fn_dev;

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		dev.bar[5] = bad[i];
		assert_int_equal(init_again(&dev), -EINVAL);
	}
	dev.bar[5] = (struct vf_conf_bar){ 0x100000000, 0x1000, 4 }; /* nothing behind the last is its upper half */
	assert_int_equal(init_again(&dev), -EINVAL);
	dev.bar[5] = (struct vf_conf_bar){ 0xfffff000, 0x1000, 8 };
	assert_int_equal(init_again(&dev), 0);
	dev.bar[4] = dev.bar[5]; /* that is the upper half of BAR 3 */
	assert_int_equal(init_again(&dev), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(read_of_the_header_is_the_vf_by_the_word_of_its_pf, up),
		cmocka_unit_test_setup(read_of_capabilities_passes_over_what_is_not_known, up),
		cmocka_unit_test_setup(read_of_capabilities_hides_what_a_guest_cannot_use, up),
		cmocka_unit_test_setup(read_of_what_changes_is_of_the_function, up),
		cmocka_unit_test_setup(access_that_is_no_register_is_refused, up),
		cmocka_unit_test_setup(access_that_fails_tells_so, up),
		cmocka_unit_test_setup(write_of_a_bar_asks_for_its_size_and_moves_nothing, up),
		cmocka_unit_test_setup(write_of_the_command_lets_dma_begin_and_nothing_else, up),
		cmocka_unit_test_setup(write_of_everything_passes_one_bit, up),
		cmocka_unit_test_setup(write_of_a_power_state_is_believed_and_goes_nowhere, up),
		cmocka_unit_test_setup(restore_brings_back_what_was_written_and_no_more, up),
		cmocka_unit_test_setup(msix_goes_through_masked_and_writes_whole_words, up),
		cmocka_unit_test_setup(quiet_ends_dma_and_interrupts, up),
		cmocka_unit_test_setup(init_refuses_what_is_no_vf, up),
		cmocka_unit_test_setup(init_refuses_capabilities_that_lead_astray, up),
		cmocka_unit_test_setup(init_refuses_an_interrupt_table_outside_of_its_bar, up),
		cmocka_unit_test_setup(init_refuses_bars_that_make_no_sense, up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
