/* pair.h - a vif and a virtual function (VF) as one network interface: two paths behind one send and receive.
 *
 * Dom0 says in the vif's offer that a VF with the same address goes with it. Packets are sent by the VF while it is there and dom0 lets it,
 * else by the vif; what comes by either is received. The application gives the VF's path (an AF_PACKET socket, a DPDK port ...) and takes it
 * away; everything else is done here. A vif that has no VF passes through.
 * Thread rule: that of the netfront. Errors: >= 0 or -errno.
 */
#ifndef PV_PAIR_H
#define PV_PAIR_H

#include <pvio/netfront.h>

struct pv_netpair;

/* The VF's path. Calls come from the calls of the pair alone. */
struct pv_netpair_path {
	/* As pv_netfront_send and pv_netfront_recv, for any queue of the vif, and for packets that its features allow: blank checksums and
	 * large segments too. What send took and dropped is the path's own loss. An error but -EINVAL (send) and -EAGAIN (receive): the VF is gone. */
	int (*send)(void *ctx, unsigned queue, const struct pv_netfront_packet *p, unsigned n);
	int (*recv)(void *ctx, unsigned queue, struct pv_netfront_packet *p, unsigned n);
	/* How many packets send took that may not have left yet, at most; also of one that is gone: those are lost. NULL: what was taken has left. */
	unsigned (*unsent)(void *ctx);
	void *ctx;
};

struct pv_netpair_config {
	unsigned drain_ms; /* how long to wait for the path that is left until what it has has left; 0: 100 */
	unsigned fence_ms; /* how long to wait, at most, for what was on its way by that before the other is received from; 0: 100 if it is the vif, 5 the VF */
};

struct pv_netpair_stats {
	uint64_t to_vf, to_vif; /* times that it turned to them */
	uint64_t tx_lost_gone; /* packets that the VF had and may not have sent when it went */
	uint64_t tx_lost_stuck; /* ... that a path had not sent when its time to drain was over; they may still arrive, late */
	uint64_t rx_late; /* packets received by the path that is not used */
	uint64_t rx_copies; /* not passed on: a packet to a group, or to everybody, that the other path brought already ... */
	uint64_t rx_own; /* ... and what this interface sent itself, by the other path */
	uint64_t announced; /* broadcasts that told the switches where we are */
};

/* The vif is borrowed and stays the application's: until the pair is closed only its recv, borrow, send and work are not to be called. c: NULL: all as it is
 * by default. Returns 0 or -ENOMEM. */
int pv_netpair_open(struct pv_netfront *vif, const struct pv_netpair_config *c, struct pv_netpair **out);
void pv_netpair_close(struct pv_netpair *p); /* neither vif nor VF are closed. NULL is fine */

/* The VF is there, with a carrier (path: copied), or is not, any more (NULL). Its ctx must live until this has returned. */
void pv_netpair_vf(struct pv_netpair *p, const struct pv_netpair_path *path);
bool pv_netpair_has_vf(const struct pv_netpair *p); /* false too if it turned out to be gone */

/* In place of the vif's calls, and returning what they return, for the pair. While it turns from one path to the other send takes nothing, and after that recv
 * gives nothing of the new path until the old one is done: with one queue packets keep their order. The structs of `packet` come back in any order. */
int pv_netpair_work(struct pv_netpair *p);
int pv_netpair_send(struct pv_netpair *p, unsigned queue, const struct pv_netfront_packet *packet, unsigned n);
int pv_netpair_recv(struct pv_netpair *p, unsigned queue, struct pv_netfront_packet *packet, unsigned n);

/* In how many ms to call pv_netpair_work, send what waits and receive, without an event; -1: not before there is one. */
int pv_netpair_timeout(const struct pv_netpair *p);

bool pv_netpair_uses_vf(const struct pv_netpair *p);
void pv_netpair_stats(const struct pv_netpair *p, struct pv_netpair_stats *out);

#endif
