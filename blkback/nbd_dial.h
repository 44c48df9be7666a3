/* nbd_dial.h - reaching an NBD server, on a thread of its own: names are looked up, hands shaken and keys exchanged there, so that nobody
 * else waits for a server that is slow or away. */
#ifndef BLKBACK_NBD_DIAL_H
#define BLKBACK_NBD_DIAL_H

#include <stdbool.h>
#include <stddef.h>

struct nbd_handle;
struct nbd_dial;

/* Begin to connect to uri, after rest_ms: once, or again and again with growing pauses. Returns 0 or -errno. */
int nbd_dial_start(const char *uri, bool once, unsigned rest_ms, unsigned patience_ms, struct nbd_dial **out);

/* A descriptor that becomes readable when it is connected, when `once` failed, and once when patience_ms have passed. Owner: the dial. */
int nbd_dial_fd(const struct nbd_dial *d);

/* The connection, which is the caller's then; or NULL, with what went wrong last in *err (0: nothing yet) and why. Clears the descriptor. */
struct nbd_handle *nbd_dial_take(struct nbd_dial *d, int *err, char *why, size_t len);

/* Stop trying, without waiting for the thread. NULL is fine. */
void nbd_dial_end(struct nbd_dial *d);

#endif
