/* hub_int.h - private: the state of the hub. One thread owns all of it. Nothing that a client says is believed unchecked. */
#ifndef PV_HUB_INT_H
#define PV_HUB_INT_H

#include "hub_wire.h"
#include <sys/queue.h>

struct hub_conn;
struct hub_dom;

/* Numbers for things that a client names: index + 1 into an array. */
struct hub_ids {
	void **item;
	uint32_t *free; /* a stack of free indices */
	uint32_t nr, nfree, cap;
};

/* When the side that set it goes: clear a byte, then notify a port of that side. */
struct hub_notice {
	bool set;
	struct pv_gnt_notice at;
	uint8_t *page; /* kept mapped where the seal would forbid to write later, else NULL */
};

/* What one share call made. Owned by its domain (dom->files); lives until revoked and no longer mapped by anybody. */
struct hub_file {
	LIST_ENTRY(hub_file) link;
	uint64_t id; /* never used again */
	struct hub_dom *dom; /* NULL: destroyed */
	struct hub_conn *owner; /* NULL: the domain's own, or revoked */
	uint64_t handle; /* in owner->files */
	int fd;
	uint16_t to;
	bool writable, usable, revoked;
	struct hub_notice notice;
	uint32_t n, maps; /* pages; mapped pages, each as often as it is mapped */
	struct hub_file_page { uint32_t gref, maps; } page[];
};

/* What one map call made. Owned by its connection. */
struct hub_map {
	uint32_t n;
	struct hub_notice notice;
	struct hub_map_page { struct hub_file *file; uint32_t page; } page[];
};

/* A pair of eventfds. End i reads fd[i] and writes fd[1 - i]. Lives while a port uses it. */
struct hub_chan {
	int fd[2];
	unsigned ends;
};

struct hub_port {
	LIST_ENTRY(hub_port) link; /* owner->ports */
	struct hub_conn *owner; /* NULL: the domain's own (store port) */
	struct hub_chan *chan; /* NULL: free */
	uint32_t peer; /* the other end's port, 0: unbound */
	uint16_t peer_domid; /* who it is, or who may bind */
	uint8_t end;
};

struct hub_dom {
	uint16_t domid;
	LIST_HEAD(, hub_file) files;
	struct hub_file *store;
	uint32_t store_port; /* 0: none, as domain 0 */
	/* grants: fresh numbers from `fresh`, freed ones in the order of freeing */
	struct hub_table *table; /* shared with all, written here only */
	int table_fd;
	struct hub_gref { struct hub_file *file; uint32_t page, generation, next_free; } *gref;
	uint32_t grefs, fresh, free_head, free_tail;
	struct hub_port *port; /* [limit + 1] */
	uint32_t port_hint; /* no free port below */
	struct pv_hub_domain count;
	struct hub_injection { uint32_t skip, count; int32_t status; } inject[HUB_INJECTS];
};

/* One client handle. Freed at the end of the turn in which it was cut off. */
struct hub_conn {
	LIST_ENTRY(hub_conn) link; /* hub->conns or hub->dead */
	int fd; /* -1: cut off */
	struct hub_dom *dom; /* NULL before hello */
	struct hub_ids files, maps;
	LIST_HEAD(, hub_port) ports;
	uint64_t sent[HUB_FILE_SLOTS]; /* as struct hub_run says */
};

struct pv_hub {
	char *path;
	int listen_fd, epoll_fd, stop_fd, spare_fd;
	struct pv_hub_limits limits;
	struct hub_dom *dom[HUB_DOMIDS];
	unsigned domains;
	uint64_t next_file;
	LIST_HEAD(, hub_conn) conns, dead;
	union {
		struct hub_req req;
		uint8_t bytes[sizeof(struct hub_req) + HUB_MAP_MAX * 4 + 1];
	} in;
	_Alignas(8) uint8_t payload[HUB_SHARE_MAX * 4]; /* of the answer that is being made */
};

/* hub.c */
int hub_answer(struct hub_conn *c, const struct hub_rsp *rsp, const void *payload, size_t len, const int *fds, unsigned nfds);
int hub_refuse(struct hub_conn *c, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int hub_refuse_files(struct hub_conn *c, int err, const char *what);
void hub_cut(struct pv_hub *hub, struct hub_conn *c);
uint64_t hub_ids_add(struct hub_ids *t, void *item); /* 0: out of memory */
void *hub_ids_get(const struct hub_ids *t, uint64_t id);
void hub_ids_del(struct hub_ids *t, uint64_t id);
int hub_memfd(const char *name, size_t bytes, unsigned seals); /* the descriptor or -errno */

/* hub_domain.c; the operations' handlers return < 0 to have the client cut off */
struct hub_dom *hub_dom_get(struct pv_hub *hub, uint32_t domid);
int hub_dom_new(struct pv_hub *hub, uint16_t domid, struct hub_dom **out);
void hub_dom_free(struct pv_hub *hub, struct hub_dom *d);
int32_t hub_injected(struct hub_dom *d, enum hub_inject what); /* 0: passes */
int hub_create(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_destroy(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_list(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_do_inject(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_copy(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);

/* hub_grant.c */
int hub_file_new(struct pv_hub *hub, struct hub_dom *d, uint32_t n, struct hub_file **out);
void hub_file_publish(struct hub_file *f);
void hub_file_revoke(struct hub_file *f);
void hub_file_orphan(struct hub_file *f); /* its domain goes */
void hub_gref_set(struct hub_dom *d, uint32_t gref, struct hub_file *f, uint32_t page);
void hub_conn_drop_grants(struct hub_conn *c);
int hub_store(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_share(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_seal(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_unshare(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_map(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_unmap(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_forget(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_do_table(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_do_file(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);

/* hub_port.c */
int hub_port_new(struct pv_hub *hub, struct hub_dom *d, struct hub_conn *owner, uint16_t remote); /* the port or -errno */
void hub_port_close(struct pv_hub *hub, struct hub_dom *d, uint32_t port);
bool hub_port_owned(struct pv_hub *hub, struct hub_conn *c, uint32_t port);
void hub_port_signal(struct hub_dom *d, struct hub_conn *owner, uint32_t port);
int hub_alloc(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_store_port(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_bind(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);
int hub_unbind(struct pv_hub *hub, struct hub_conn *c, const struct hub_req *req);

#endif
