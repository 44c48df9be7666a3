/* netback.h - pvio-netback's own structures and prototypes, grouped by file, where they have no header of their own.
 *
 * Threads: one control thread (main.c: pviod's calls, signals, ageing) and N workers (turn.c). A queue of a vif belongs to one
 * worker, for both its rings; whatever only a worker touches has no lock. What all workers read (the switch, a vif's
 * configuration) is published with a store and taken back only after every worker has passed between two turns.
 *
 * tx and rx are the guest's words, as in netif.h: tx is what the guest sends, rx what it receives.
 */
#ifndef NETBACK_H
#define NETBACK_H

#include "antispoof.h"
#include "ctrl.h"
#include "keep.h"
#include "packet.h"
#include "pool.h"
#include "statics.h"
#include "switch.h"
#include <pvio/backend.h>
#include <pvio/hyper.h>
#include <pvio/inflight.h>
#include <pvio/limit.h>
#include <pvio/log.h>
#include <pvio/net.h>
#include <pvio/options.h>
#include <pvio/worker.h>
#include <rte_byteorder.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <rte_spinlock.h>
#include <stdarg.h>
#include <sys/queue.h>

struct netback;
struct nb_worker;
struct vif;
struct vif_queue;
struct bridge;
struct capture;

enum {
	NB_BRIDGES_MAX = 16,
	NB_BRIDGE_NAME = 16, /* as Linux' IFNAMSIZ */
	NB_DEVICE_NAME = 300, /* an uplink with its arguments */
	NB_WORKERS_MAX = 16,
	NB_HEADERS = 512, /* bytes of a packet that lie in its first segment in any case */
	NB_POOL_CACHE = 256, /* segments that each worker keeps at hand */
	NB_SEGS_MAX = 20, /* of a packet: one a slot, and one for its headers */
	NB_L2_ROOM = 22, /* an Ethernet header and two VLAN tags, which do not count against an MTU */
	NB_QUEUE_SLOTS = 64, /* budget: slots that a queue may send in a turn, less the end of a chain; it may receive twice as many */
	NB_TURN_OPS = 2048, /* grant copies in a batch */
	NB_TURN_PACKETS = 512,
	NB_SLOT_OPS = 2, /* grant copies that a slot may need: headers and the rest */
	NB_PACKET_OPS = 64, /* ... and a received packet: pages of the guest, segments, and pages below a driver's segments */
	NB_BURST = 64, /* packets to and from the uplink at once */
	NB_BACKLOG_BYTES = 2 << 20, /* a receive queue pins no more of the packet memory than this (XSA-392) ... */
	NB_BACKLOG_SHARE = 8, /* ... nor more than this part of what is free */
	NB_BACKLOG_PACKETS = 1024, /* a power of two, more than fit in the bytes */
	NB_UNCONTENDED = 4, /* this part of them is for whoever comes, the rest is shared fairly */
	NB_QUEUE_SLOTS_MIN = 8, /* a vif of many queues has no more of a turn than others, but each of its queues has this */
	FAIR_ACCOUNTS = 64,
	NB_POST_RING = 4096, /* packets on their way from worker to worker */
};

/* What --uplink says, each time. */
struct nb_uplinks {
	unsigned nr;
	struct {
		char bridge[NB_BRIDGE_NAME]; /* "": that of --bridge */
		const char *device;
	} at[NB_BRIDGES_MAX];
};

struct nb_options {
	const char *hypervisor, *name, *bridge /* NULL: not given */;
	struct nb_uplinks uplinks;
	struct pv_cpus cpus;
	unsigned workers, memory /* MiB */, poll_us, log, pviod /* enum pv_backend_way */;
	int domid; /* -1: as the host is */
	bool takeover;
	bool telemetry;
};

/* ---- eal.c: DPDK's environment, without a trace on the file system ---- */
/* Before eal_start: with DPDK's telemetry, whose socket is $PVIO_RUNDIR/dpdk/NAME/dpdk_telemetry.v2. name is borrowed. */
void eal_telemetry(const char *name);
void eal_pci(const char *device); /* ... with that PCI device, its address and arguments as DPDK takes them; no other one is looked for */
void eal_ordinary_pages(void); /* ... without huge pages, even if there are some */
/* Once in a process. Returns 0 or -errno; -EAGAIN: huge pages that were free are not any more. */
int eal_start(unsigned memory, char *why, size_t len);
void eal_stop(void);
const char *eal_error(void); /* what DPDK complained of first since the last call; control thread */

/* ---- fair.c ---- */
/* Who holds how much of some room. Zeroed: nobody anything. */
struct fair {
	uint8_t senders; /* that hold something */
	uint32_t held[FAIR_ACCOUNTS];
};
/* May m wait, at that cost, where the senders share `room`? Returns the account that holds it until fair_leave; 0: it may not. */
uint8_t fair_take(struct fair *f, const struct rte_mbuf *m, uint32_t cost, uint32_t room);
void fair_leave(struct fair *f, uint8_t account, uint32_t cost);

/* ---- uplink.c, uplink_dpdk.c, uplink_tap.c ---- */
enum { UPLINK_WAITING = 256 /* packets that wait for an uplink which takes no more, the first NB_BURST of them whosever they are */ };
/* What was decided of a packet, for those behind it that are like it: most come in trains. It holds for a turn, in which nothing that it was decided
 * from goes away (see Threads in README.md). Owner: one worker. */
struct train {
	uint64_t addresses; /* the first of both addresses' bytes, ... */
	uint32_t more; /* and the rest of them */
	uint16_t in; /* port of the switch */
	uint64_t turn; /* nb_worker.turns; 0: none */
	uint32_t len_max; /* of a packet */
	uint64_t work; /* flags of packets to which something is to be done */
	struct vif_queue *to; /* NULL: the uplink's, this worker's */
};

/* A worker's part of a bridge and its uplink. Owner: that worker. */
struct uplink_queue {
	struct bridge *bridge; /* NULL: there is none of this index */
	bool ours; /* this worker moves packets on the queue of its own index; else it hands them to worker 0 */
	bool more; /* packets may wait: there were some, or the descriptor said so */
	int intr_fd; /* readable when packets wait; -1: there is none, look now and then */
	uint64_t last, looked; /* TSC of the last packet that came in, and of the last look */
	unsigned n; /* of out: NB_BURST and more wait for an uplink that is full */
	struct rte_mbuf *out[UPLINK_WAITING];
	uint8_t account[UPLINK_WAITING]; /* of those beyond NB_BURST, as they came; else 0 */
	struct fair fair;
	uint64_t stuck; /* TSC since when it takes nothing; 0: it does */
	uint64_t rx_packets, rx_bytes, rx_bad, tx_packets, tx_bytes, tx_dropped, tx_too_big;
	struct rte_mbuf *tap_seg[NB_SEGS_MAX]; /* what the next packet of a TAP is read into */
	struct switch_cache cache; /* of the bridge's switch */
	struct train train;
};

struct uplink;
/* What a kind of port provides. Those that name a worker run on it, for its queue. */
struct uplink_ops {
	/* Sets queues, offloads, and what its own functions use; mtu: what is asked for, 0: nothing. */
	int (*open)(struct netback *nb, struct uplink *up, const char *device, char *why, size_t len);
	void (*close)(struct uplink *up);
	uint32_t (*mtu)(const struct uplink *up); /* as it is now */
	bool (*carrier)(const struct uplink *up);
	int (*intr_fd)(const struct uplink *up, unsigned queue);
	unsigned (*receive)(struct nb_worker *w, struct uplink_queue *q, struct rte_mbuf **in, unsigned max); /* with NB_ flags, if it offloads */
	unsigned (*send)(struct nb_worker *w, struct uplink_queue *q, struct rte_mbuf **out, unsigned n); /* takes so many; the rest is behind them */
	void (*end)(struct uplink_queue *q); /* may be NULL */
};
extern const struct uplink_ops uplink_dpdk, uplink_tap, uplink_linux, uplink_load;

/* Owner: control thread; the workers only read. Lifetime: its bridge's. */
struct uplink {
	const struct uplink_ops *ops;
	unsigned queues; /* 0: no uplink */
	uint32_t mtu, frame_max /* atomic: may change while packets move */;
	bool offloads; /* it takes blank checksums and large TCP packets, and may give such */
	bool chains; /* pieces of large packets may be chains of segments */
	uint16_t port_id; /* of DPDK */
	char interface[NB_BRIDGE_NAME]; /* of a TAP */
	int tap_fd[NB_WORKERS_MAX];
	struct load *load;
};

/* Is it a PCI device? Then what DPDK is to know of it at its start, without what is ours. */
bool uplink_pci(const char *device, char name[NB_DEVICE_NAME]);
int uplink_open(struct netback *nb, struct uplink *up, const char *device, char *why, size_t len);
void uplink_close(struct uplink *up);
void uplink_tick(struct uplink *up); /* control thread: its MTU may have changed */
void uplink_poll(struct nb_worker *w, struct uplink_queue *q);
void uplink_send(struct nb_worker *w, struct bridge *b, struct rte_mbuf *m);
void uplink_put(struct nb_worker *w, struct uplink_queue *q, struct rte_mbuf **m, unsigned n); /* finished packets; q is the worker's own */
void uplink_flush(struct nb_worker *w, struct uplink_queue *q);
bool uplink_idle(const struct nb_worker *w, const struct uplink_queue *q);

/* ---- plug.c: TAPs in Linux bridges ---- */
int plug_start(void); /* before any thread, with all privileges. A descriptor for plug_tap, to be closed at the end, or -errno */
/* A TAP in that Linux bridge: its name, and a descriptor a queue. Returns 0, -ENODEV: no such bridge, or -errno. */
int plug_tap(int sock, const char *bridge, unsigned queues, char tap[NB_BRIDGE_NAME], int *fds, char *why, size_t len);
int tap_queues_open(char name[NB_BRIDGE_NAME], unsigned queues, int *fds); /* of uplink_tap.c; with %d in the name, the kernel numbers it */

/* ---- bridge.c: a switch and its uplink; several stand side by side ---- */
/* Owner: control thread. Workers reach it by the vifs on it and by their part of it, w->up[index]. */
struct bridge {
	char name[NB_BRIDGE_NAME]; /* what vifs call it in bridge= */
	unsigned index; /* in nb->bridge */
	uint32_t generation; /* atomic: of this bridge among all that had its index; 0: there is none */
	bool fixed; /* by the command line: there from the start to the end, with the uplink that it has */
	bool out; /* atomic: its uplink takes packets */
	unsigned vifs; /* on it */
	unsigned vlans; /* atomic: how many of these were given VLANs; 0: it knows none, tags are payload */
	char *device; /* its uplink, as the command line would say it; NULL: none */
	struct l2switch *sw;
	struct uplink uplink;
};

/* From the command line; device "none": a switch among guests alone. */
int bridge_open_fixed(struct netback *nb, const char *name, const char *device, char *why, size_t len);
/* The bridge for a vif that asks for it by name, or for none (""): made, and plugged into the Linux bridge of that name, when it is the
 * first. Returns 0 or -errno. Each take has its put; without vifs a bridge that is not fixed is gone. */
int bridge_take(struct netback *nb, const char *name, struct bridge **out, char *why, size_t len);
void bridge_put(struct netback *nb, struct bridge *b);
const char *bridge_name(const struct netback *nb, const char *name); /* with "" resolved */
void bridge_close_all(struct netback *nb);
void bridge_tick(struct netback *nb, uint32_t now); /* once a second (now): ageing, MTUs */
/* A worker's part of it, on that worker. */
int bridge_worker_begin(struct nb_worker *w, struct bridge *b);
void bridge_worker_end(struct nb_worker *w, struct bridge *b);

/* ---- mcast.c ---- */
/* A guest's multicast filter. */
struct mcast {
	rte_spinlock_t lock; /* of those who change it */
	uint64_t *addr; /* MCAST_MAX words, atomic; 0: free. NULL: the vif is not connected */
};

/* Any worker. type: XEN_NETIF_EXTRA_TYPE_MCAST_ADD or _DEL. Returns what to answer: NETIF_RSP_ERROR if it is full, or no group's address. */
int16_t mcast_change(struct mcast *f, uint8_t type, const uint8_t addr[6]);
bool mcast_wants(const struct mcast *f, const struct rte_mbuf *m); /* any packet: what is not multicast is wanted, and so is broadcast */
unsigned mcast_count(const struct mcast *f);

/* ---- ctrl.c: control rings (ctrl.h has what is pure about them). Control thread. ---- */
struct ctrl;
int ctrl_connect(struct vif *vif, bool adopt, char *why, size_t len); /* whatever comes of it, ctrl_disconnect ends it */
void ctrl_disconnect(struct vif *vif); /* no worker uses anything of the vif any more. Without one: fine */
int ctrl_fd(const struct netback *nb); /* -1: nobody has a control ring */
int ctrl_timeout(struct netback *nb); /* ms until ctrl_work has something to do without an event; -1: it has not */
void ctrl_work(struct netback *nb);
unsigned ctrl_statics(const struct vif *vif); /* static grants that it has */

/* ---- limit.c: bits and packets a second, of a device ---- */
/* As it is given; 0: no limit, or for the burst: as much as is normal. */
struct limit_config {
	uint64_t tx_bits, rx_bits, tx_packets, rx_packets, burst /* bytes */;
};

/* Owner: control thread. Workers use it from the vif's pointer to it for a turn. */
struct limit {
	struct pv_limit tx, rx; /* ticks of the TSC */
};

int limit_parse_bits(const char *s, void *field);
int limit_parse_packets(const char *s, void *field);
int limit_parse_burst(const char *s, void *field);
int limit_parse_window(const char *s, void *field); /* into a limit_config */
/* *out: NULL if nothing is limited. Returns 0 or -ENOMEM. */
int limit_new(const struct limit_config *c, uint64_t tsc_second, uint64_t tsc, struct limit **out);
/* Control thread: that from now on, which is taken over; NULL: none. */
void limit_change(struct vif *vif, struct limit *new);
/* How many slots may be used now, at most `most`. 0: none before *until (TSC). */
unsigned limit_slots(struct pv_limit *side, uint64_t tsc, unsigned most, uint64_t *until);

/* ---- vif.c ---- */
enum { VIF_MTU_MAX = 65535 - 14 /* a packet's length has 16 bits in a ring */ };

struct vif_config {
	uint8_t mac[6];
	uint32_t mtu /* 0: the uplink's */, queues, carrier;
	uint32_t trusted; /* pviod tells the guest; nothing here depends on it, nor on these: */
	uint32_t pair, use;
	struct limit_config limit;
	char bridge[NB_BRIDGE_NAME]; /* "": that of --bridge */
	struct vlans vlans;
	uint32_t antispoof;
	struct antispoof own; /* ip= */
	const char *rules; /* a file's text, borrowed until rules_make; else NULL */
};

struct vif_counts {
	uint64_t tx_packets, tx_bytes, tx_bad, tx_vlan, tx_copy_failed, tx_no_memory, tx_not_learned;
	uint64_t rx_packets, rx_bytes, rx_full, rx_copy_failed, rx_stalls;
	uint64_t notifies, events, spurious;
	uint64_t tx_limited, rx_limited; /* times that it had to wait */
	uint64_t tx_lost, rx_lost; /* with the process before this one */
};

enum { VIF_RESTING, VIF_ACTIVE, VIF_PENANCE, VIF_WAITING, VIF_HELD }; /* vif_queue.state */

/* One queue. Owner: `worker`, from queue_attach to queue_detach; before and after, the control thread. */
struct vif_queue {
	struct pv_ring tx, rx;
	struct pv_inflight_ring *tx_log, *rx_log;
	struct statics *statics; /* NULL: none. Its own to free */
	struct vif *vif;
	struct nb_worker *worker;
	TAILQ_ENTRY(vif_queue) link; /* in worker->active, or, in the last two states, ->later */
	uint64_t last; /* TSC of the last work, or of activation */
	uint64_t moved; /* TSC since when the head of the backlog waits */
	uint16_t index;
	uint16_t share; /* slots that it may take in a turn beside others */
	uint8_t state;
	bool broken, worked, woken; /* woken by an event, and nothing found to do since */
	bool tx_notify, rx_notify; /* at the end of this turn */
	uint8_t masked; /* bit 0: tx_port's event was taken and not unmasked, bit 1: rx_port's */
	uint16_t need; /* slots that the head of the backlog needs, while the guest does not provide them */
	uint32_t spurious; /* in a row */
	uint64_t later_at; /* TSC: end of penance, or of waiting */
	uint64_t tx_until, rx_until; /* TSC: beyond its limit until then; 0: it is not */

	uint32_t head, tail; /* of the backlog, free-running */
	uint32_t backlog_bytes;
	uint32_t tx_port, rx_port; /* ours */
	void *pages; /* tx ring page, rx ring page: one mapping */
	struct {
		struct fair who;
		uint8_t account[NB_BACKLOG_PACKETS]; /* of the packets in the backlog; 0: not counted */
	} fair; /* fair.c's */
	struct vif_counts n;
	struct rte_mbuf *backlog[NB_BACKLOG_PACKETS];
};

/* A device. Owner: control thread. Workers read it while its switch port is open or they own a queue of it. */
struct vif {
	struct netback *nb;
	TAILQ_ENTRY(vif) link;
	struct pv_device_id id;
	char name[32]; /* "vif 0 of guest 3" */
	struct bridge *bridge;
	struct vif_config config;
	struct vlans vlans; /* of this connection */
	int port; /* of the bridge's switch */
	uint32_t generation; /* of this connection */
	bool connected;
	bool reported; /* broken, and pviod was told */
	struct pv_noxs_choice choice;
	uint32_t features; /* that the guest can be sent; what it may send is all that was offered */
	/* Atomic, for they change while it is connected; each says something by itself: */
	uint32_t frame_max;
	uint32_t headroom; /* bytes before each received packet */
	struct hash *hash; /* NULL: the guest has set up no hashing */
	bool carrier; /* the link is up: it may send, and its switch port is open */
	uint32_t steps; /* STEP_*: atomic, workers read it once a packet */
	struct limit *limit; /* atomic; NULL: it has none */
	uint64_t mac; /* atomic: its own, pinned in the switch while it is connected */
	struct capture *capture; /* atomic; NULL: it is not captured */
	unsigned nr_queues;
	struct vif_queue *queues;
	struct pv_inflight *inflight; /* of this connection ... */
	struct keep *keep; /* ... and its area */
	struct rules *rules; /* atomic; the control thread's, see rules_replace */
	const char *broken; /* atomic, set once by a worker: why, a static string */
	struct ctrl *ctrl; /* control thread; NULL: no control ring */
	struct mcast mcast;
	uint64_t rx_too_big, rx_no_memory, rx_filtered; /* atomic: dropped by whichever worker had it */
	struct pv_log_peer log;
};

extern const struct pv_backend_ops vif_ops; /* ctx: struct netback */
uint32_t vif_mtu(const struct vif *vif, const struct vif_config *c); /* what is given, or the uplink's */
struct vif *vif_find(struct netback *nb, const struct pv_device_id *id);
void vif_reap_broken(struct netback *nb); /* control thread: tell pviod, tear down */
void vif_free_all(struct netback *nb);

/* ---- vif_config.c ---- */
int vif_config_parse(const struct pv_device_id *id, struct json_object *config, unsigned queues_default,
		     struct vif_config *out, char *why, size_t len);
void vif_config_help(void);

/* ---- queue.c: a queue's life on its worker ---- */
int queue_attach(struct vif_queue *q, const struct pv_noxs_vif_queue *c, bool adopt, char *why, size_t len);
void queue_detach(struct vif_queue *q);
void queue_activate(struct vif_queue *q);
void queue_hold(struct vif_queue *q); /* not looked at any more, until adopt_resume */
void queue_broken(struct vif_queue *q, const char *why);
void vif_broken(struct vif *vif, const char *why); /* any thread; why: a static string. The first to say so is heard */
void queue_rest(struct vif_queue *q); /* nothing to do: re-arm, unmask, leave the active list */
void queue_unmask(struct vif_queue *q);
void queue_later(struct vif_queue *q); /* its later_at has come */

/* ---- adopt.c: a queue goes on where a process that was killed left it ---- */
int adopt_log_open(const struct pv_connect *c, struct vif *vif, char *why, size_t len); /* for all of the vif's queues */
int adopt_rings(struct vif_queue *q, void *tx, void *rx); /* begin them, and answer what is owed. 0, -ENOENT: the log makes no sense */
/* About to be handed over: nothing is taken from guests and uplinks any more, so that it waits for the next process, and guests are given what
 * waits for them here, if they have room for it soon. Control thread. */
void adopt_leave(struct netback *nb);
void adopt_hold(struct netback *nb); /* all queues stop at once, and not one after the other: nobody sends to one that is gone. Control thread */
void adopt_resume(void *ctx); /* all that were adopted are back: from now on their queues are looked at. Control thread; ctx: struct netback */
void adopt_arrive(struct vif_queue *q); /* its ports are bound: wake the guest, whom the old process may owe it */

/* Before there are workers: their logs, in nb->worker_log, and what the process before us had in them, in nb->lost. */
int adopt_workers_open(struct netback *nb, char *why, size_t len);
void adopt_workers_close(struct netback *nb); /* without workers any more; half-built is fine */

/* One more, of what any worker counts. */
static inline void nb_count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); /* a counter orders nothing */
}

/* Where the id of a request that the guest posted is kept until it is answered. */
static inline uint16_t *rx_id(const struct vif_queue *q, uint32_t index)
{
	return (uint16_t *)q->rx_log->records + (index & (q->rx.nr - 1));
}

/* The end of a turn: what was answered is about to be published. */
static inline void adopt_log_turn(struct vif_queue *q)
{
	pv_inflight_answer(q->tx_log, q->tx.prod);
	pv_inflight_answer(q->rx_log, q->rx.prod);
}

void adopt_log_worker(struct nb_worker *w); /* what no queue has: after the queues' logs say what they have, before anything is answered */

/* ---- tx.c, rx.c, forward.c: a turn ---- */
/* What was taken of a guest, and how it will be answered. Valid within a turn. */
struct tx_run {
	struct vif_queue *queue;
	uint16_t op, slot; /* the first of its copies, and of its slots in nb_worker.slots */
	uint16_t plain; /* so many packets, each in one slot and copied by one operation; 0: one chain, of any kind: */
	uint16_t ops, slots;
	uint8_t extras;
	int8_t status; /* of a chain whose packet is NULL: it was dropped */
};

/* Packets that are being copied to a guest, for which the next of its requests were taken. Valid within a turn. */
struct rx_run {
	struct vif_queue *queue;
	uint16_t op; /* the first operation of the copy */
	uint16_t plain; /* so many packets, each in one slot and copied by one operation, their answers ready in w->rx_answer */
	/* 0: one packet, of any kind: */
	uint16_t ops, slots, headroom;
	uint8_t extras; /* slots behind the first that carry something else than data */
	uint8_t hash_type; /* _XEN_NETIF_CTRL_HASH_TYPE_* + 1; 0: it was not hashed */
	uint32_t first; /* its requests in the ring: their ids are in the log */
	uint32_t hash;
};

void tx_work(struct vif_queue *q);
void tx_finish(struct nb_worker *w);
void rx_plan(struct vif_queue *q);
void rx_finish(struct nb_worker *w);
void forward(struct nb_worker *w, struct bridge *b, struct vif_queue *from, struct rte_mbuf **m, unsigned n); /* takes them; from NULL: the uplink */
void forward_answer(struct nb_worker *w, struct bridge *b, struct rte_mbuf *m); /* takes m, of our own making, for an address seen just now */

/* ---- backlog.c: what waits for a guest. Those that name a queue: on the queue's worker ---- */
void backlog_give(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m); /* takes m; any worker */
void backlog_push(struct vif_queue *q, struct rte_mbuf **m, unsigned n); /* takes them */
struct rte_mbuf *backlog_pop(struct vif_queue *q); /* its head; there is one */
void backlog_drop(struct vif_queue *q); /* all of it */
/* Drop what has waited for longer than a second for guests that post no pages: packet memory is scarce. */
void backlog_reclaim(struct nb_worker *w);
/* The hash of a packet by the most specific of the types that the guest asked for. Returns the type + 1, or 0: by none. */
uint8_t backlog_hash(const struct hash *h, const struct rte_mbuf *m, uint32_t *value);

/* ---- fair.c, of the backlog beyond w->uncontended ---- */
bool fair_push(struct vif_queue *q, const struct rte_mbuf *m, uint32_t cost); /* may m wait there? Counts it, before it is put at the tail */
void fair_pop(struct vif_queue *q, uint32_t slot, uint32_t cost); /* one that was counted leaves */

/* The largest packet that a guest takes in one piece: more pages than Linux takes are never filled. */
static inline uint32_t rx_most(uint32_t headroom)
{
	return RTE_MIN((uint32_t)UINT16_MAX, XEN_NETIF_NR_SLOTS_MIN * (PV_PAGE_SIZE - headroom));
}

/* ---- steps.c: what is done to a packet besides switching it, for vifs that ask for it ---- */
/* Of vif.steps. A vif without any pays one test a packet. */
enum { STEP_VLAN = 1 << 0, STEP_RULES = 1 << 1, STEP_CAPTURE = 1 << 2, STEP_MCAST = 1 << 3 };
/* A checked packet that a guest sent, before it is switched; and one on its way to a guest, before its flags are worked off. m is
 * private memory; in step_to it may be shared with other receivers and is not to be changed. False: it was freed and counted. */
bool step_from(struct nb_worker *w, struct vif_queue *q, struct rte_mbuf *m);
bool step_to(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m);

/* ---- rules*.c: a vif's firewall; see rules.h, rules_set.h ---- */
struct rules; /* a compiled set */
/* Compile what a vif's configuration asks for; c->rules is used up. *out: NULL for no rules at all, or vif->rules itself if nothing
 * changes (vif NULL: a new one). Returns 0, or -errno and in `why` what is wrong with which line. Control thread; up to seconds. */
int rules_make(const struct pv_device_id *id, const struct vif *vif, struct vif_config *c, unsigned workers, struct rules **out, char *why,
	       size_t len);
void rules_drop(const struct vif *vif, struct rules *r); /* the same were not to be had after all; NULLs are fine */
/* From now on these are the vif's rules; takes r, frees those before when no worker has them. Control thread. */
void rules_replace(struct vif *vif, struct rules *r);
void rules_retarget(struct netback *nb); /* a vif connected, or is about to go: who is mirrored to. Control thread */
bool rules_step(struct nb_worker *w, struct vif *vif, struct rte_mbuf *m, bool from); /* false: it was freed and counted */
struct json_object *rules_show(struct vif *vif, struct json_object *params, int *error, char *why, size_t len); /* for ask.c */
void rules_stats(struct vif *vif, struct json_object *o); /* what they dropped, in sum */

/* ---- post.c: packets for queues of another worker ---- */
struct post {
	struct rte_mbuf *m;
	uint32_t generation; /* of the vif's connection, or of the bridge */
	uint16_t port; /* of the switch */
	uint8_t bridge; /* its index */
	uint8_t queue;
};
enum { POST_WAITING = 256 /* packets that wait for another worker's ring, which is full */ };
/* Those of a worker for one of the others. Owner: the worker that sends them. */
struct post_wait {
	unsigned n;
	struct fair fair;
	uint8_t account[POST_WAITING]; /* of each */
	struct post p[POST_WAITING];
};
int post_new(struct nb_worker *w);
void post_free(struct nb_worker *w);
void post_send(struct nb_worker *from, struct nb_worker *to, const struct post *p); /* takes p->m */
void post_again(struct nb_worker *w); /* some wait: into the rings with them, as far as these have room */
void post_take(struct nb_worker *w);
bool post_may_sleep(struct nb_worker *w); /* false: something came meanwhile */
void post_woke(struct nb_worker *w, bool kicked);

/* ---- turn.c ---- */
enum { NB_SPENT_IDLE, NB_SPENT_BUSY, NB_SPENT_ASLEEP, NB_SPENT }; /* turns that moved nothing, turns that did, between turns */

/* Owner: its own thread, from the start of the body to its end. */
struct nb_worker {
	struct netback *nb;
	struct pv_worker *pw; /* the control thread's, to call it */
	struct pv_worker *self; /* the same, as the body got it */
	struct pv_hyper *h;
	unsigned index;
	int error; /* of the start, with `why` */
	char why[200];
	TAILQ_HEAD(queues, vif_queue) active, later;
	struct vif_queue **by_port; /* local port -> queue */
	uint32_t nr_ports;
	unsigned nr_queues;
	struct pool_spare spare;
	unsigned nr_up; /* all bridges have an index below */
	struct uplink_queue up[NB_BRIDGES_MAX];
	uint64_t tsc, events_at, share_at, reclaim_at;
	uint32_t now; /* seconds */
	uint32_t share; /* bytes that a backlog may hold now */
	uint32_t uncontended; /* ... of which so many without counting */
	bool contended; /* queues of several vifs are active */
	bool leaving; /* nothing is taken any more, see adopt_leave */
	struct worker_log *log;
	uint64_t taken; /* as its log will say */
	uint64_t left; /* packets that it dropped because it is leaving */
	unsigned nr_unmask;
	uint32_t unmask[128];
	uint64_t turns, sleeps, post_full, no_memory;
	const struct vif *rules_off; /* while a packet of our own making is given to it */
	uint8_t spent; /* on what the time since `tsc` goes ... */
	uint64_t cycles[NB_SPENT]; /* ... and what went so far, of the TSC */

	struct rte_ring *posts;
	struct post_wait *post_wait; /* one for each worker */
	bool posts_wait; /* in one of these */
	int kick_fd, epoll_fd;
	bool asleep; /* atomic */

	unsigned nr_ops, nr_tx, nr_tx_runs, nr_slots, nr_rx, nr_rx_runs, tx_bytes; /* of the batch */
	struct tx_run tx_run[NB_TURN_PACKETS];
	struct rte_mbuf *tx[NB_TURN_PACKETS]; /* the packets of the runs, one after the other */
	struct rx_run rx_run[NB_TURN_PACKETS];
	struct rte_mbuf *rx[NB_TURN_PACKETS];
	uint64_t rx_answer[NB_TURN_PACKETS]; /* pv_net_rx_rsp of plain ones, as if they were copied */
	union pv_net_tx_slot slots[NB_TURN_PACKETS];
	struct pv_gnt_copy ops[NB_TURN_OPS];
};

void turn_body(void *arg, struct pv_worker *pw); /* arg: struct nb_worker */
int turn_watch_uplink(struct nb_worker *w, unsigned bridge, int fd); /* 0 or -errno; closing fd ends it */
void turn_unmask(struct nb_worker *w, uint32_t port);
void turn_no_memory(struct nb_worker *w); /* count it, and tell now and then */

/* ---- netback.c: the parts put together ---- */
/* Owner: control thread. Workers read everything up to `vifs`, which does not change while they run. */
struct netback {
	struct nb_options opt;
	struct rte_mempool *pool;
	struct rte_mempool *refs; /* of pool_refs_new */
	void *pages; /* of the pool's segments */
	uint32_t seg_cost;
	struct bridge bridge[NB_BRIDGES_MAX];
	int plug_fd; /* of plug_start */
	unsigned nr_workers;
	struct nb_worker *workers[NB_WORKERS_MAX];
	struct pv_inflight *inflight; /* of the process */
	struct worker_log *worker_log; /* NB_WORKERS_MAX of them, in it */
	uint64_t lost; /* packets that workers of the process before us had */
	uint64_t poll_tsc, tsc_second;
	int wake_fd; /* workers wake the control thread: a vif broke, memory ran out */
	bool no_memory; /* atomic: tell it */
	bool ended; /* atomic: the hypervisor ended a worker's handle, nobody can be served */

	TAILQ_HEAD(, vif) vifs;
	struct pv_hyper *ctrl_h; /* for control rings */
	TAILQ_HEAD(, ctrl) ctrls;
	TAILQ_HEAD(, capture) captures;
	struct pv_backend *backend;
	uint32_t generation;
	unsigned next_worker;
	uint64_t no_memory_at; /* seconds, of the last line about it */
};

int netback_open(struct netback *nb, const struct nb_options *opt, int plug_fd, char *why, size_t len); /* EAL runs already */
void netback_close(struct netback *nb); /* half-built is fine */
void netback_tick(struct netback *nb); /* once a second: ageing */
void netback_woken(struct netback *nb); /* wake_fd was readable */
void netback_barrier(struct netback *nb); /* returns when every worker has passed between two turns */
void netback_wake(struct netback *nb); /* any thread */
uint64_t netback_seconds(void);

/* ---- telemetry.c ---- */
void telemetry_open(struct netback *nb); /* control thread, all of them */
void telemetry_work(struct netback *nb); /* wake_fd was readable */
void telemetry_close(void);

/* ---- ask.c ---- */
struct json_object *ask_vif(void *ctx, const struct pv_device_id *id, const char *what, struct json_object *params, int *error, char *why,
			    size_t len);

/* ---- report.c ---- */
struct json_object *report_stats(void *ctx, const struct pv_device_id *id);
struct json_object *report_inspect(void *ctx, const struct pv_device_id *id);

/* ---- copies between a chain of segments and pages of a guest ---- */
static inline bool copied(const struct pv_gnt_copy *ops, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (unlikely(ops[i].status != GNTST_okay))
			return false;
	return true;
}

struct chain_at {
	struct rte_mbuf *seg;
	uint32_t off;
};

/* The next piece of a chain, of at most `want` bytes, that lies in one page of ours (a grant copy's local end may not cross
 * one on Xen). Call only while bytes are left. */
static inline uint32_t chain_piece(struct chain_at *at, uint32_t want, void **p)
{
	uint32_t left;

	while (at->off == at->seg->data_len) {
		at->seg = at->seg->next;
		at->off = 0;
	}
	*p = rte_pktmbuf_mtod_offset(at->seg, void *, at->off);
	left = RTE_MIN((uint32_t)at->seg->data_len - at->off, (uint32_t)(PV_PAGE_SIZE - ((uintptr_t)*p & (PV_PAGE_SIZE - 1))));
	left = RTE_MIN(left, want);
	at->off += left;
	return left;
}

#endif
