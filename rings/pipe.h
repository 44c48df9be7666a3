/* pipe.h - two rings of bytes in one page: pviod's conversation with a backend that runs in a driver domain.
 *
 * NOXS.md ("Pipe") is the specification. The page is the guest's (the driver domain's), granted to domain 0. Each end writes the
 * words of its own line and the bytes of its own ring, and reads those of the other. What an end relies on is private (struct
 * pv_pipe), and what the peer wrote is believed only as a difference within the ring.
 *
 *	pv_pipe_init		both ends, once the page is shared
 *	pv_pipe_pump		whenever the socket is ready or the port fired: bytes from socket to ring and from ring to socket
 *
 * or, without a socket: peek, took, space, gave; publish; rearm before sleeping.
 * Internal to pvio; not installed. Thread rule: one end, one thread.
 */
#ifndef PV_PIPE_H
#define PV_PIPE_H

#include "noxs.h"
#include <stddef.h>

enum { PV_PIPE_UP = 1024, PV_PIPE_DOWN = 2048 /* bytes of the rings */ };

/* What one end writes and the other reads. Indices run freely: they count bytes modulo 2^32. */
struct pv_pipe_line {
	uint32_t put; /* bytes that this end has put into its ring */
	uint32_t taken; /* bytes that it has taken from the other's */
	uint32_t put_event; /* notify this end when the other's `put` reaches this */
	uint32_t taken_event; /* notify this end when the other's `taken` reaches this */
	uint32_t alive; /* 1 from the start; domain 0's is cleared by its unmap notice. The guest's says nothing: the choice has one */
	uint32_t reserved[11];
};

struct pv_pipe_page {
	struct pv_pipe_line guest, dom0;
	uint8_t reserved[896];
	uint8_t up[PV_PIPE_UP]; /* the guest puts, domain 0 takes */
	uint8_t down[PV_PIPE_DOWN]; /* domain 0 puts, the guest takes */
};

_Static_assert(sizeof(struct pv_pipe_page) == 4096, "NOXS.md");

enum { PV_PIPE_NOTICE_OFFSET = offsetof(struct pv_pipe_page, dom0.alive) /* for domain 0's unmap notice */ };

/* One end. Owner: its thread, for as long as the page is mapped; nothing to free. */
struct pv_pipe {
	struct pv_pipe_line *own;
	const struct pv_pipe_line *peer;
	uint8_t *out;
	const uint8_t *in;
	uint32_t out_size, in_size; /* powers of two */
	uint32_t put, taken; /* ours ... */
	uint32_t put_shown, taken_shown; /* ... as the peer knows them */
};

/* Begin a page, as the guest, before it is announced. */
void pv_pipe_format(struct pv_pipe_page *page);

/* Begin an end, at index 0. */
void pv_pipe_init(struct pv_pipe *p, struct pv_pipe_page *page, bool dom0);

/* Bytes that can be taken, as far as they lie in one piece: *at. Returns how many, 0: none; -EPROTO: the peer's index lies.
 * The peer can rewrite them at any time: copy them once. */
int pv_pipe_peek(const struct pv_pipe *p, const uint8_t **at);
void pv_pipe_took(struct pv_pipe *p, unsigned n);

/* Room for bytes, as far as it lies in one piece. Returns how many, 0: the ring is full; -EPROTO. */
int pv_pipe_space(const struct pv_pipe *p, uint8_t **at);
void pv_pipe_gave(struct pv_pipe *p, unsigned n);

/* Show the peer what was put and taken. Returns true if it must be notified. */
bool pv_pipe_publish(struct pv_pipe *p);

/* Ask to be notified when there are bytes to take (`data`), and room in a ring that is full (`room`). Returns 1: that is so
 * already, do not sleep; 0; -EPROTO. */
int pv_pipe_rearm(struct pv_pipe *p, bool data, bool room);

/* As the guest: does domain 0 still have the page mapped? */
bool pv_pipe_alive(const struct pv_pipe *p);

struct pv_pipe_turn {
	short events; /* what the socket is to be polled for */
	bool notify; /* the peer must be notified */
	bool again; /* there is more to do at once */
};

/* One turn: at most two pieces each way between the page and a non-blocking stream socket. Returns 0; -EPROTO: the peer's
 * index lies; -EPIPE: the socket has ended. *t is filled in any case. */
int pv_pipe_pump(struct pv_pipe *p, int fd, struct pv_pipe_turn *t);

#endif
