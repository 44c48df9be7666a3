/* vf_function.h - for tests: a virtual function as igb's are, and what its configuration space would do; and what Xen would do with its
 * interrupts. Beside what igb's have there is power management, MSI and a capability that nobody knows. */
#ifndef VF_FUNCTION_H
#define VF_FUNCTION_H

#include "sriov/pci.h"
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

enum { FN_PM = 0x40, FN_MSI = 0x50, FN_VENDOR = 0x60, FN_MSIX = 0x70, FN_PCIE = 0xa0, FN_VECTORS = 5, FN_PIRQS = 64 };

struct fn {
	uint8_t space[VF_CONF_SPACE];
	unsigned reads, writes;
	uint32_t last_offset, last_size, last_value; /* written */
	int fail; /* -errno of each access */
	/* Xen's side: pirqs that are mapped, by entry + 1; MSI is 0 */
	int pirq[FN_PIRQS + 1], next_pirq, map_fails_at, unmap_fails;
	unsigned maps, unmaps;
	uint16_t masked_at_map; /* MSI-X control when the first was mapped */
};

static const struct vf_conf_dev fn_dev = {
	.vendor = 0x8086, .device = 0x10ca,
	.bar = { [0] = { 0x80001c000, 0x4000, 0xc }, [3] = { 0x80003c000, 0x4000, 0xc } },
};

static inline void fn_put16(struct fn *f, unsigned at, uint16_t v)
{
	f->space[at] = (uint8_t)v;
	f->space[at + 1] = (uint8_t)(v >> 8);
}

static inline void fn_put32(struct fn *f, unsigned at, uint32_t v)
{
	fn_put16(f, at, (uint16_t)v);
	fn_put16(f, at + 2, (uint16_t)(v >> 16));
}

static inline uint32_t fn_get(const struct fn *f, unsigned at, unsigned size)
{
	uint32_t v = 0;

	memcpy(&v, f->space + at, size);
	return v;
}

static inline void fn_capability(struct fn *f, uint8_t at, uint8_t id, uint8_t next)
{
	f->space[at] = id;
	f->space[at + 1] = next;
}

static inline void fn_init(struct fn *f)
{
	*f = (struct fn){ .next_pirq = 17, .map_fails_at = -1 };
	fn_put32(f, PCI_VENDOR_ID, 0xffffffff);
	fn_put16(f, PCI_STATUS, PCI_STATUS_CAP_LIST | PCI_STATUS_REC_MASTER_ABORT);
	fn_put32(f, PCI_CLASS_REVISION, 0x02000001);
	fn_put32(f, PCI_SUBSYSTEM_VENDOR_ID, 0xa03c8086);
	f->space[PCI_HEADER_TYPE] = 0x80;
	f->space[PCI_CAPABILITY_LIST] = FN_PM;
	fn_capability(f, FN_PM, PCI_CAP_ID_PM, FN_MSI);
	fn_put16(f, FN_PM + PCI_PM_PMC, 0xc823);
	fn_capability(f, FN_MSI, PCI_CAP_ID_MSI, FN_VENDOR);
	fn_put16(f, FN_MSI + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 0x0a);
	fn_put32(f, FN_MSI + PCI_MSI_ADDRESS_LO, 0xfee01000);
	fn_capability(f, FN_VENDOR, PCI_CAP_ID_VNDR, FN_MSIX);
	fn_put32(f, FN_VENDOR + 4, 0x12345678);
	fn_capability(f, FN_MSIX, PCI_CAP_ID_MSIX, FN_PCIE);
	fn_put16(f, FN_MSIX + PCI_MSIX_FLAGS, FN_VECTORS - 1);
	fn_put32(f, FN_MSIX + PCI_MSIX_TABLE, 3);
	fn_put32(f, FN_MSIX + PCI_MSIX_PBA, 0x2003);
	fn_capability(f, FN_PCIE, PCI_CAP_ID_EXP, 0);
	fn_put16(f, FN_PCIE + PCI_EXP_FLAGS, 0x0002);
	fn_put32(f, FN_PCIE + PCI_EXP_DEVCAP, 0x10008cc2);
	fn_put32(f, 0x100, 0x14820001); /* extended: AER */
}

static inline int fn_read(void *ctx, unsigned offset, unsigned size, uint32_t *value)
{
	struct fn *f = ctx;

	f->reads++;
	*value = fn_get(f, offset, size);
	return f->fail;
}

static inline int fn_write(void *ctx, unsigned offset, unsigned size, uint32_t value)
{
	struct fn *f = ctx;

	f->writes++;
	f->last_offset = offset;
	f->last_size = size;
	f->last_value = value;
	if (!f->fail)
		memcpy(f->space + offset, &value, size);
	return f->fail;
}

static const struct vf_conf_ops fn_ops = { fn_read, fn_write };

/* ---- interrupts; ctx: an array of struct fn ---- */

static inline int fn_map(void *ctx, unsigned function, unsigned entry, uint64_t table, int *pirq)
{
	struct fn *f = (struct fn *)ctx + function;
	unsigned i = table ? entry + 1 : 0;

	if (!f->maps++)
		f->masked_at_map = (uint16_t)fn_get(f, FN_MSIX + PCI_MSIX_FLAGS, 2);
	if (f->map_fails_at == (int)entry)
		return -ENOSPC;
	if (i > FN_PIRQS || f->pirq[i])
		return -EEXIST; /* as Xen */
	*pirq = f->pirq[i] = f->next_pirq++;
	return 0;
}

static inline int fn_unmap(void *ctx, unsigned function)
{
	struct fn *f = (struct fn *)ctx + function;

	f->unmaps++;
	memset(f->pirq, 0, sizeof(f->pirq));
	return f->unmap_fails;
}

static const struct vf_pirq_ops fn_pirq_ops = { fn_map, fn_unmap };

static inline unsigned fn_mapped(const struct fn *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i <= FN_PIRQS; i++)
		n += f->pirq[i] != 0;
	return n;
}

#endif
