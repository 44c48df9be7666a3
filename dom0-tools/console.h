/* console.h - a guest's console: pviod at the other end of the console page, and people at a socket.
 *
 *	guest's hvc0 <==== console page ====> console.c <----> RUNDIR/console/NAME.sock <----> pvio guest console
 *	                                         |   |
 *	                        backlog (64 KiB) +   +--> DIR/NAME.log
 *
 * The guest is hostile: indices are checked, the work a turn is bounded, turns have a budget, and a port is unmasked after the
 * work. A reader that is slow loses the oldest output; it never holds up the guest. Thread rule: pviod's thread.
 */
#ifndef CONSOLE_H
#define CONSOLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h> /* Xen's io/console.h goes without */
#include <xen/io/console.h>

struct pviod;
struct console;

/* Serve the console that domain domid granted as gref and to whose unbound `port` it listens. A stale socket of that name is
 * replaced. Returns 0, or -errno with `why` and *out NULL. */
int console_open(struct pviod *d, const char *name, uint16_t domid, uint32_t gref, uint32_t port, struct console **out, char *why,
		 size_t len);

/* The guest ends: take what its page still holds and let go of the page. Those at the socket are sent what they have not seen,
 * for a while, and then see the end. NULL is fine. */
void console_close(struct console *c);
const char *console_path(const struct console *c); /* of the socket */
void consoles_sweep(struct pviod *d); /* at the start: remove the sockets that a killed pviod has left */
void consoles_free(struct pviod *d); /* those that were closed and are still being read */

/* ---- the page; pure but for being shared ---- */

/* Owner: console.c. The indices are ours and never read back. */
struct console_ring {
	struct xencons_interface *page;
	XENCONS_RING_IDX out_cons, in_prod;
};

void console_ring_init(struct console_ring *r, struct xencons_interface *page); /* goes on where another left it */
/* Take up to sizeof(page->out) bytes of output. Returns how many, 0: none; -EPROTO: the guest's indices lie. */
int console_ring_take(struct console_ring *r, char buf[sizeof(((struct xencons_interface *)0)->out)]);
int console_ring_room(const struct console_ring *r); /* for input; -EPROTO */
void console_ring_put(struct console_ring *r, const char *buf, unsigned n); /* n: no more than there is room */

#endif
