/* noxs.h - announcing and connecting devices through shared pages: layouts, and accessors for both ends.
 *
 * NOXS.md is the specification. In short:
 *   pointer       20 bytes that the guest finds first: where its device page is
 *   device page   one a guest, pviod's, granted read-only: which devices there are (a seqlock protects it)
 *   control page  one a device, pviod's, writable by the guest: the offer half is written by pviod and never read back,
 *                 the choice half is the guest's; pviod takes one snapshot a change of state and checks only that
 * States are XenbusState's numbers (xen/io/xenbus.h). All integers are little-endian, all reserved bytes 0.
 * Thread rule: plain functions on memory; one writer an end.
 */
#ifndef PV_NOXS_H
#define PV_NOXS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xen/io/xenbus.h>

enum {
	PV_NOXS_MAGIC = 0x73786f6e, /* "noxs" */
	PV_NOXS_VERSION = 1,
	PV_NOXS_POINTER_OFFSET = 2560, /* of the pointer in the store page */
	PV_NOXS_POINTER_TEXT = 44, /* bytes that the pointer as text needs at most, with its NUL */
	PV_NOXS_ENTRIES = 126, /* a device page */
	PV_NOXS_QUEUES_MAX = 16,
	PV_NOXS_RING_PAGES_MAX = 16, /* order 4 */
	PV_NOXS_PIPE_VERSION = 1,
	PV_NOXS_VFS_MAX = 32, /* functions of a vf: one in each slot of the guest's bus */
	PV_NOXS_CHOICE_OFFSET = 2048, /* of the choice half in the control page */
	PV_NOXS_HEADROOM_MAX = 2048, /* bytes before a received packet: more would leave too little of its pages */
};

#define PV_NOXS_POINTER_NODE "device/pvio" /* relative to the guest's home in XenStore */

enum pv_noxs_type { PV_NOXS_NONE, PV_NOXS_VIF, PV_NOXS_VBD, PV_NOXS_VF, PV_NOXS_SYSCTL, PV_NOXS_PIPE };

struct pv_noxs_pointer {
	uint32_t magic;
	uint32_t version;
	uint32_t generation; /* changes with gref and port, and when pviod was restarted */
	uint32_t gref; /* device page, granted by backend domain 0 */
	uint32_t port; /* of domain 0, waits for the guest: notified when the device page changes */
};

struct pv_noxs_entry {
	uint16_t type; /* enum pv_noxs_type; PV_NOXS_NONE: a hole */
	uint16_t state; /* the backend's XenbusState, as in the offer */
	uint16_t backend_domid; /* whom the frontend grants its pages and offers its ports */
	uint16_t reserved0;
	uint32_t devid; /* vif: 0, 1 ...; vbd: xvda = 51712 and so on */
	uint32_t control_gref;
	uint32_t port; /* of domain 0, waits for the guest: this device's changes of state, both ways */
	uint32_t generation; /* grows whenever the entry is used anew or must be connected anew */
	uint32_t reserved1[2];
};

struct pv_noxs_device_page {
	uint32_t magic;
	uint32_t version;
	uint32_t generation; /* odd while it is being written */
	uint32_t domid; /* the guest's */
	uint32_t next_gref; /* the next device page, 0: none */
	uint32_t reserved[11];
	struct pv_noxs_entry entries[PV_NOXS_ENTRIES];
};

/* Bits of vif features, offered and chosen. rx-copy goes without saying. */
enum {
	PV_VIF_SG = 1 << 0,
	PV_VIF_CSUM_IPV4 = 1 << 1, /* blank checksums may be sent this way */
	PV_VIF_CSUM_IPV6 = 1 << 2,
	PV_VIF_GSO_TCPV4 = 1 << 3,
	PV_VIF_GSO_TCPV6 = 1 << 4,
	PV_VIF_MCAST_CONTROL = 1 << 5, /* offered: the guest may change its filter; chosen: the filter is applied */
	PV_VIF_CTRL_RING = 1 << 6, /* chosen: ctrl_gref and ctrl_port say where */
	PV_VIF_HEADROOM = 1 << 7, /* chosen: headroom says how much */
	PV_VIF_NO_RX_NOTIFY = 1 << 8, /* chosen: the guest does not tell when it posts pages; it is looked at instead */
	PV_VIF_FEATURES = PV_VIF_NO_RX_NOTIFY * 2 - 1, /* all of them */
	PV_VIF_CHANGEABLE = PV_VIF_MCAST_CONTROL | PV_VIF_HEADROOM, /* what a frontend may choose anew while it is connected */
};

/* A vif that forms one NIC with a virtual function (VF) of the same address: which of the two sends. */
enum pv_vif_pair {
	PV_VIF_ALONE, /* offered: there is no VF; chosen: the frontend does not say */
	PV_VIF_USE_VIF, /* offered: leave the VF, it is about to go or is not there; chosen: it was left */
	PV_VIF_USE_VF, /* offered: use the VF as long as it works; chosen: it is used */
};

enum {
	PV_VBD_FLUSH = 1 << 0,
	PV_VBD_BARRIER = 1 << 1,
	PV_VBD_DISCARD = 1 << 2,
	PV_VBD_SECURE_DISCARD = 1 << 3,
	PV_VBD_PERSISTENT = 1 << 4,
};

enum pv_vbd_abi { PV_VBD_ABI_NATIVE, PV_VBD_ABI_X86_32, PV_VBD_ABI_X86_64 };

struct pv_noxs_vif_offer {
	uint8_t mac[6];
	uint16_t queues_max;
	uint32_t mtu; /* bytes, without the Ethernet header */
	uint32_t features; /* PV_VIF_*: what the backend accepts from the guest and can give it */
	uint32_t carrier; /* 1: link up */
	uint32_t untrusted; /* 1: dom0 tells the guest not to trust the backend; pviod's, not the backend's */
	uint32_t pair; /* enum pv_vif_pair; pviod's, too. It changes while connected */
};

struct pv_noxs_vbd_offer {
	uint64_t sectors; /* of 512 bytes */
	uint32_t sector_size; /* bytes: 512 or 4096; requests are aligned to it */
	uint32_t physical_sector_size;
	uint32_t info; /* VDISK_* of xen/io/blkif.h */
	uint32_t features; /* PV_VBD_* */
	uint16_t queues_max;
	uint16_t ring_order_max; /* 0..4 */
	uint32_t indirect_max; /* segments an indirect request, 0: none */
	uint32_t discard_granularity; /* bytes */
	uint32_t discard_alignment; /* bytes */
};

struct pv_noxs_vf_offer {
	uint32_t functions; /* so many, at 0000:00:00.0, 0000:00:01.0 ... of the guest */
};

struct pv_noxs_pipe_offer {
	uint32_t version; /* PV_NOXS_PIPE_VERSION: of the page and of what is said through it */
};

struct pv_noxs_offer { /* bytes 0..2047 of the control page */
	uint32_t magic;
	uint32_t version;
	uint32_t generation; /* as in the entry */
	uint32_t state; /* the backend's XenbusState; written last */
	uint16_t type; /* enum pv_noxs_type */
	uint16_t reserved0;
	int32_t error; /* why the last connection failed or ended: -errno, 0: it did not */
	uint32_t reserved[10];
	union {
		struct pv_noxs_vif_offer vif;
		struct pv_noxs_vbd_offer vbd;
		struct pv_noxs_vf_offer vf;
		struct pv_noxs_pipe_offer pipe;
		uint8_t bytes[1984];
	};
};

struct pv_noxs_vif_queue {
	uint32_t tx_gref, rx_gref; /* one page each */
	uint32_t tx_port, rx_port; /* of the guest, wait for the backend; equal: one port for both */
};

struct pv_noxs_vbd_queue {
	uint32_t ring_gref[PV_NOXS_RING_PAGES_MAX]; /* the first 1 << ring_order are used */
	uint32_t port;
	uint32_t reserved[3];
};

struct pv_noxs_vf_queue {
	uint32_t gref; /* the page of xen/io/pciif.h */
	uint32_t port; /* of the guest, waits for the backend */
	uint32_t reserved[2];
};

struct pv_noxs_pipe_queue {
	uint32_t gref; /* the page of both rings (pipe.h) */
	uint32_t port; /* of the guest, waits for domain 0 */
	uint32_t reserved[2];
};

struct pv_noxs_choice { /* bytes 2048..4095 of the control page */
	uint32_t magic;
	uint32_t version;
	uint32_t generation; /* of the offer that was read */
	uint32_t state; /* the frontend's XenbusState; written last */
	uint8_t alive; /* 1 while the frontend's process lives: the unmap notice clears it */
	uint8_t ring_order; /* vbd */
	uint8_t abi; /* vbd: enum pv_vbd_abi */
	uint8_t reserved0;
	uint16_t queues;
	uint16_t reserved1;
	uint32_t features; /* a subset of what was offered. vif: what the guest can be sent; it may send all that was offered */
	uint32_t ctrl_gref; /* vif, with PV_VIF_CTRL_RING: the page of its control ring */
	uint32_t ctrl_port; /* ... and its port, which waits for the backend */
	uint32_t headroom; /* vif, with PV_VIF_HEADROOM: bytes to leave before each received packet, up to PV_NOXS_HEADROOM_MAX */
	uint32_t pair; /* vif: enum pv_vif_pair, what the frontend does; it changes while connected, and is news, not a wish */
	uint32_t reserved[5];
	union {
		struct pv_noxs_vif_queue vif[PV_NOXS_QUEUES_MAX];
		struct pv_noxs_vbd_queue vbd[PV_NOXS_QUEUES_MAX];
		struct pv_noxs_vf_queue vf[1];
		struct pv_noxs_pipe_queue pipe[1];
		uint8_t bytes[1984];
	};
};

struct pv_noxs_control_page {
	struct pv_noxs_offer offer;
	struct pv_noxs_choice choice;
};

_Static_assert(sizeof(struct pv_noxs_entry) == 32, "NOXS.md");
_Static_assert(sizeof(struct pv_noxs_device_page) == 4096, "NOXS.md");
_Static_assert(sizeof(struct pv_noxs_offer) == 2048 && sizeof(struct pv_noxs_choice) == 2048, "NOXS.md");

/* ---- dom0's side (pviod) ---- */

/* Write the pointer into a store page (its first byte at `store_page`), magic last. */
void pv_noxs_pointer_write(void *store_page, const struct pv_noxs_pointer *p);

/* The pointer as text, for the node PV_NOXS_POINTER_NODE of a guest's store tree. Returns its length, or -ENOSPC: PV_NOXS_POINTER_TEXT
 * bytes are always enough. */
int pv_noxs_pointer_format(const struct pv_noxs_pointer *p, char *buf, size_t len);

/* Begin a device page for domid. */
void pv_noxs_device_init(struct pv_noxs_device_page *page, uint16_t domid);

/* Replace entry `slot` (< PV_NOXS_ENTRIES) under the seqlock; e with type PV_NOXS_NONE makes a hole. */
void pv_noxs_device_write(struct pv_noxs_device_page *page, unsigned slot, const struct pv_noxs_entry *e);

/* Link the following device page. */
void pv_noxs_device_link(struct pv_noxs_device_page *page, uint32_t next_gref);

/* Write a whole offer, its state last. An offer in InitWait begins a generation: the state turns Initialising while it is written. */
void pv_noxs_offer_write(struct pv_noxs_control_page *page, const struct pv_noxs_offer *offer);

/* Change the state and error of the offer alone. The order is that of the calls. */
void pv_noxs_backend_state(struct pv_noxs_control_page *page, enum xenbus_state state, int error);

/* One snapshot of the choice half: generation and state first (acquire), then every word once. Check only the copy (XSA-155).
 * A choice of a new generation that is being written has state Initialising or Unknown. */
void pv_noxs_choice_read(const struct pv_noxs_control_page *page, struct pv_noxs_choice *out);

/* Is a snapshot a legal answer to what we offered? Pure. Returns 0; -EPROTO: why in words at *why (static string).
 * Checks magic, version, generation, state, queues 1..offered, features within the offer, ring order, ABI. */
int pv_noxs_choice_check(const struct pv_noxs_choice *choice, const struct pv_noxs_offer *offer, const char **why);

/* ---- the guest's side ---- */

/* Read the pointer from a store page. Returns 0; -ENOENT: none there; -EPROTO: of a version that we do not know. */
int pv_noxs_pointer_read(const void *store_page, struct pv_noxs_pointer *out);

/* The pointer from the node's text (len bytes, no NUL needed). Returns 0; -ENOENT: empty, nothing is announced; -EPROTO: not a
 * pointer, or of a version that we do not know. */
int pv_noxs_pointer_parse(const char *text, size_t len, struct pv_noxs_pointer *out);

/* The pointer from noxs=GREF,PORT among the words of a kernel's command line; its generation is 0. Returns 0; -ENOENT: there is no
 * such word; -EPROTO: it is not two numbers. */
int pv_noxs_hint_parse(const char *cmdline, struct pv_noxs_pointer *out);

/* One consistent snapshot of a device page. Returns 0; -EAGAIN: it kept changing (wait for the event, read again);
 * -EPROTO: not a device page. */
int pv_noxs_device_read(const struct pv_noxs_device_page *page, struct pv_noxs_device_page *out);

/* Find the entry of a device in a snapshot. Returns its slot or -ENOENT. */
int pv_noxs_device_find(const struct pv_noxs_device_page *snapshot, enum pv_noxs_type type, uint32_t devid);

/* One snapshot of the offer, checked (XSA-376: the backend's side may be hostile too): magic, version, type, MTU, sector
 * sizes and limits within what this library can work with (limits above are clipped). In states other than InitWait,
 * Initialised and Connected nothing is offered: the part of its type is zeroed and only generation, state and error count.
 * Returns 0; -EAGAIN: it is being written (state Initialising; wait for the event, read again); -EPROTO. */
int pv_noxs_offer_read(const struct pv_noxs_control_page *page, enum pv_noxs_type type, struct pv_noxs_offer *out);

/* The backend's state alone (acquire): to be looked at after each event. */
enum xenbus_state pv_noxs_backend_state_read(const struct pv_noxs_control_page *page);

/* Write a whole choice, its state last; the state is Initialising while it is written. choice->alive should be 1. */
void pv_noxs_choice_write(struct pv_noxs_control_page *page, const struct pv_noxs_choice *choice);

/* Choose anew what a connected vif may: the bits PV_VIF_CHANGEABLE of features, and headroom. Its event is the caller's. */
void pv_noxs_choice_change(struct pv_noxs_control_page *page, uint32_t features, uint32_t headroom);

/* Say which of a pair the frontend uses. Its event is the caller's. */
void pv_noxs_choice_pair(struct pv_noxs_control_page *page, enum pv_vif_pair pair);

/* Change the frontend's state alone. */
void pv_noxs_frontend_state(struct pv_noxs_control_page *page, enum xenbus_state state);

#endif
