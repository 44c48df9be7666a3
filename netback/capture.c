/* capture.c - packets of a vif, copied to who asked for them.
 *
 * Theory of operation. `pvio capture` listens on a socket in the run directory and has us asked to connect to it; what we send is a
 * pcapng file. Each worker copies what it sees of the vif into a ring of bytes of its own, or counts it as dropped: a slow reader
 * costs packets of the capture, never of the guest. Every CAPTURE_MS the control thread takes what is in the rings, the oldest first, makes
 * blocks of it and sends as much as the socket takes. A capture ends when its reader stops writing (it is done), is gone, when
 * enough packets were sent, or with the vif; then no worker fills its rings, what is in them is sent, and a block with the totals. */
#include "capture.h"
#include "netback.h"
#include <rte_cycles.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	SNAPLEN_MAX = 65535 + NB_L2_ROOM, /* the largest packet */
	RINGS_BYTES = 4 << 20, /* of all workers' rings of a capture ... */
	RING_BYTES_MIN = 256 << 10, /* ... but each has that */
	OUT_BYTES = 256 << 10,
	WORK_BYTES = 4 << 20, /* sent in one go: pviod is to be heard as well */
	CACHE_LINE = 64,
	PAD = UINT32_MAX, /* record.cap: nothing; the next record is at the ring's beginning */
};

/* In a ring, at a multiple of 8 bytes, never around its end. */
struct record {
	uint32_t size; /* with what follows, to the next */
	uint32_t cap, len, direction;
	uint64_t tsc;
	uint8_t data[];
};

/* Producer: one worker. Consumer: the control thread. */
struct capture_ring {
	uint64_t head __attribute__((aligned(CACHE_LINE))); /* free-running; atomic, the worker's */
	uint64_t dropped; /* atomic, the worker's */
	uint64_t tail __attribute__((aligned(CACHE_LINE))); /* free-running; atomic, the control thread's */
	uint8_t *bytes;
};

/* Owner: control thread; workers may use it while vif->capture points to it. Lifetime: until its reader is gone or has got all. */
struct capture {
	TAILQ_ENTRY(capture) link;
	struct netback *nb;
	struct vif *vif; /* NULL: it ends, no worker knows of it */
	char name[32]; /* of the vif */
	int fd;
	bool blocked; /* the socket took less than we had */
	bool over; /* all is sent but what is in `out` */
	unsigned directions; /* mask of enum pcapng_direction */
	uint32_t snaplen, ring_size; /* a power of two */
	uint64_t count; /* packets to capture, 0: no limit */
	struct pcapng_totals totals; /* dropped: at the end */
	size_t out_at, out_len;
	uint8_t out[OUT_BYTES + PCAPNG_ROOM + SNAPLEN_MAX];
	struct capture_ring ring[];
};

/* ---- rings ---- */

static uint32_t record_size(uint32_t cap)
{
	return (uint32_t)RTE_ALIGN_CEIL(sizeof(struct record) + cap, 8);
}

/* Room for a record with cap bytes, or NULL. *head: what to publish when it is filled. */
static struct record *ring_reserve(struct capture_ring *r, uint32_t ring_size, uint32_t cap, uint64_t *head)
{
	uint64_t tail = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE); /* pairs with ring_release: what lay there was read */
	uint32_t at = (uint32_t)r->head & (ring_size - 1), size = record_size(cap), skip = at + size > ring_size ? ring_size - at : 0;

	if (r->head + skip + size - tail > ring_size)
		return NULL;
	if (skip) {
		*(struct record *)(r->bytes + at) = (struct record){ .size = skip, .cap = PAD }; /* it may be more than is left: see capture_new */
		at = 0;
	}
	*head = r->head + skip + size;
	((struct record *)(r->bytes + at))->size = size;
	return (struct record *)(r->bytes + at);
}

static void ring_release(struct capture_ring *r, const struct record *rec)
{
	__atomic_store_n(&r->tail, r->tail + rec->size, __ATOMIC_RELEASE); /* pairs with ring_reserve */
}

/* The oldest record, or NULL. */
static const struct record *ring_peek(struct capture_ring *r, uint32_t ring_size)
{
	while (__atomic_load_n(&r->head, __ATOMIC_ACQUIRE) != r->tail) { /* pairs with capture_packet: it is filled */
		const struct record *rec = (const struct record *)(r->bytes + (r->tail & (ring_size - 1)));

		if (rec->cap != PAD)
			return rec;
		ring_release(r, rec);
	}
	return NULL;
}

static void copy_packet(uint8_t *to, const struct rte_mbuf *m, uint32_t n)
{
	for (; n; m = m->next) {
		uint32_t part = RTE_MIN(n, (uint32_t)m->data_len);

		memcpy(to, rte_pktmbuf_mtod(m, const void *), part);
		to += part;
		n -= part;
	}
}

void capture_packet(struct nb_worker *w, struct vif *vif, const struct rte_mbuf *m, enum pcapng_direction direction)
{
	struct capture *c = __atomic_load_n(&vif->capture, __ATOMIC_ACQUIRE); /* pairs with attach */
	struct capture_ring *r = c ? &c->ring[w->index] : NULL;
	struct record *rec;
	uint64_t head;
	uint32_t cap;

	if (!c || !(c->directions & direction))
		return;
	cap = RTE_MIN(m->pkt_len, c->snaplen);
	rec = ring_reserve(r, c->ring_size, cap, &head);
	if (!rec) {
		__atomic_store_n(&r->dropped, r->dropped + 1, __ATOMIC_RELAXED); /* a counter orders nothing */
		return;
	}
	rec->cap = cap;
	rec->len = m->pkt_len;
	rec->direction = direction;
	rec->tsc = rte_rdtsc();
	copy_packet(rec->data, m, cap);
	__atomic_store_n(&r->head, head, __ATOMIC_RELEASE); /* pairs with ring_peek */
}

/* ---- a capture's life ---- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t dropped(const struct capture *c)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < c->nb->nr_workers; i++)
		n += __atomic_load_n(&c->ring[i].dropped, __ATOMIC_RELAXED);
	return n;
}

static void capture_free(struct capture *c)
{
	if (c->fd >= 0)
		close(c->fd);
	for (unsigned i = 0; i < c->nb->nr_workers; i++)
		free(c->ring[i].bytes);
	free(c);
}

static struct capture *capture_new(struct netback *nb)
{
	unsigned each = RTE_MAX(RINGS_BYTES / rte_align32pow2(nb->nr_workers), (unsigned)RING_BYTES_MIN);
	size_t size = RTE_ALIGN_CEIL(sizeof(struct capture) + nb->nr_workers * sizeof(struct capture_ring), CACHE_LINE);
	struct capture *c = aligned_alloc(CACHE_LINE, size);
	bool whole = true;

	if (!c)
		return NULL;
	memset(c, 0, size);
	c->nb = nb;
	c->fd = -1;
	c->ring_size = each;
	for (unsigned i = 0; i < nb->nr_workers; i++) {
		c->ring[i].bytes = malloc(each + sizeof(struct record)); /* a pad at the very end may be less than a record */
		whole &= c->ring[i].bytes != NULL;
	}
	if (whole)
		return c;
	capture_free(c);
	return NULL;
}

static void attach(struct capture *c, struct vif *vif)
{
	memcpy(c->name, vif->name, sizeof(c->name));
	c->vif = vif;
	__atomic_store_n(&vif->capture, c, __ATOMIC_RELEASE); /* pairs with capture_packet */
	__atomic_fetch_or(&vif->steps, STEP_CAPTURE, __ATOMIC_RELEASE);
	netback_barrier(c->nb); /* no train of packets passes by it */
	TAILQ_INSERT_TAIL(&c->nb->captures, c, link);
}

/* From here on no worker uses c. */
static void detach(struct capture *c, bool in_use)
{
	if (!c->vif)
		return;
	__atomic_fetch_and(&c->vif->steps, ~(uint32_t)STEP_CAPTURE, __ATOMIC_RELAXED);
	__atomic_store_n(&c->vif->capture, NULL, __ATOMIC_RELAXED);
	c->vif = NULL;
	if (in_use)
		netback_barrier(c->nb);
}

void capture_leave(struct vif *vif)
{
	if (vif->capture)
		detach(vif->capture, false);
}

static void finish(struct capture *c)
{
	pv_log(PV_LOG_INFO, "%s: its capture ended: %llu packets, %llu more were dropped from it", c->name,
	       (unsigned long long)c->totals.written, (unsigned long long)dropped(c));
	TAILQ_REMOVE(&c->nb->captures, c, link);
	capture_free(c);
}

/* ---- to the reader ---- */

/* TSC and UTC at the same moment, by which those of records are known. */
struct moment {
	uint64_t tsc, ns, hz;
};

static uint64_t ns_of(const struct moment *now, uint64_t tsc)
{
	return now->ns + (uint64_t)(int64_t)((double)(int64_t)(tsc - now->tsc) * 1e9 / (double)now->hz);
}

/* The oldest record of all rings. */
static const struct record *oldest(struct capture *c, struct capture_ring **ring)
{
	const struct record *first = NULL;

	for (unsigned i = 0; i < c->nb->nr_workers; i++) {
		const struct record *rec = ring_peek(&c->ring[i], c->ring_size);

		if (rec && (!first || (int64_t)(rec->tsc - first->tsc) < 0)) {
			first = rec;
			*ring = &c->ring[i];
		}
	}
	return first;
}

/* Make blocks of what is in the rings, while there is room. */
static void encode(struct capture *c, const struct moment *now)
{
	struct capture_ring *ring;
	const struct record *rec = NULL;

	while (c->out_len < OUT_BYTES && !c->over) {
		bool enough = c->count && c->totals.written == c->count;

		if (enough)
			detach(c, true);
		rec = enough ? NULL : oldest(c, &ring);
		if (rec) {
			c->out_len += pcapng_packet(c->out + c->out_len, ns_of(now, rec->tsc), rec->direction, rec->len, rec->data, rec->cap);
			c->totals.written++;
			ring_release(ring, rec);
		} else if (!c->vif) {
			c->totals.dropped = dropped(c);
			c->totals.end_ns = now->ns;
			c->out_len += pcapng_end(c->out + c->out_len, &c->totals);
			c->over = true;
		} else {
			return;
		}
	}
}

/* Returns the bytes sent, or -errno: the reader is gone. */
static ssize_t send_out(struct capture *c)
{
	ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);

	c->blocked = n < 0 && (errno == EAGAIN || errno == EINTR);
	if (n < 0)
		return c->blocked ? 0 : -errno;
	c->out_at += (size_t)n;
	if (c->out_at == c->out_len)
		c->out_at = c->out_len = 0;
	return n;
}

/* Has the reader stopped writing? It never writes anything. */
static bool is_done(const struct capture *c)
{
	char byte;

	return recv(c->fd, &byte, 1, MSG_DONTWAIT) >= 0 || (errno != EAGAIN && errno != EINTR);
}

static void work(struct capture *c)
{
	struct moment now = { .tsc = rte_rdtsc(), .ns = now_ns(), .hz = c->nb->tsc_second };
	ssize_t sent = 0, total = 0;

	if (c->vif && is_done(c))
		detach(c, true);
	do {
		if (c->out_len == 0)
			encode(c, &now);
		sent = c->out_len ? send_out(c) : 0;
		total += sent;
	} while (sent > 0 && total < WORK_BYTES);
	if (sent < 0)
		detach(c, true);
	if (sent < 0 || (c->over && c->out_len == 0))
		finish(c);
}

void capture_work(struct netback *nb)
{
	struct capture *c, *next;

	for (c = TAILQ_FIRST(&nb->captures); c; c = next) {
		next = TAILQ_NEXT(c, link);
		work(c);
	}
}

unsigned capture_poll(const struct netback *nb, struct pollfd fds[CAPTURES_MAX])
{
	struct capture *c;
	unsigned n = 0;

	TAILQ_FOREACH(c, &nb->captures, link)
		fds[n++] = (struct pollfd){ .fd = c->fd, .events = (c->vif ? POLLIN : 0) | (c->blocked ? POLLOUT : 0) };
	return n;
}

void capture_end_all(struct netback *nb)
{
	struct capture *c, *next;

	TAILQ_FOREACH(c, &nb->captures, link)
		detach(c, true);
	capture_work(nb); /* what the reader takes at once */
	for (c = TAILQ_FIRST(&nb->captures); c; c = next) {
		next = TAILQ_NEXT(c, link);
		finish(c);
	}
}

struct json_object *capture_report(const struct vif *vif)
{
	struct json_object *o;

	if (!vif->capture)
		return NULL;
	o = json_object_new_object();
	json_object_object_add(o, "packets", json_object_new_int64((int64_t)vif->capture->totals.written));
	json_object_object_add(o, "dropped", json_object_new_int64((int64_t)dropped(vif->capture)));
	return o;
}

/* ---- being asked ---- */

static const char *text(struct json_object *params, const char *key, const char *none)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(params, key, &v);
	return json_object_get_type(v) == json_type_string ? json_object_get_string(v) : none;
}

static int64_t number(struct json_object *params, const char *key, int64_t none)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(params, key, &v);
	return json_object_get_type(v) == json_type_int ? json_object_get_int64(v) : none;
}

static int may_capture(const struct vif *vif, char *why, size_t len)
{
	const struct netback *nb = vif->nb;
	struct capture *c;
	unsigned n = 0;

	TAILQ_FOREACH(c, &nb->captures, link)
		n++;
	if (nb->opt.pviod == PV_BACKEND_PIPE)
		return pv_why(why, len, -ENOTSUP, "%s: it is served in a driver domain, which cannot send packets to here; capture in the guest", vif->name);
	if (vif->capture)
		return pv_why(why, len, -EBUSY, "%s: is captured already: end that `pvio capture` first", vif->name);
	if (n == CAPTURES_MAX)
		return pv_why(why, len, -EBUSY, "%s: %d captures are running already: end one of them first", vif->name, CAPTURES_MAX);
	return 0;
}

/* What is wished, into c. */
static int configure(struct capture *c, const struct vif *vif, struct json_object *params, char *why, size_t len)
{
	static const char *const names[] = { "from", "to", "both" };
	static const unsigned masks[] = { PCAPNG_OUTBOUND, PCAPNG_INBOUND, PCAPNG_OUTBOUND | PCAPNG_INBOUND };
	const char *direction = text(params, "direction", "both");
	int64_t snaplen = number(params, "snaplen", SNAPLEN_MAX), count = number(params, "count", 0);

	for (unsigned i = 0; i < RTE_DIM(names); i++)
		if (strcmp(names[i], direction) == 0)
			c->directions = masks[i];
	if (!c->directions || snaplen < 1 || count < 0)
		return pv_why(why, len, -EINVAL, "%s: capture: direction is from, to or both; snaplen at least 1; count no less than 0", vif->name);
	c->snaplen = (uint32_t)RTE_MIN(snaplen, (int64_t)SNAPLEN_MAX);
	c->count = (uint64_t)count;
	c->totals.begin_ns = now_ns();
	c->out_len = pcapng_begin(c->out, text(params, "name", vif->name), vif->config.mac, c->snaplen);
	return 0;
}

struct json_object *capture_ask(struct vif *vif, struct json_object *params, int *error, char *why, size_t len)
{
	const char *path = text(params, "path", "");
	struct capture *c;

	*error = may_capture(vif, why, len);
	if (*error < 0)
		return NULL;
	c = capture_new(vif->nb);
	if (!c) {
		*error = pv_why(why, len, -ENOMEM, "%s: no memory to capture", vif->name);
		return NULL;
	}
	*error = configure(c, vif, params, why, len);
	if (*error == 0) {
		c->fd = pv_rpc_connect(path);
		*error = c->fd < 0 ? pv_why(why, len, c->fd, "%s: cannot send to %s: %s", vif->name, path, strerror(-c->fd)) : 0;
	}
	if (*error < 0) {
		capture_free(c);
		return NULL;
	}
	attach(c, vif);
	pv_log(PV_LOG_INFO, "%s: is captured", vif->name);
	return json_object_new_object();
}
