/* loopback_copy.c - grant copy of a loopback handle: memcpy between mapped files, checked against the granter's table.
 *
 * The hub shows each domain's grant table to everyone (hub_wire.h). A copy loads the entry's word; if it is the one for which
 * we know the page's address already, the copy goes on at once. Only new references go the long way, through the hub if
 * their file is not mapped here yet. Revoking changes the word, so it works at once.
 */
#include "hyper_loopback.h"
#include "ring.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	COPY_FILES_MAX = 4096, /* mapped at once in a handle */
	COPY_AHEAD = 512, /* bytes to a grant that are fetched before; the processor goes on by itself */
	COPY_BLOCK = 32, /* operations that are looked up together */
	COPY_SOON = 4, /* operations from grants: so long before its own one's bytes are fetched */
};

/* ---- files and peers ---- */

static void file_drop(struct loopback *lb, struct copy_file *f)
{
	uint32_t i;

	/* Grants that still stand would be copied through what we unmap now: forget where they are. */
	for (i = 0; i < f->n; i++)
		if (f->gref[i] && f->peer->xlate[f->gref[i]].addr == f->addr + (size_t)i * HUB_PAGE)
			f->peer->xlate[f->gref[i]].word = 0;
	munmap(f->addr, (size_t)f->n * HUB_PAGE);
	idmap_del(&lb->files, f->id);
	TAILQ_REMOVE(&lb->copy_files, f, age);
	LIST_REMOVE(f, link);
	lb->nr_copy_files--;
	lb->drops++;
	free(f);
}

static void peer_drop(struct loopback *lb, struct peer *p)
{
	while (!LIST_EMPTY(&p->files))
		file_drop(lb, LIST_FIRST(&p->files));
	lb->peers[p->domid] = NULL;
	LIST_REMOVE(p, link);
	munmap((void *)p->table, hub_table_bytes(p->n));
	free(p->xlate);
	free(p);
}

int lb_copy_open(struct loopback *lb)
{
	/* Indexed by any uint16_t, so that the hot path need not check; the kernel gives memory for what is touched only. */
	lb->peers = calloc(1 << 16, sizeof(struct peer *));
	return lb->peers ? 0 : hyper_fail(&lb->h, -ENOMEM, "out of memory for a handle");
}

void lb_copy_close(struct loopback *lb)
{
	while (!LIST_EMPTY(&lb->all_peers))
		peer_drop(lb, LIST_FIRST(&lb->all_peers));
	idmap_free(&lb->files);
	free(lb->peers);
}

static bool peer_dead(const struct peer *p)
{
	return __atomic_load_n(&p->table->dead, __ATOMIC_ACQUIRE); /* pairs with the store in hub_dom_free */
}

static void drop_dead_peers(struct loopback *lb)
{
	struct peer *p, *next;

	for (p = LIST_FIRST(&lb->all_peers); p; p = next) {
		next = LIST_NEXT(p, link);
		if (peer_dead(p))
			peer_drop(lb, p);
	}
}

/* Files whose grants were ended (all of a file's end at once) keep memory of their owner: unmap them. */
static void drop_revoked(struct loopback *lb, struct peer *p)
{
	struct copy_file *f, *next;

	for (f = LIST_FIRST(&p->files); f; f = next) {
		const struct hub_entry *e = &p->table->entries[f->any];

		next = LIST_NEXT(f, link);
		if (!(__atomic_load_n(&e->word, __ATOMIC_RELAXED) & HUB_WORD_VALID) ||
		    __atomic_load_n(&e->where, __ATOMIC_RELAXED) >> 16 != f->id)
			file_drop(lb, f);
	}
}

static struct peer *peer_new(struct loopback *lb, uint16_t domid)
{
	struct peer *p;
	void *table = MAP_FAILED;
	int fd;

	if (lb_call(lb, &(struct hub_req){ .op = HUB_TABLE, .domid = domid }, NULL, 0, 1))
		return NULL;
	fd = lb->fds[0];
	p = calloc(1, sizeof(*p));
	if (p) {
		p->domid = domid;
		p->n = lb->rsp.n;
		p->xlate = calloc(p->n, sizeof(*p->xlate));
		if (p->xlate && !lb_check_seals(lb, fd, NULL))
			table = mmap(NULL, hub_table_bytes(p->n), PROT_READ, MAP_SHARED, fd, 0);
	}
	close(fd);
	if (table == MAP_FAILED) {
		if (p)
			free(p->xlate);
		free(p);
		return NULL;
	}
	p->table = table;
	LIST_INSERT_HEAD(&lb->all_peers, p, link);
	lb->peers[domid] = p;
	return p;
}

static struct peer *peer_get(struct loopback *lb, uint16_t domid)
{
	if (lb->peers[domid] && !peer_dead(lb->peers[domid]))
		return lb->peers[domid];
	drop_dead_peers(lb);
	return peer_new(lb, domid);
}

static void *map_whole(struct loopback *lb, int fd, uint32_t n, bool writable)
{
	void *p;

	for (;;) {
		p = mmap(NULL, (size_t)n * HUB_PAGE, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
		if (p != MAP_FAILED || TAILQ_EMPTY(&lb->copy_files))
			return p;
		file_drop(lb, TAILQ_FIRST(&lb->copy_files)); /* out of mappings: an old one makes room */
	}
}

/* Have the whole file behind a reference mapped. */
static struct copy_file *file_get(struct loopback *lb, struct peer *p, uint32_t gref, uint64_t id)
{
	struct copy_file *f = idmap_get(&lb->files, id);
	bool writable;
	void *addr = MAP_FAILED;
	int fd;

	if (f)
		return f;
	drop_revoked(lb, p);
	if (lb_call(lb, &(struct hub_req){ .op = HUB_FILE, .domid = p->domid, .gref = gref }, NULL, 0, 1))
		return NULL;
	fd = lb->fds[0];
	if (lb->nr_copy_files >= COPY_FILES_MAX)
		file_drop(lb, TAILQ_FIRST(&lb->copy_files));
	f = idmap_reserve(&lb->files, 1) ? NULL : calloc(1, sizeof(*f) + lb->rsp.n * sizeof(f->gref[0]));
	if (f && lb->rsp.id == id && !lb_check_seals(lb, fd, &writable))
		addr = map_whole(lb, fd, lb->rsp.n, writable);
	close(fd);
	if (addr == MAP_FAILED) {
		free(f);
		return NULL;
	}
	f->peer = p;
	f->id = id;
	f->any = gref;
	f->n = lb->rsp.n;
	f->addr = addr;
	idmap_put(&lb->files, id, f);
	TAILQ_INSERT_TAIL(&lb->copy_files, f, age);
	LIST_INSERT_HEAD(&p->files, f, link);
	lb->nr_copy_files++;
	return f;
}

/* ---- one end of a copy ---- */

/* The long way: a reference of which we do not know the page. On success peers[domid]->xlate does. */
static int translate_miss(struct loopback *lb, const struct pv_gnt_end *end, bool write)
{
	struct peer *p = peer_get(lb, end->domid);
	const struct hub_entry *e;
	struct copy_file *f;
	uint64_t word, where;

	if (!p)
		return GNTST_bad_domain;
	if (end->gref >= p->n)
		return GNTST_bad_gntref;
	e = &p->table->entries[end->gref];
	word = __atomic_load_n(&e->word, __ATOMIC_ACQUIRE); /* pairs with the store in hub_file_publish */
	if (!(word & HUB_WORD_VALID) || hub_word_domid(word) != lb->h.domid)
		return GNTST_bad_gntref;
	if (write && !(word & HUB_WORD_WRITABLE))
		return GNTST_permission_denied;
	where = __atomic_load_n(&e->where, __ATOMIC_RELAXED);
	f = file_get(lb, p, end->gref, where >> 16);
	if (!f || (where & 0xffff) >= f->n)
		return GNTST_general_error;
	if (__atomic_load_n(&e->word, __ATOMIC_SEQ_CST) != word)
		return GNTST_bad_gntref; /* revoked while we looked */
	f->gref[where & 0xffff] = end->gref;
	p->xlate[end->gref] = (struct xlate){ word, f->addr + (where & 0xffff) * HUB_PAGE };
	return GNTST_okay;
}

/* While faults are injected, the hub says of each copy whether it may pass. */
static int ask_injection(struct loopback *lb, uint16_t domid)
{
	if (lb_call(lb, &(struct hub_req){ .op = HUB_COPY, .domid = domid }, NULL, 0, 0))
		return GNTST_general_error;
	return (int32_t)lb->rsp.n;
}

/* The long way for any end: checks, injected faults. Returns the address, or NULL and *status. */
static uint8_t *translate(struct loopback *lb, const struct pv_gnt_end *end, uint32_t len, bool write, int16_t *status)
{
	int err = GNTST_okay;

	if (end->local)
		return end->local;
	if (end->offset + len > HUB_PAGE)
		err = GNTST_bad_copy_arg;
	if (!err)
		err = translate_miss(lb, end, write);
	if (!err && __atomic_load_n(&lb->peers[end->domid]->table->inject, __ATOMIC_RELAXED))
		err = ask_injection(lb, end->domid);
	if (!err)
		return lb->peers[end->domid]->xlate[end->gref].addr + end->offset;
	*status = err;
	return NULL;
}

/* Finding the second page can unmap the file of the first one (revoked, or too many files): then look both up again. */
static void copy_slowly(struct loopback *lb, struct pv_gnt_copy *op)
{
	unsigned tries;
	uint32_t drops;

	for (tries = 0; tries < 3; tries++) {
		uint8_t *from, *to;

		drops = lb->drops;
		from = translate(lb, &op->from, op->len, false, &op->status);
		to = from ? translate(lb, &op->to, op->len, true, &op->status) : NULL;
		if (!to)
			return;
		if (drops == lb->drops) {
			memcpy(to, from, op->len);
			op->status = GNTST_okay;
			return;
		}
	}
	/* the preset status stands */
}

/* A domain whose pages we may know, and no fault is injected into its copies: looked up once for a row of operations. */
struct known_peer {
	int domid; /* -1: none yet */
	const struct peer *peer; /* or NULL */
};

static inline const struct peer *known_peer(const struct loopback *lb, struct known_peer *k, uint16_t domid)
{
	if (domid != k->domid) {
		const struct peer *p = lb->peers[domid];

		*k = (struct known_peer){ domid, p && !__atomic_load_n(&p->table->inject, __ATOMIC_RELAXED) ? p : NULL };
	}
	return k->peer;
}

/* The address of a granted end if it is known and still right, else NULL. p: its domain's, or NULL. */
static inline uint8_t *known(const struct peer *p, const struct pv_gnt_end *end, uint32_t len, uint64_t need)
{
	const struct xlate *x;
	uint64_t word;

	if (__builtin_expect(!p || end->gref >= p->n || end->offset + len > HUB_PAGE, 0))
		return NULL;
	/* Relaxed: the word protects no data, it only says whether the address that we know is still the right one. */
	word = __atomic_load_n(&p->table->entries[end->gref].word, __ATOMIC_RELAXED);
	x = &p->xlate[end->gref];
	return x->word == word && (word & need) == need ? x->addr + end->offset : NULL;
}

/* The granted page that an operation copies to, if we know it; else NULL. */
static inline uint8_t *known_to(const struct loopback *lb, struct known_peer *k, const struct pv_gnt_copy *op)
{
	uint8_t *to = known(known_peer(lb, k, op->to.domid), &op->to, op->len, HUB_WORD_VALID | HUB_WORD_WRITABLE);

	return __builtin_expect(op->from.local && !op->to.local, 1) ? to : NULL;
}

static inline const uint8_t *known_from(const struct loopback *lb, struct known_peer *k, const struct pv_gnt_copy *op)
{
	const uint8_t *from = known(known_peer(lb, k, op->from.domid), &op->from, op->len, HUB_WORD_VALID);

	return __builtin_expect(op->to.local && !op->from.local, 1) ? from : NULL;
}

static inline void move(struct pv_gnt_copy *op, void *to, const void *from)
{
	pv_copy(to, from, op->len);
	op->status = GNTST_okay;
}

/* The copies below are of pages that we know; lines that another core has are fetched before. What suits each was found by measuring
 * (perf/README.md). All return how many operations they did: those before the first that is not of their kind, or fewer. Nothing is
 * unmapped meanwhile. */

/* Of no more bytes than a line has, to grants: the lines that all of a block begin in are fetched for writing first. */
static unsigned give_lines(const struct loopback *lb, struct pv_gnt_copy *ops, unsigned n)
{
	struct known_peer k = { -1, NULL };
	uint8_t *to[COPY_BLOCK];
	unsigned found = 0;

	for (; found < n && found < COPY_BLOCK && ops[found].len <= PV_CACHE_LINE && (to[found] = known_to(lb, &k, &ops[found])); found++)
		pv_prefetch_write(to[found]);
	for (unsigned i = 0; i < found; i++)
		move(&ops[i], to[i], ops[i].from.local);
	return found;
}

/* Of more, to grants: each has its own lines fetched, just before. Those of more than one operation would keep each other waiting. */
static unsigned give(const struct loopback *lb, struct pv_gnt_copy *ops, unsigned n)
{
	struct known_peer k = { -1, NULL };
	unsigned i = 0;
	uint8_t *to;

	for (; i < n && ops[i].len > PV_CACHE_LINE && (to = known_to(lb, &k, &ops[i])); i++) {
		for (unsigned at = 0; at < ops[i].len && at < COPY_AHEAD; at += PV_CACHE_LINE)
			pv_prefetch_write(to + at);
		move(&ops[i], to, ops[i].from.local);
	}
	return i;
}

/* Of any length, from grants: those of a line are all fetched first, of longer ones those that come soon. */
static unsigned take(const struct loopback *lb, struct pv_gnt_copy *ops, unsigned n)
{
	struct known_peer k = { -1, NULL };
	const uint8_t *from[COPY_BLOCK];
	unsigned found = 0;

	for (; found < n && found < COPY_BLOCK && (from[found] = known_from(lb, &k, &ops[found])); found++) {
		if (ops[found].len <= PV_CACHE_LINE)
			__builtin_prefetch(from[found], 0, 2);
		else if (found < COPY_SOON)
			pv_fetch(from[found], ops[found].len);
	}
	for (unsigned i = 0; i < found; i++) {
		bool soon = i + COPY_SOON < found;

		if (ops[i].len <= PV_CACHE_LINE) {
			move(&ops[i], ops[i].to.local, from[i]);
			continue;
		}
		pv_copy_fetching(ops[i].to.local, from[i], ops[i].len, soon ? from[i + COPY_SOON] : NULL, soon ? ops[i + COPY_SOON].len : 0);
		ops[i].status = GNTST_okay;
	}
	return found;
}

int lb_copy(struct pv_hyper *h, struct pv_gnt_copy *ops, unsigned n)
{
	struct loopback *lb = (struct loopback *)h;

	for (unsigned done; n; ops += done, n -= done) {
		done = !ops->from.local ? take(lb, ops, n) : ops->len <= PV_CACHE_LINE ? give_lines(lb, ops, n) : give(lb, ops, n);
		if (__builtin_expect(!done, 0)) {
			copy_slowly(lb, ops);
			done = 1;
		}
	}
	return 0;
}
