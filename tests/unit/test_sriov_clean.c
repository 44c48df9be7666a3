/* test_sriov_clean.c - what a clean VF looks like, which resets are of one function alone, and which settings tell of a former owner. Pure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include "sriov/sriov.h"

/* A VF of igb at rest: capabilities PM, MSI, MSI-X and Express at 0x40, 0x50, 0x70 and 0xa0. */
static void make_conf(uint8_t conf[VF_CONF_LEN])
{
	static const uint8_t caps[][3] = { { 0x40, PCI_CAP_ID_PM, 0x50 }, { 0x50, PCI_CAP_ID_MSI, 0x70 }, { 0x70, PCI_CAP_ID_MSIX, 0xa0 }, { 0xa0, PCI_CAP_ID_EXP, 0 } };

	memset(conf, 0, VF_CONF_LEN);
	memset(conf, 0xff, 4); /* vendor and device are the PF's to say */
	conf[PCI_STATUS] = PCI_STATUS_CAP_LIST;
	conf[PCI_CAPABILITY_LIST] = 0x40;
	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		conf[caps[i][0]] = caps[i][1];
		conf[caps[i][0] + 1] = caps[i][2];
	}
}

static void conf_clean_takes_a_vf_at_rest(void **state)
{
	uint8_t conf[VF_CONF_LEN];

	(void)state;
	make_conf(conf);
	assert_int_equal(vf_conf_clean(conf, NULL), 0);
	conf[PCI_COMMAND + 1] = PCI_COMMAND_INTX_DISABLE >> 8;
	assert_int_equal(vf_conf_clean(conf, NULL), 0);
}

static void conf_clean_refuses_what_is_left(void **state)
{
	static const struct { uint8_t at, bits; const char *says; } t[] = {
		{ PCI_COMMAND, PCI_COMMAND_MASTER, "write to memory" }, { PCI_COMMAND, PCI_COMMAND_MEMORY, "command register" },
		{ PCI_BASE_ADDRESS_0, 0x04, "BAR 0" }, { PCI_BASE_ADDRESS_5 + 3, 0x80, "BAR 5" }, { PCI_ROM_ADDRESS, 1, "ROM" },
		{ 0x40 + PCI_PM_CTRL, 3, "sleeps" }, { 0x50 + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE, "MSI is" },
		{ 0x70 + PCI_MSIX_FLAGS + 1, PCI_MSIX_FLAGS_ENABLE >> 8, "MSI-X" }, { 0xa0 + PCI_EXP_DEVSTA, PCI_EXP_DEVSTA_TRPND, "pending" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		uint8_t conf[VF_CONF_LEN];
		struct vf_why why = { "" };

		make_conf(conf);
		conf[t[i].at] |= t[i].bits;
		assert_int_equal(vf_conf_clean(conf, &why), -EBUSY);
		assert_non_null(strstr(why.text, t[i].says));
	}
}

static void conf_clean_refuses_a_device_that_is_gone(void **state)
{
	uint8_t conf[VF_CONF_LEN];
	struct vf_why why;

	(void)state;
	memset(conf, 0xff, sizeof(conf));
	assert_int_equal(vf_conf_clean(conf, &why), -EIO);
	assert_non_null(strstr(why.text, "does not answer"));
	memset(conf, 0, sizeof(conf));
	assert_int_equal(vf_conf_clean(conf, &why), -EIO); /* no Express capability */
}

/* A list that leads to itself, and one that leads to the last bytes. */
static void conf_clean_ends_on_a_broken_list(void **state)
{
	uint8_t conf[VF_CONF_LEN];

	(void)state;
	make_conf(conf);
	conf[0xa1] = 0x40;
	assert_int_equal(vf_conf_clean(conf, NULL), 0);
	conf[0xa1] = 0xfc;
	conf[0xfc] = PCI_CAP_ID_EXP;
	conf[0xfd] = 0xfe;
	assert_int_equal(vf_conf_clean(conf, NULL), 0);
}

static void reset_methods_are_of_one_function(void **state)
{
	static const struct { const char *has, *also, *may; } t[] = {
		{ "flr", "", "flr" }, { "flr bus", "", "flr" }, { "flr bus", "bus", "flr" }, { "device_specific flr pm bus", "", "device_specific flr" },
		{ "pm bus", "", NULL }, { "pm bus", "bus", "bus" }, { "pm bus", "pm", "pm" }, { "", "", NULL }, { "", "bus", NULL },
		{ "cxl_bus", "bus", NULL }, { "af_flr", "", "af_flr" }, { "xflr flrx", "", NULL },
	};
	char may[VF_NAME_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		assert_int_equal(vf_reset_methods(t[i].has, t[i].also, may), t[i].may ? 0 : -ENOTTY);
		assert_string_equal(may, t[i].may ? t[i].may : "");
	}
}

static const struct vf_settings nothing;

static void settings_left_are_those_of_an_owner(void **state)
{
	struct vf_settings is, declared = { .set = 1 << VF_VLAN, .vlan = 100 };

	(void)state;
	vf_settings_default(&is, VF_ALL_KEYS);
	assert_int_equal(vf_settings_left(&is, &nothing, &nothing), 0);
	is.vlan = 100;
	is.trust = true;
	assert_int_equal(vf_settings_left(&is, &nothing, &nothing), 1 << VF_VLAN | 1 << VF_TRUST);
	assert_int_equal(vf_settings_left(&is, &declared, &nothing), 1 << VF_TRUST);
	is.set &= ~(1u << VF_TRUST); /* a driver that does not say */
	assert_int_equal(vf_settings_left(&is, &nothing, &nothing), 1 << VF_VLAN);
}

static void settings_left_allows_a_mac_of_the_driver(void **state)
{
	struct vf_settings is, was, declared = { .set = 1 << VF_MAC, .mac = { 6 } };

	(void)state;
	vf_settings_default(&is, VF_ALL_KEYS);
	is.mac[0] = 2;
	was = is;
	assert_int_equal(vf_settings_left(&is, &nothing, &was), 1 << VF_MAC);
	is.mac[5] = 9;
	assert_int_equal(vf_settings_left(&is, &nothing, &was), 0);
	assert_int_equal(vf_settings_left(&is, &declared, &was), 1 << VF_MAC);
	declared.mac[0] = 0; /* it is declared to have none */
	assert_int_equal(vf_settings_left(&is, &declared, &was), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conf_clean_takes_a_vf_at_rest),
		cmocka_unit_test(conf_clean_refuses_what_is_left),
		cmocka_unit_test(conf_clean_refuses_a_device_that_is_gone),
		cmocka_unit_test(conf_clean_ends_on_a_broken_list),
		cmocka_unit_test(reset_methods_are_of_one_function),
		cmocka_unit_test(settings_left_are_those_of_an_owner),
		cmocka_unit_test(settings_left_allows_a_mac_of_the_driver),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
