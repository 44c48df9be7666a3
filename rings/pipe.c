/* pipe.c - see pipe.h. Its atomics are those of ring.h: an index, and the event by which its reader asks to be woken. */
#include "pipe.h"
#include "ring.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void pv_pipe_format(struct pv_pipe_page *page)
{
	memset(page, 0, sizeof(*page));
	page->guest.alive = page->dom0.alive = 1;
}

void pv_pipe_init(struct pv_pipe *p, struct pv_pipe_page *page, bool dom0)
{
	*p = (struct pv_pipe){
		.own = dom0 ? &page->dom0 : &page->guest,
		.peer = dom0 ? &page->guest : &page->dom0,
		.out = dom0 ? page->down : page->up,
		.in = dom0 ? page->up : page->down,
		.out_size = dom0 ? PV_PIPE_DOWN : PV_PIPE_UP,
		.in_size = dom0 ? PV_PIPE_UP : PV_PIPE_DOWN,
	};
}

/* Bytes between our index and the peer's. A difference, never a comparison of indices (XSA-39). */
static int distance(uint32_t ahead, uint32_t behind, uint32_t most)
{
	uint32_t n = ahead - behind;

	return n <= most ? (int)n : -EPROTO;
}

/* Of n bytes from index i on, those up to the end of the ring. */
static int in_one_piece(uint32_t i, int n, uint32_t size)
{
	int end = (int)(size - (i & (size - 1)));

	return n < end ? n : end;
}

int pv_pipe_peek(const struct pv_pipe *p, const uint8_t **at)
{
	/* Pairs with the peer's pv_pipe_publish: the bytes that it put are visible. */
	int n = distance(pv_index_load(&p->peer->put), p->taken, p->in_size);

	*at = p->in + (p->taken & (p->in_size - 1));
	return n < 0 ? n : in_one_piece(p->taken, n, p->in_size);
}

void pv_pipe_took(struct pv_pipe *p, unsigned n)
{
	p->taken += n;
}

int pv_pipe_space(const struct pv_pipe *p, uint8_t **at)
{
	/* Pairs with the peer's pv_pipe_publish: it has read what it took, and we may write there. */
	int held = distance(p->put, pv_index_load(&p->peer->taken), p->out_size);

	*at = p->out + (p->put & (p->out_size - 1));
	return held < 0 ? held : in_one_piece(p->put, (int)p->out_size - held, p->out_size);
}

void pv_pipe_gave(struct pv_pipe *p, unsigned n)
{
	p->put += n;
}

bool pv_pipe_publish(struct pv_pipe *p)
{
	bool notify = false;

	if (p->put != p->put_shown)
		notify |= pv_index_publish(&p->own->put, &p->peer->put_event, p->put_shown, p->put);
	if (p->taken != p->taken_shown)
		notify |= pv_index_publish(&p->own->taken, &p->peer->taken_event, p->taken_shown, p->taken);
	p->put_shown = p->put;
	p->taken_shown = p->taken;
	return notify;
}

int pv_pipe_rearm(struct pv_pipe *p, bool data, bool room)
{
	int n = data ? distance(pv_index_rearm(&p->own->put_event, p->taken + 1, &p->peer->put), p->taken, p->in_size) : 0;
	int held = room ? distance(p->put, pv_index_rearm(&p->own->taken_event, p->put - p->out_size + 1, &p->peer->taken), p->out_size) :
			  (int)p->out_size;

	if (n < 0 || held < 0)
		return -EPROTO;
	return n > 0 || held < (int)p->out_size;
}

bool pv_pipe_alive(const struct pv_pipe *p)
{
	return pv_index_load(&p->peer->alive) != 0;
}

/* ---- between a page and a socket ---- */

enum { PIECES = 2 /* a turn: the ring's end and its beginning */ };

/* Returns 1: the socket takes no more now; 0: the ring is empty, or a turn's worth was moved; -errno. */
static int to_socket(struct pv_pipe *p, int fd)
{
	for (int i = 0; i < PIECES; i++) {
		const uint8_t *at;
		int n = pv_pipe_peek(p, &at);
		ssize_t sent;

		if (n <= 0)
			return n;
		sent = send(fd, at, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT); /* the kernel's copy is the only one, and the one that is parsed */
		if (sent < 0)
			return errno == EAGAIN || errno == EINTR ? 1 : -EPIPE;
		pv_pipe_took(p, (unsigned)sent);
		if (sent < n)
			return 1;
	}
	return 0;
}

/* Returns 1: the ring is full; 0: the socket has nothing more, or a turn's worth was moved; -errno. */
static int from_socket(struct pv_pipe *p, int fd)
{
	for (int i = 0; i < PIECES; i++) {
		uint8_t *at;
		int n = pv_pipe_space(p, &at);
		ssize_t got;

		if (n <= 0)
			return n < 0 ? n : 1;
		got = recv(fd, at, (size_t)n, MSG_DONTWAIT);
		if (got < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
		if (got == 0)
			return -EPIPE;
		pv_pipe_gave(p, (unsigned)got);
		if (got < n)
			return 0;
	}
	return 0;
}

int pv_pipe_pump(struct pv_pipe *p, int fd, struct pv_pipe_turn *t)
{
	int blocked = to_socket(p, fd), full = blocked == -EPROTO ? 0 : from_socket(p, fd), more;

	*t = (struct pv_pipe_turn){ .notify = pv_pipe_publish(p) };
	if (blocked < 0 || full < 0)
		return blocked == -EPROTO || full == -EPROTO ? -EPROTO : -EPIPE;
	more = pv_pipe_rearm(p, !blocked, full);
	t->again = more > 0;
	t->events = (short)((blocked ? POLLOUT : 0) | (full ? 0 : POLLIN));
	return more < 0 ? more : 0;
}
