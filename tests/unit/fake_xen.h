/* fake_xen.h - for the tests of what is assigned: Xen with one guest and one virtual function, as a table in shared memory, so that it outlives the process
 * that is killed. It refuses what the real one does. */
#ifndef FAKE_XEN_H
#define FAKE_XEN_H

#include "sriov/xen.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <xen/xen.h>

enum { GUEST = 7, SBDF = 1 << 8 | 0x10 << 3, PIRQS = 8 };

struct fake {
	struct vf_xen xen;
	struct vf_xen_domain guest;
	bool there; /* the guest */
	bool no_iommu; /* it was made without */
	uint16_t holder;
	bool quarantined; /* what is taken from a guest goes there, not to domain 0 */
	unsigned ranges; /* of memory that the guest may map */
	bool pirq[PIRQS];
	unsigned calls, fail_at;
	int error;
};

static struct fake *xen;

/* The n-th call fails, and has done nothing. */
static bool fails(void)
{
	return ++xen->calls == xen->fail_at;
}

static int fake_look(struct vf_xen *x, uint16_t domid, struct vf_xen_domain *out)
{
	(void)x;
	*out = xen->guest;
	return domid == GUEST && xen->there ? 0 : -ESRCH;
}

static int fake_assign(struct vf_xen *x, uint16_t domid, uint32_t sbdf)
{
	(void)x;
	assert_int_equal(sbdf, SBDF);
	if (fails())
		return xen->error;
	if (domid == GUEST && xen->no_iommu)
		return -EOPNOTSUPP;
	if (xen->holder == GUEST)
		return -EBUSY;
	xen->holder = domid;
	xen->quarantined |= domid == DOMID_IO;
	return 0;
}

static int fake_deassign(struct vf_xen *x, uint16_t domid, uint32_t sbdf)
{
	(void)x;
	assert_int_equal(sbdf, SBDF);
	if (fails())
		return xen->error;
	if (domid == GUEST && xen->no_iommu)
		return -EOPNOTSUPP;
	if (xen->holder != domid)
		return -ENODEV;
	xen->quarantined &= domid != DOMID_IO;
	xen->holder = xen->quarantined ? DOMID_IO : 0;
	return 0;
}

static int fake_is_free(struct vf_xen *x, uint32_t sbdf)
{
	(void)x, (void)sbdf;
	return xen->holder == GUEST ? -EBUSY : 0;
}

static int fake_memory(struct vf_xen *x, uint16_t domid, uint64_t mfn, uint64_t count, bool allow)
{
	unsigned bit = mfn == 0xfe000 ? 1 : 2;

	(void)x;
	assert_int_equal(domid, GUEST);
	assert_true((mfn == 0xfe000 && count == 4) || (mfn == 0xfe020 && count == 1));
	if (fails())
		return xen->error;
	xen->ranges = allow ? xen->ranges | bit : xen->ranges & ~bit;
	return 0;
}

static int fake_irq_map(struct vf_xen *x, uint16_t domid, uint32_t sbdf, unsigned entry, uint64_t table, int *pirq)
{
	(void)x, (void)entry, (void)table;
	assert_int_equal(domid, GUEST);
	assert_int_equal(sbdf, SBDF);
	if (fails())
		return xen->error;
	for (*pirq = 0; xen->pirq[*pirq]; (*pirq)++)
		assert_true(*pirq < PIRQS);
	xen->pirq[*pirq] = true;
	return 0;
}

static int fake_irq_unmap(struct vf_xen *x, uint16_t domid, int pirq)
{
	(void)x;
	assert_int_equal(domid, GUEST);
	if (fails())
		return xen->error;
	if (!xen->pirq[pirq])
		return -EINVAL;
	xen->pirq[pirq] = false;
	return 0;
}

/* libxl leaves a device in quarantine, as Xen does by default. */
static int fake_xl(struct vf_xen *x, bool attach, uint16_t domid, const char *bdf, struct vf_why *w)
{
	(void)x;
	assert_int_equal(domid, GUEST);
	assert_string_equal(bdf, "0000:01:10.0");
	if (fails() || (xen->holder == GUEST) == attach)
		return vf_fail(w, -EIO, "xl says no");
	xen->holder = attach ? GUEST : DOMID_IO;
	return 0;
}

static const struct vf_xen_ops ops = {
	.look = fake_look, .assign = fake_assign, .deassign = fake_deassign, .is_free = fake_is_free, .memory = fake_memory,
	.irq_map = fake_irq_map, .irq_unmap = fake_irq_unmap, .xl = fake_xl,
};

/* What its BARs are. */
#define FAKE_RESOURCE "0x00000000fe000000 0x00000000fe003fff 0x0000000000140204\n0x0000000000000000 0x0000000000000000 0x0000000000000000\n" \
		      "0x000000000000c000 0x000000000000c01f 0x0000000000040101\n0x00000000fe020000 0x00000000fe0207ff 0x0000000000140204\n"

static void fake_xen_up(void)
{
	xen = mmap(NULL, sizeof(*xen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(xen != MAP_FAILED);
}

static void fake_xen_fresh(void)
{
	*xen = (struct fake){ .xen.ops = &ops, .there = true, .guest = { .type = VF_XEN_PV, .uuid = "0123456789abcde" } };
}

#endif
