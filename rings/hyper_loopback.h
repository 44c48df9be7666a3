/* hyper_loopback.h - private: the handle of the loopback hypervisor, grouped by file. One thread owns a handle. */
#ifndef PV_HYPER_LOOPBACK_H
#define PV_HYPER_LOOPBACK_H

#include "hub_wire.h"
#include "hyper_int.h"
#include "idmap.h"
#include <sys/queue.h>

_Static_assert((int)HYPER_PAGE == (int)HUB_PAGE, "one size of page");

/* What one share or map call made, found by its address. */
struct region {
	uint64_t id; /* the hub's name for it */
	void *addr;
	uint32_t n;
	bool share;
};

/* One end of an event channel: its index is the port. */
struct evt {
	int fd, peer_fd; /* ours to wait on, the other's to write; both -1: no such port */
};

/* A whole file of another domain, mapped for copies. Owned by its peer. */
struct copy_file {
	TAILQ_ENTRY(copy_file) age; /* loopback->copy_files, oldest first */
	LIST_ENTRY(copy_file) link; /* peer->files */
	struct peer *peer;
	uint64_t id;
	uint8_t *addr;
	uint32_t n;
	uint32_t any; /* one of its references */
	uint32_t gref[]; /* of each page that was translated so far, 0: not yet */
};

/* A domain that we copied from or to, at peers[domid]. */
struct peer {
	LIST_ENTRY(peer) link;
	LIST_HEAD(, copy_file) files;
	uint16_t domid;
	uint32_t n; /* entries of table and of xlate */
	const struct hub_table *table;
	/* Where the page of a reference is, valid while the table's word is the one noted here: a grant copy then costs one load
	 * and one comparison more than a memcpy. */
	struct xlate { uint64_t word; uint8_t *addr; } *xlate;
};

struct loopback {
	struct pv_hyper h;
	char path[108]; /* the hub's socket */
	int fd; /* our connection, in the epoll set too */
	bool gone; /* the hub ended it */
	/* shares and maps */
	struct idmap regions; /* by address */
	struct file_slot { uint64_t id; int fd; } slots[HUB_FILE_SLOTS]; /* as struct hub_run says; id 0: empty */
	const void *store; /* our store page, NULL: not asked for yet */
	void *own_store; /* the same, writable: pv_hub_store */
	/* copies */
	struct peer **peers; /* by domid */
	LIST_HEAD(, peer) all_peers;
	struct idmap files; /* by id */
	TAILQ_HEAD(copy_files, copy_file) copy_files;
	uint32_t nr_copy_files;
	uint32_t drops; /* how many were unmapped so far: addresses found before may be stale */
	/* events */
	int epoll_fd;
	bool deaf; /* gone, and pv_evt_pending has said so */
	struct evt *evts;
	uint32_t nr_evts;
	/* the answer of the last call */
	struct hub_rsp rsp;
	uint32_t payload_bytes, nfds;
	int fds[HUB_RUNS_MAX];
	_Alignas(8) uint8_t payload[HUB_SHARE_MAX * 4];
};

/* hyper_loopback.c. lb_call: ask the hub and wait for the first packet of the answer. Returns its result; the descriptors
 * that came with it are the caller's, and exactly `fds` of them (any number if -1); lb_next: the next packet. */
int lb_call(struct loopback *lb, const struct hub_req *req, const void *more, size_t len, int fds);
int lb_next(struct loopback *lb, int fds);
int lb_gone(struct loopback *lb); /* our connection ended: remember it. Returns -ESHUTDOWN, with words */
int lb_check_seals(struct loopback *lb, int fd, bool *writable);
extern const struct pv_hyper_ops loopback_ops;

/* loopback_copy.c */
int lb_copy(struct pv_hyper *h, struct pv_gnt_copy *ops, unsigned n);
int lb_copy_open(struct loopback *lb);
void lb_copy_close(struct loopback *lb);

/* loopback_evt.c */
int lb_evt_open(struct loopback *lb);
void lb_evt_close(struct loopback *lb);
int lb_evt_store(struct loopback *lb); /* watch the domain's store port. Returns the port or -errno */
int lb_evt_alloc(struct pv_hyper *h, uint16_t domid);
int lb_evt_bind(struct pv_hyper *h, uint16_t domid, uint32_t port);
int lb_evt_unbind(struct pv_hyper *h, uint32_t port);
int lb_evt_notify(struct pv_hyper *h, uint32_t port);
int lb_evt_fd(struct pv_hyper *h);
int lb_evt_pending(struct pv_hyper *h, uint32_t *ports, unsigned max);
int lb_evt_unmask(struct pv_hyper *h, const uint32_t *ports, unsigned n);

#endif
