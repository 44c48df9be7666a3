/* hub_wire.h - private: what hyper_loopback.c and the hub say to each other, and the grant table that the hub publishes.
 *
 * A connection is a SOCK_SEQPACKET Unix socket and belongs to one handle. The handle asks, one request at a time, and the hub
 * answers each in order. Only the hub sends descriptors.
 */
#ifndef PV_HUB_WIRE_H
#define PV_HUB_WIRE_H

#include "hub.h"
#include <xen/grant_table.h>

enum {
	HUB_VERSION = 1,
	HUB_PAGE = 4096,
	HUB_DOMIDS = 0x7ff0, /* DOMID_FIRST_RESERVED */
	HUB_GREF_FIRST = 8, /* GNTTAB_NR_RESERVED_ENTRIES */
	HUB_SHARE_MAX = 16384, /* pages a call */
	HUB_MAP_MAX = 4096, /* pages a call */
	HUB_RUNS_MAX = 240, /* a packet, so also descriptors: the kernel passes 253 at most */
	HUB_LIST_MAX = 1024, /* domains a packet */
	HUB_FILE_SLOTS = 128, /* descriptors of files that a handle keeps, see struct hub_run */
	HUB_TEXT_MAX = 159,
};

enum hub_op {
	HUB_HELLO, /* domid, n: HUB_VERSION */
	HUB_STORE, /* -> fd: the domain's own store page */
	HUB_SHARE, /* domid, n, flags, notice -> id, grefs[n], fd */
	HUB_SEAL, /* id: a read-only share is mapped by its owner now, make it usable */
	HUB_UNSHARE, /* id */
	HUB_MAP, /* domid, n, flags, notice, grefs[n] -> id, runs[], fds */
	HUB_UNMAP, /* id */
	HUB_FORGET, /* the handle has lost its file slots */
	HUB_TABLE, /* domid -> n entries, fd */
	HUB_FILE, /* domid, gref -> id, n pages, fd */
	HUB_COPY, /* domid: may one copy of its pages pass? -> n: a GNTST value, as int */
	HUB_ALLOC, /* domid -> port, fds: ours, the peer's */
	HUB_BIND, /* domid, port -> port, fds */
	HUB_UNBIND, /* port */
	HUB_CREATE, /* domid -> n: domid, port */
	HUB_DESTROY, /* domid */
	HUB_LIST, /* domid: the first -> n: how many exist, domains[] */
	HUB_INJECT, /* domid, inject */
	HUB_STORE_PORT, /* -> port, fds: the domain's own store port, which no handle owns */
	HUB_OPS,
};

enum { HUB_WRITABLE = 1, HUB_NOTICE = 2 };
enum hub_inject { HUB_INJECT_MAP, HUB_INJECT_COPY, HUB_INJECT_SHARE, HUB_INJECT_ALLOC, HUB_INJECT_BIND, HUB_INJECTS };

/* Fields that an operation does not name are 0. Of HUB_MAP alone n references follow. */
struct hub_req {
	uint32_t op;
	uint32_t domid;
	uint32_t n;
	uint32_t flags;
	uint64_t id;
	uint32_t gref, port;
	struct pv_gnt_notice notice;
	uint32_t inject, skip, count;
	int32_t status;
};

/* After it: the text of a refusal, or what the operation names, HUB_RUNS_MAX runs a packet. */
struct hub_rsp {
	int32_t result; /* 0 or -errno */
	uint32_t n;
	uint64_t id;
	uint32_t port;
	uint32_t more; /* packets of this answer that follow */
};

/* Pages of one file that follow each other. Both ends keep the same direct-mapped table of the files whose descriptor the
 * handle has (slot = file % HUB_FILE_SLOTS): the hub sends one exactly when the run's slot holds another file. */
struct hub_run {
	uint64_t file;
	uint32_t page, n;
};

/* One entry of a domain's grant table, as the hub shows it to everyone: a table is only written by the hub. */
struct hub_entry {
	uint64_t word; /* hub_word(), 0: not granted. Differs each time that the reference is granted */
	uint64_t where; /* file << 16 | page */
};

struct hub_table {
	uint32_t dead; /* the domain was destroyed: ask for the new table, if any */
	uint32_t inject; /* copies are to be asked for, one by one */
	uint32_t reserved[14];
	struct hub_entry entries[];
};

enum { HUB_WORD_VALID = 1, HUB_WORD_WRITABLE = 2 };

static inline uint64_t hub_word(uint32_t generation, uint16_t domid, bool writable)
{
	return (uint64_t)generation << 32 | (uint32_t)domid << 16 | HUB_WORD_VALID | (writable ? HUB_WORD_WRITABLE : 0);
}

static inline uint16_t hub_word_domid(uint64_t word)
{
	return word >> 16;
}

static inline size_t hub_table_bytes(uint32_t n)
{
	size_t bytes = sizeof(struct hub_table) + n * sizeof(struct hub_entry);

	return (bytes + HUB_PAGE - 1) & ~(size_t)(HUB_PAGE - 1);
}

/* The mapper checks that nobody can cut a file short under it. */
enum { HUB_SEALS = 0x1 | 0x2 | 0x4 /* F_SEAL_SEAL, _SHRINK, _GROW */, HUB_SEAL_READ_ONLY = 0x10 /* F_SEAL_FUTURE_WRITE */ };

#endif
