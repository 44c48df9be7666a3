/* fuzz_pciif.c - the page of a vf: a configuration space bent here and there, then a program of a guest: ops of any kind, scribbling on the page,
 * a server that is killed and followed by another, the end. */
#include "fuzz.h"
#include "tests/unit/vf_function.h"

enum { FUNCTIONS = 2, SECOND = 1000000000 };

static struct fn fn[FUNCTIONS];
static struct vf_kept kept[FUNCTIONS];
static struct vf_function function[FUNCTIONS];
static struct vf_pciif p;
static _Alignas(4096) union {
	uint8_t bytes[4096];
	struct xen_pci_sharedinfo info;
} page;
static uint64_t now;

static void serve_anew(void)
{
	p = (struct vf_pciif){ .function = function, .nr = FUNCTIONS, .pirq = &fn_pirq_ops, .ctx = fn };
	vf_pciif_open(&p, &page, SECOND, now);
}

/* Some bytes of the space are others than a VF has. */
static bool bend(struct input *in, unsigned i)
{
	fn_init(&fn[i]);
	function[i].kept = &kept[i];
	for (unsigned n = take8(in) % 4; n; n--)
		fn[i].space[take8(in)] = take8(in);
	return vf_conf_init(&function[i].conf, &fn_dev, &fn_ops, &fn[i]) == 0;
}

/* Which bits of a function a guest can have changed: DMA, and the switches of its interrupts. */
static uint8_t changeable(const struct vf_conf *c, unsigned at)
{
	uint8_t bits = at == PCI_COMMAND ? PCI_COMMAND_MASTER : 0;

	if (c->msi && at == c->msi + PCI_MSI_FLAGS)
		bits |= PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE;
	if (c->msix && at == c->msix + PCI_MSIX_FLAGS + 1u)
		bits |= (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
	return bits;
}

static void check(const struct fn *before, const struct fn *after, const struct vf_function *f)
{
	unsigned mapped = fn_mapped(after);

	for (unsigned at = 0; at < VF_CONF_SEEN; at++)
		MUST(before->space[at] == after->space[at] || !((before->space[at] ^ after->space[at]) & ~changeable(&f->conf, at)));
	MUST(!memcmp(before->space + VF_CONF_SEEN, after->space + VF_CONF_SEEN, VF_CONF_SPACE - VF_CONF_SEEN));
	MUST(f->kept->nr == mapped);
	MUST(f->kept->nr <= SH_INFO_MAX_VEC);
	for (uint32_t i = 0; i < f->kept->nr; i++)
		MUST(f->kept->pirq[i].vector && f->kept->pirq[i].entry < (f->kept->msix ? f->conf.msix_entries : 1));
}

static void fill_op(struct input *in)
{
	struct xen_pci_op *op = &page.info.op;
	uint8_t how = take8(in);

	op->cmd = how & 1 ? take32(in) : take8(in) % 12;
	op->domain = how & 2 ? take32(in) : 0;
	op->bus = how & 4 ? take32(in) : 0;
	op->devfn = how & 8 ? take32(in) : 8u * (take8(in) % 3);
	op->offset = how & 16 ? (int32_t)take32(in) : take16(in) % VF_CONF_SPACE;
	op->size = how & 32 ? (int32_t)take32(in) : 1 << take8(in) % 3;
	op->value = how & 64 ? take32(in) : take8(in);
	for (unsigned i = 0; how & 128 && i < SH_INFO_MAX_VEC; i++)
		op->msix_entries[i] = (struct xen_msix_entry){ .entry = (uint16_t)(i + take8(in) % 2) };
	page.info.flags |= XEN_PCIF_active;
}

/* One turn of the server: what is written is an answer. */
static void turn(void)
{
	static struct xen_pci_sharedinfo before;
	uint64_t until;
	int rc;

	before = page.info;
	now += SECOND / 2000;
	rc = vf_pciif_work(&p, now, &until);
	MUST(rc == 0 || rc == 1 || (rc == -EAGAIN && until > now));
	if (rc == 1) {
		MUST(page.info.op.err <= 0 && page.info.op.err >= XEN_PCI_ERR_op_failed);
		before.flags &= ~(uint32_t)XEN_PCIF_active;
		before.op.err = page.info.op.err;
		before.op.value = page.info.op.value;
		memcpy(before.op.msix_entries, page.info.op.msix_entries, sizeof(before.op.msix_entries));
	}
	MUST(!memcmp(&before, &page.info, sizeof(before)));
}

static void run(struct input *in)
{
	struct fn before[FUNCTIONS];

	memcpy(before, fn, sizeof(before));
	while (in->left) {
		switch (take8(in) % 8) {
		case 0: page.bytes[take16(in) % 4096] = take8(in); break;
		case 1: serve_anew(); break;
		case 2: fn[0].map_fails_at = take8(in) % 8; break;
		case 3: fn[0].map_fails_at = -1; break;
		default: fill_op(in);
		}
		turn();
		for (unsigned i = 0; i < FUNCTIONS; i++)
			check(&before[i], &fn[i], &function[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };

	memset(&page, 0, sizeof(page));
	memset(kept, 0, sizeof(kept));
	now = SECOND;
	if (!bend(&in, 0) || !bend(&in, 1))
		return 0;
	serve_anew();
	run(&in);
	MUST(vf_pciif_close(&p) == 0);
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		MUST(!fn_mapped(&fn[i]) && !(fn[i].space[PCI_COMMAND] & PCI_COMMAND_MASTER));
		MUST(!function[i].conf.msix || !(fn[i].space[function[i].conf.msix + PCI_MSIX_FLAGS + 1] & PCI_MSIX_FLAGS_ENABLE >> 8));
	}
	return 0;
}
