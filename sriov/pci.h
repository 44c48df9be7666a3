/* pci.h - the configuration space of virtual functions as a PV guest sees it: Xen's pciif, served from user space.
 *
 *	guest's page and port --- pci.c (one op at a time, on a private copy) --- pci_conf.c (pure: what it sees, what it may) --- struct vf_conf_ops
 *
 * A guest's device "vf N" is one page, one port and up to PV_NOXS_VFS_MAX functions, at 0000:00:00.0, 0000:00:01.0 ... of the guest.
 * Results are 0 or -errno. Nothing here prints. Thread rule: a struct vf_pciif belongs to one thread. Internal; not installed.
 */
#ifndef VF_PCI_H
#define VF_PCI_H

#include <pvio/hyper.h>
#include <pvio/limit.h>
#include <pvio/noxs.h>
#include <stdbool.h>
#include <stdint.h>
#include <xen/io/pciif.h>

enum {
	VF_CONF_SEEN = 256, /* bytes of configuration space that a guest sees; beyond them, up to ... */
	VF_CONF_SPACE = 4096, /* ... these, it reads zeros */
	VF_BARS = 6,
	VF_PCIIF_OPS = 10000, /* a guest's ops a second: what a device driver needs is a few hundred when it starts */
};

/* ---- pci_conf.c: what a guest sees of one function, and what it may change. Pure. ---- */

/* The function's own configuration space. offset is aligned to size: 1, 2 or 4. 0 or -errno. */
struct vf_conf_ops {
	int (*read)(void *ctx, unsigned offset, unsigned size, uint32_t *value);
	int (*write)(void *ctx, unsigned offset, unsigned size, uint32_t value);
};

/* What a VF's own configuration space does not say, since it is in its PF's: sysfs has it. */
struct vf_conf_dev {
	uint16_t vendor, device;
	struct vf_conf_bar {
		uint64_t start, size; /* size a power of two, or 0: none. A 64-bit one is followed by one without size */
		uint8_t flags; /* the low four bits of its register */
	} bar[VF_BARS];
};

/* Owner: who serves the function. Each byte has a value, and three masks that say what a bit is. */
struct vf_conf {
	const struct vf_conf_ops *ops;
	void *ctx; /* of ops */
	struct vf_conf_bits {
		uint8_t value[VF_CONF_SEEN]; /* what is read, but for the bits in ... */
		uint8_t real[VF_CONF_SEEN]; /* ... these, which are read from the function */
		uint8_t latch[VF_CONF_SEEN]; /* may be written, and mean nothing to the function */
		uint8_t pass[VF_CONF_SEEN]; /* may be written, and are written to the function */
	} bits;
	uint32_t bar[VF_BARS], probed[VF_BARS]; /* what the register is, and is while its size is being asked for */
	uint8_t msi, msix; /* where these capabilities are; 0: it has none */
	uint16_t msix_entries; /* 1..2048 */
	uint64_t msix_table; /* where the BAR with the table begins, as Xen wants to hear it */
};

/* Read the function once, and make *c. -EIO, -errno of ops; -EINVAL: not the configuration space of a VF (header type, capabilities or
 * BARs that make no sense). */
int vf_conf_init(struct vf_conf *c, const struct vf_conf_dev *dev, const struct vf_conf_ops *ops, void *ctx);

/* A guest's access. -EINVAL: no such register (size, alignment, beyond the end); -errno of ops. What a guest may not write is dropped, without an error. */
int vf_conf_read(struct vf_conf *c, uint32_t offset, uint32_t size, uint32_t *value);
int vf_conf_write(struct vf_conf *c, uint32_t offset, uint32_t size, uint32_t value);

/* Go on with what `value` (of an earlier struct vf_conf_bits of the same function) had been written. */
void vf_conf_restore(struct vf_conf *c, const uint8_t value[VF_CONF_SEEN]);

/* Ours: turn MSI or MSI-X (all entries masked first) on and off, and at the end all that a guest may have left on. */
int vf_conf_msi(struct vf_conf *c, bool on);
enum vf_msix { VF_MSIX_OFF, VF_MSIX_MASKED, VF_MSIX_ON };
int vf_conf_msix(struct vf_conf *c, enum vf_msix to);
int vf_conf_quiet(struct vf_conf *c); /* no interrupts, no DMA */

/* ---- pci.c: the page ---- */

/* The interrupts of a function, in the guest (on Xen: xen.h). table as vf_conf.msix_table, 0: its MSI. 0 or -errno. */
struct vf_pirq_ops {
	int (*map)(void *ctx, unsigned function, unsigned entry, uint64_t table, int *pirq); /* *pirq: 1..65535 */
	int (*unmap)(void *ctx, unsigned function); /* all of them; none: 0 */
};

/* Of one function: what has to outlive this process for the next one to go on. Plain memory, whole at every instant. */
struct vf_kept {
	uint8_t value[VF_CONF_SEEN]; /* as in struct vf_conf_bits */
	uint32_t nr; /* pirqs in use: the first of pirq[] */
	uint32_t msix; /* of MSI-X; else of MSI */
	uint32_t asked; /* while the answer to enable_msix is written over the number of entries that it named: that (in the first function) */
	struct xen_msix_entry pirq[SH_INFO_MAX_VEC]; /* entry and its pirq (vector) */
};

struct vf_function {
	struct vf_conf conf;
	struct vf_kept *kept; /* the owner's, zeroed at first */
};

struct vf_pciif_counts {
	uint64_t ops, reads, writes, enables, refused, throttled, events;
};

/* Owner: who serves the device. */
struct vf_pciif {
	struct vf_function *function;
	unsigned nr;
	const struct vf_pirq_ops *pirq;
	void *ctx; /* of pirq */
	struct xen_pci_sharedinfo *page; /* NULL: not connected */
	struct pv_limit limit;
	struct vf_pciif_counts counts;
};

/* Carry out one op, which is the caller's copy: err, value and the entries are the answer. */
void vf_pciif_op(struct vf_pciif *p, struct xen_pci_op *op);

/* Look at the page after an event. 1: an op was answered, notify the guest; 0: there was none; -EAGAIN: it asked for too many, come back at *until
 * (ticks, as now: of the second given to vf_pciif_open). */
int vf_pciif_work(struct vf_pciif *p, uint64_t now, uint64_t *until);

/* The page is mapped: begin, or go on with what is kept. */
void vf_pciif_open(struct vf_pciif *p, void *page, uint64_t ticks_second, uint64_t now);

/* The guest lets go, or died: its interrupts are unmapped, and the functions are quiet. The first -errno, having done all. */
int vf_pciif_close(struct vf_pciif *p);

#endif
