/* pci.c - the page of xen/io/pciif.h, served: one op at a time, on a private copy, within a budget.
 *
 * Theory of operation. The guest writes an op into the page, sets a flag and notifies; it then waits, looking at nothing but the flag. So there
 * is one op for an event, whatever the guest does to the flag meanwhile. The op is copied once, each word by one load; the copy is checked
 * and carried out, and only what is an answer is written back. What an op costs is bounded: a few accesses to the function; or, to
 * switch MSI-X on, up to 128 calls of Xen, once, for what is on is not switched on again. A process that was killed before it
 * answered leaves the flag set: its successor carries the op out again, which each op allows.
 */
#include "pci.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <xen/grant_table.h>

enum { OP_WORDS = offsetof(struct xen_pci_op, msix_entries) / 4, MSI_VECTORS = 1 };

_Static_assert(sizeof(struct xen_pci_sharedinfo) <= 4096, "one page");
_Static_assert(sizeof(struct xen_msix_entry) == 4, "copied as words");

/* ---- ops ---- */

static int error_of(int rc)
{
	switch (rc) {
	case 0:
		return XEN_PCI_ERR_success;
	case -EINVAL:
		return XEN_PCI_ERR_invalid_offset;
	case -EPERM:
		return XEN_PCI_ERR_access_denied;
	case -ENOSYS:
		return XEN_PCI_ERR_not_implemented;
	default:
		return XEN_PCI_ERR_op_failed;
	}
}

static unsigned index_of(const struct vf_pciif *p, const struct vf_function *f)
{
	return (unsigned)(f - p->function);
}

/* Function n is alone in slot n of the guest's only bus. */
static struct vf_function *function_at(struct vf_pciif *p, const struct xen_pci_op *op)
{
	if (op->domain || op->bus || op->devfn % 8 || op->devfn / 8 >= p->nr)
		return NULL;
	return &p->function[op->devfn / 8];
}

static int op_read(struct vf_pciif *p, struct vf_function *f, struct xen_pci_op *op)
{
	p->counts.reads++;
	return vf_conf_read(&f->conf, (uint32_t)op->offset, (uint32_t)op->size, &op->value);
}

static int op_write(struct vf_pciif *p, struct vf_function *f, struct xen_pci_op *op)
{
	int rc;

	p->counts.writes++;
	rc = vf_conf_write(&f->conf, (uint32_t)op->offset, (uint32_t)op->size, op->value);
	memcpy(f->kept->value, f->conf.bits.value, sizeof(f->kept->value));
	return rc;
}

/* Off, and forgotten: in an order that leaves no interrupt on its way that Xen does not know of. */
static int interrupts_off(struct vf_pciif *p, struct vf_function *f)
{
	int msi = vf_conf_msi(&f->conf, false), msix = vf_conf_msix(&f->conf, VF_MSIX_OFF), rc = p->pirq->unmap(p->ctx, index_of(p, f));

	f->kept->nr = 0;
	return rc < 0 ? rc : msi < 0 ? msi : msix;
}

/* Each entry lies in the table, and is there once: so they are not more than it has. */
static int entries_check(const struct vf_function *f, const struct xen_msix_entry *e, uint32_t n)
{
	if (!f->conf.msix || n < 1 || n > SH_INFO_MAX_VEC)
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++) {
		if (e[i].entry >= f->conf.msix_entries)
			return -EINVAL;
		for (uint32_t k = 0; k < i; k++)
			if (e[k].entry == e[i].entry)
				return -EINVAL;
	}
	return 0;
}

static int map_all(struct vf_pciif *p, struct vf_function *f, struct xen_msix_entry *e, uint32_t n, uint64_t table)
{
	for (uint32_t i = 0; i < n; i++) {
		int pirq = 0, rc = p->pirq->map(p->ctx, index_of(p, f), e[i].entry, table, &pirq);

		if (rc < 0)
			return rc;
		if (pirq < 1 || pirq > UINT16_MAX) /* it would not fit into the answer */
			return -ERANGE;
		e[i].vector = (uint16_t)pirq;
	}
	return 0;
}

static void keep_pirqs(struct vf_function *f, const struct xen_msix_entry *e, uint32_t n, bool msix)
{
	memcpy(f->kept->pirq, e, n * sizeof(*e));
	f->kept->msix = msix;
	__atomic_store_n(&f->kept->nr, n, __ATOMIC_RELEASE); /* last: a successor finds all or nothing */
}

/* Is just that on? Then a predecessor did it and was killed before it answered, or the guest asks again. */
static bool is_on(const struct vf_function *f, const struct xen_msix_entry *e, uint32_t n, bool msix)
{
	if (f->kept->nr != n || !f->kept->msix != !msix)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (f->kept->pirq[i].entry != e[i].entry)
			return false;
	return true;
}

/* Interrupts for these entries: what is not known to Xen must not come, so all are masked, or off, until they are. */
static int interrupts_on(struct vf_pciif *p, struct vf_function *f, struct xen_msix_entry *e, uint32_t n, bool msix)
{
	int rc = 0;

	if (f->kept->nr && !is_on(f, e, n, msix))
		return -EPERM; /* off first */
	if (f->kept->nr) {
		memcpy(e, f->kept->pirq, n * sizeof(*e));
		return 0;
	}
	p->counts.enables++;
	if (msix)
		rc = vf_conf_msix(&f->conf, VF_MSIX_MASKED);
	if (rc == 0)
		rc = map_all(p, f, e, n, msix ? f->conf.msix_table : 0);
	if (rc == 0)
		rc = msix ? vf_conf_msix(&f->conf, VF_MSIX_ON) : vf_conf_msi(&f->conf, true);
	if (rc == 0)
		keep_pirqs(f, e, n, msix);
	else
		interrupts_off(p, f);
	return rc;
}

static int op_enable_msix(struct vf_pciif *p, struct vf_function *f, struct xen_pci_op *op)
{
	uint32_t n = op->value;
	int rc = entries_check(f, op->msix_entries, n);

	if (rc == 0)
		rc = interrupts_on(p, f, op->msix_entries, n, true);
	op->value = rc < 0;
	return rc;
}

static int op_enable_msi(struct vf_pciif *p, struct vf_function *f, struct xen_pci_op *op)
{
	struct xen_msix_entry e = { .entry = 0 };
	int rc = f->conf.msi ? interrupts_on(p, f, &e, MSI_VECTORS, false) : -EINVAL;

	op->value = rc < 0 ? 0 : e.vector;
	return rc;
}

static int op_disable(struct vf_pciif *p, struct vf_function *f, struct xen_pci_op *op)
{
	op->value = 0;
	return interrupts_off(p, f);
}

static int (*const commands[])(struct vf_pciif *p, struct vf_function *f, struct xen_pci_op *op) = {
	[XEN_PCI_OP_conf_read] = op_read,
	[XEN_PCI_OP_conf_write] = op_write,
	[XEN_PCI_OP_enable_msi] = op_enable_msi,
	[XEN_PCI_OP_disable_msi] = op_disable,
	[XEN_PCI_OP_enable_msix] = op_enable_msix,
	[XEN_PCI_OP_disable_msix] = op_disable,
};

void vf_pciif_op(struct vf_pciif *p, struct xen_pci_op *op)
{
	struct vf_function *f = function_at(p, op);

	p->counts.ops++;
	if (op->cmd >= sizeof(commands) / sizeof(commands[0]))
		op->err = XEN_PCI_ERR_not_implemented;
	else if (!f) /* a guest looks into every slot: that is no misdeed */
		op->err = XEN_PCI_ERR_dev_not_found;
	else
		op->err = error_of(commands[op->cmd](p, f, op));
	p->counts.refused += f && op->err != XEN_PCI_ERR_success;
}

/* ---- the page ---- */

static uint32_t load(const void *word)
{
	return __atomic_load_n((const uint32_t *)word, __ATOMIC_RELAXED);
}

static void store(void *word, uint32_t value)
{
	__atomic_store_n((uint32_t *)word, value, __ATOMIC_RELAXED);
}

/* Each word once. */
static void take(const struct xen_pci_sharedinfo *page, struct xen_pci_op *op)
{
	uint32_t words[OP_WORDS];

	for (unsigned i = 0; i < OP_WORDS; i++)
		words[i] = load((const uint32_t *)&page->op + i);
	memset(op, 0, sizeof(*op));
	memcpy(op, words, sizeof(words));
	if (op->cmd != XEN_PCI_OP_enable_msix || op->value > SH_INFO_MAX_VEC)
		return;
	for (unsigned i = 0; i < op->value; i++) {
		uint32_t word = load(&page->op.msix_entries[i]);

		memcpy(&op->msix_entries[i], &word, sizeof(word));
	}
}

/* What is an answer, and nothing else of ours. n: entries that were asked for; the answer overwrites that number. */
static void answer(struct xen_pci_sharedinfo *page, const struct xen_pci_op *op, uint32_t n, uint32_t *asked)
{
	__atomic_store_n(asked, n, __ATOMIC_RELEASE); /* until the flag is cleared, for a successor: resume */
	for (unsigned i = 0; op->err == XEN_PCI_ERR_success && i < n; i++) {
		uint32_t word;

		memcpy(&word, &op->msix_entries[i], sizeof(word));
		store(&page->op.msix_entries[i], word);
	}
	store(&page->op.value, op->value);
	store(&page->op.err, (uint32_t)op->err);
	__atomic_fetch_and(&page->flags, ~(uint32_t)XEN_PCIF_active, __ATOMIC_RELEASE); /* pairs with the guest's load of the flag */
	__atomic_store_n(asked, 0, __ATOMIC_RELEASE);
}

/* A predecessor may have been killed between the first and the last store of an answer. */
static void resume(struct xen_pci_sharedinfo *page, uint32_t *asked)
{
	if (*asked && load(&page->flags) & XEN_PCIF_active && load(&page->op.cmd) == XEN_PCI_OP_enable_msix && !load(&page->op.value))
		store(&page->op.value, *asked);
	*asked = 0;
}

int vf_pciif_work(struct vf_pciif *p, uint64_t now, uint64_t *until)
{
	struct xen_pci_op op;
	uint32_t n;

	if (!pv_limit_credit(&p->limit, 0, now, 1, until)) {
		p->counts.throttled++;
		return -EAGAIN;
	}
	pv_limit_charge(&p->limit, 0, 1); /* an event without an op costs the same */
	p->counts.events++;
	if (!p->page || !(__atomic_load_n(&p->page->flags, __ATOMIC_ACQUIRE) & XEN_PCIF_active)) /* pairs with the guest's setting it */
		return 0;
	take(p->page, &op);
	n = op.cmd == XEN_PCI_OP_enable_msix ? op.value : 0;
	vf_pciif_op(p, &op);
	answer(p->page, &op, n, &p->function[0].kept->asked);
	return 1;
}

void vf_pciif_open(struct vf_pciif *p, void *page, uint64_t ticks_second, uint64_t now)
{
	p->page = page;
	pv_limit_init(&p->limit, 0, VF_PCIIF_OPS, 0, ticks_second, now);
	for (unsigned i = 0; i < p->nr; i++)
		vf_conf_restore(&p->function[i].conf, p->function[i].kept->value);
	resume(page, &p->function[0].kept->asked);
}

int vf_pciif_close(struct vf_pciif *p)
{
	int ret = 0;

	p->page = NULL;
	for (unsigned i = 0; i < p->nr; i++) {
		struct vf_function *f = &p->function[i];
		int off = interrupts_off(p, f), quiet = vf_conf_quiet(&f->conf);

		memset(f->kept, 0, sizeof(*f->kept));
		ret = ret < 0 ? ret : off < 0 ? off : quiet;
	}
	return ret;
}
