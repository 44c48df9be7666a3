/* netfront.h - a vif from the guest's side: asynchronous, batched, no hidden threads.
 *
 * A netfront finds its device by the noxs pointer, connects through the control page and moves packets. The caller's loop
 * polls pv_netfront_fd (readable: call pv_netfront_work) and sends and receives in bursts. The backend is not trusted
 * (XSA-376): a lie breaks this device with -EPROTO, nothing else.
 * Thread rule: one netfront, one thread. Errors: >= 0 or -errno.
 */
#ifndef PV_NETFRONT_H
#define PV_NETFRONT_H

#include <pvio/hyper.h>
#include <pvio/net.h>
#include <pvio/noxs.h>
#include <sys/uio.h>

struct pv_netfront;

struct pv_netfront_config {
	uint32_t devid; /* vif number */
	int wait_ms; /* how long to wait for the device to be announced; 0: it must be there */
	uint16_t queues; /* wanted, at most; 0: one */
	uint16_t pages; /* shared with the backend, of a queue and direction, at most: 256 to 1024; 0: 1024, of all queues together; 64 of those sent in are for
			 * packets up to 700 bytes, four of which share one. More than the 256 slots make large packets up to three times as fast, as their
			 * lines then come from a cache, not from the other core */
	uint32_t features; /* PV_VIF_SG, _CSUM_*, _GSO_* wanted, at most; 0: all that are offered */
	bool poll; /* the caller looks all the time: never ask the backend for an event; fd then tells of changes of state alone */
	uint16_t headroom; /* see pv_netfront_set_headroom */
	bool multicast_filter; /* see pv_netfront_set_filter */
	bool control; /* a control ring, for pv_netfront_set_hash */
	bool split_ports; /* two event channels a queue, one for each direction */
	bool static_grants; /* leave all pages with the backend: it then copies by itself, and the hypervisor is not called */
};

struct pv_netfront_packet {
	void *data; /* send: borrowed during the call; receive: the caller's buffer */
	uint32_t len; /* send: bytes; receive: in: room, out: bytes */
	bool csum_blank; /* L4 checksum left blank, as NETTXF_csum_blank; csum_start and offset are found from the headers */
	bool data_validated;
	uint8_t gso_type; /* XEN_NETIF_GSO_TYPE_* */
	uint16_t gso_size;
	/* Receive alone: */
	uint16_t headroom; /* bytes that the backend left before it in its page */
	bool hashed; /* the backend told its hash; the rest says which */
	uint8_t hash_type; /* _XEN_NETIF_CTRL_HASH_TYPE_* */
	uint32_t hash;
};

/* A received packet where it lies. */
struct pv_netfront_loan {
	struct pv_netfront_packet packet; /* len: of all; data: its first piece */
	unsigned niov;
	struct iovec iov[PV_NET_FRAGS_MAX];
};

struct pv_netfront_stats {
	uint64_t tx_packets, tx_bytes, tx_errors, rx_packets, rx_bytes, rx_errors, notifies, events;
	uint64_t groups_refused; /* of pv_netfront_group: the backend's filter is full */
};

/* Receive hashing, as xen/io/netif.h has it. */
struct pv_netfront_hash {
	uint32_t types; /* XEN_NETIF_CTRL_HASH_TYPE_* */
	const uint8_t *key;
	const uint32_t *mapping; /* hash modulo mapping_len -> queue */
	uint16_t key_len, mapping_len; /* bytes, up to 40; entries, up to 128, 0: the queue is the hash modulo queues */
};

/* Find the vif, share rings and buffers, offer ports, and ask to be connected; does not wait: pv_netfront_state turns
 * XenbusStateConnected (call pv_netfront_work when fd is readable). Opens its own handle (spec, domid as pv_hyper_open).
 * Returns 0; -ENOENT: no such vif announced; -errno, with one line in why. */
int pv_netfront_open(const char *spec, int domid, const struct pv_netfront_config *c, struct pv_netfront **out, char *why, size_t len);

/* Closing, Closed; ends the grants. Waits for the backend at most timeout_ms. NULL is fine. */
void pv_netfront_close(struct pv_netfront *f, int timeout_ms);

int pv_netfront_fd(const struct pv_netfront *f);

/* Events, state changes, tx answers, rx refill. Returns 0; 1: something to receive or room to send again; -EPROTO: the
 * backend lied; -ESHUTDOWN: dom0 detaches the device, or with the state Unknown: our domain or its hypervisor is gone (close it);
 * -ECONNREFUSED: the backend would not connect, or stopped for an error. A device that is offered anew (its backend was restarted) is connected anew by itself, what was in flight is lost:
 * the state is then Initialising for a while. While it is not Connected, call this at least every 100 ms. */
int pv_netfront_work(struct pv_netfront *f);

/* One line for a person about the last failure. Never NULL. */
const char *pv_netfront_error(const struct pv_netfront *f);

enum xenbus_state pv_netfront_state(const struct pv_netfront *f);
const struct pv_noxs_vif_offer *pv_netfront_offer(const struct pv_netfront *f);
unsigned pv_netfront_queues(const struct pv_netfront *f);
uint32_t pv_netfront_features(const struct pv_netfront *f); /* agreed */

/* Queue up to n packets on a queue and notify once if needed. Returns how many were taken (0: no room now, or not connected),
 * or -errno; -EINVAL: the first packet cannot be sent on this device (longer than 4096 bytes without PV_VIF_SG, longer than
 * 65535, a blank checksum or GSO that was not agreed). */
int pv_netfront_send(struct pv_netfront *f, unsigned queue, const struct pv_netfront_packet *p, unsigned n);

/* Copy up to n received packets of a queue into the caller's buffers. Returns how many or -errno. Packets larger than
 * their buffer are dropped and counted. When 0 is returned the queue is re-armed: fd tells when to come back (unless config.poll). -EAGAIN: a call's worth
 * of packets had to be dropped; more may wait: call again. */
int pv_netfront_recv(struct pv_netfront *f, unsigned queue, struct pv_netfront_packet *p, unsigned n);

/* As pv_netfront_recv, but the packets stay in their pages, which the caller may read until its next pv_netfront_work, or _borrow or _recv of
 * that queue (n may be 0: give them back). The backend can still write there: whoever looks at something twice, copies it first. */
int pv_netfront_borrow(struct pv_netfront *f, unsigned queue, struct pv_netfront_loan *l, unsigned n);

/* Join or leave a multicast group in the backend's filter, which has 64 places. Returns 0: sent (stats tell of groups that were refused);
 * -EAGAIN: no room now, or not connected; -EOPNOTSUPP. A connection begins with an empty filter. */
int pv_netfront_group(struct pv_netfront *f, const uint8_t addr[6], bool join);

/* Is the filter applied? Without it all multicast is received. Broadcast is in any case. Returns 0, also when it is for the next connection;
 * -EOPNOTSUPP; -errno. */
int pv_netfront_set_filter(struct pv_netfront *f, bool on);

/* Have bytes (up to PV_NOXS_HEADROOM_MAX) left free before each received packet in its page; packets under way may have another headroom.
 * Returns as pv_netfront_set_filter, or -EINVAL. */
int pv_netfront_set_headroom(struct pv_netfront *f, unsigned bytes);

/* Have received packets hashed and steered; h NULL: as the backend likes. What h points to is copied. Returns 0: asked, the result follows;
 * -EBUSY: the last one is under way; -EAGAIN: not connected; -EOPNOTSUPP: no control ring; -EINVAL. */
int pv_netfront_set_hash(struct pv_netfront *f, const struct pv_netfront_hash *h);

/* Of the control ring: 0: all that was asked is done; -EINPROGRESS; or why the first of it was refused: -EINVAL, -EOVERFLOW, -EOPNOTSUPP. */
int pv_netfront_control_result(const struct pv_netfront *f);

/* Say to dom0 which of a pair with a VF is used (pair.h does it). Any state. */
void pv_netfront_say_pair(struct pv_netfront *f, enum pv_vif_pair pair);

/* How many packets were sent and are not answered yet, on all queues; one of many pages counts more than once. Takes answers. */
unsigned pv_netfront_unsent(struct pv_netfront *f);

void pv_netfront_stats(const struct pv_netfront *f, struct pv_netfront_stats *out);

#endif
