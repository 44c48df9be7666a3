/* vhost_blk.c - the guest's end of a vhost-user-blk disk, such as qemu-storage-daemon exports: the peer of blk.c.
 *
 * One split virtqueue in shared memory that the server maps whole, --depth requests in flight from one thread, each a chain of three
 * descriptors made once: header, data, status. It polls the used ring; with --sleep it waits for the server's events. The options
 * and the line of JSON are those of blk.c. The protocol: docs/interop/vhost-user.rst of QEMU, virtio 1.1.
 */
#include "perf.h"
#include "blocks.h"
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

enum vhost_user { /* requests */
	GET_FEATURES = 1, SET_FEATURES = 2, SET_OWNER = 3, SET_MEM_TABLE = 5, SET_VRING_NUM = 8, SET_VRING_ADDR = 9, SET_VRING_BASE = 10,
	SET_VRING_KICK = 12, SET_VRING_CALL = 13, GET_PROTOCOL_FEATURES = 15, SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18, GET_CONFIG = 24,
};
enum {
	VERSION = 1, /* of each message's flags */
	F_PROTOCOL_BIT = 30, PROTOCOL_CONFIG_BIT = 9,
	CHAIN = 3, /* descriptors a request */
	CONFIG_BYTES = 60, /* of struct virtio_blk_config, which every server knows */
	SECTOR = 512, PAGE = 4096, WAIT_MS = 10000,
};
static const uint64_t guest_base = 1ull << 30; /* where the guest's memory lies, to the server */

struct message {
	uint32_t request, flags, size;
	union {
		uint64_t number;
		struct { uint32_t index, number; } state;
		struct { uint32_t index, flags; uint64_t desc, used, avail, log; } addr;
		struct { uint32_t regions, pad; uint64_t guest, size, user, offset; } memory;
		struct { uint32_t offset, size, flags; uint8_t data[CONFIG_BYTES]; } config;
	};
} __attribute__((packed));
enum { HEADER = offsetof(struct message, number) };

struct options {
	const char *socket, *image;
	unsigned depth, msecs, ramp, mode;
	uint64_t bs, prove;
	struct pv_cpus cpus;
	bool sleep, once;
};

/* Owner: main. The rings and what follows lie in mem. */
struct load {
	const struct options *o;
	struct blocks blocks;
	int sock, kick, call;
	uint8_t *mem;
	size_t mem_bytes;
	unsigned nr; /* descriptors */
	struct vring ring;
	struct virtio_blk_outhdr *header; /* one a request, as status and buf are */
	uint8_t *status, *buf;
	uint16_t avail, used; /* the next one of each ring */
	uint64_t kicks;
	bool event_index;
	unsigned *free, nr_free;
};

/* ---- the protocol ---- */

static void sent(struct load *l, struct message *m, uint32_t request, uint32_t size, int fd)
{
	struct iovec iov = { .iov_base = m, .iov_len = HEADER + size };
	union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control = { 0 };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };

	m->request = request;
	m->flags = VERSION;
	m->size = size;
	if (fd >= 0) {
		control.head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		h.msg_control = &control;
		h.msg_controllen = sizeof(control);
	}
	if (sendmsg(l->sock, &h, MSG_NOSIGNAL) != (ssize_t)iov.iov_len)
		perf_die("%s: cannot send request %u: %s", l->o->socket, request, strerror(errno));
}

static void answered(struct load *l, struct message *m)
{
	uint32_t request = m->request;

	if (recv(l->sock, m, HEADER, MSG_WAITALL) != HEADER || m->request != request || m->size > sizeof(*m) - HEADER ||
	    recv(l->sock, &m->number, m->size, MSG_WAITALL) != (ssize_t)m->size)
		perf_die("%s: no answer to request %u", l->o->socket, request);
}

static void set(struct load *l, uint32_t request, uint64_t number, int fd)
{
	struct message m = { .number = number };

	sent(l, &m, request, sizeof(m.number), fd);
}

static void set_state(struct load *l, uint32_t request, uint32_t number)
{
	struct message m = { .state = { .number = number } };

	sent(l, &m, request, sizeof(m.state), -1);
}

static uint64_t get(struct load *l, uint32_t request)
{
	struct message m;

	sent(l, &m, request, 0, -1);
	answered(l, &m);
	return m.number;
}

/* Bytes of the disk. */
static uint64_t get_size(struct load *l)
{
	struct message m = { .config = { .size = CONFIG_BYTES } };
	struct virtio_blk_config c;

	sent(l, &m, GET_CONFIG, sizeof(m.config), -1);
	answered(l, &m);
	memcpy(&c.capacity, m.config.data, sizeof(c.capacity));
	return c.capacity * SECTOR;
}

static void give_memory(struct load *l, int fd)
{
	struct message m = { .memory = { .regions = 1, .guest = guest_base, .size = l->mem_bytes, .user = (uintptr_t)l->mem } };

	sent(l, &m, SET_MEM_TABLE, sizeof(m.memory), fd);
}

static void give_ring(struct load *l)
{
	struct message m = { .addr = { .desc = (uintptr_t)l->ring.desc, .used = (uintptr_t)l->ring.used, .avail = (uintptr_t)l->ring.avail } };

	set_state(l, SET_VRING_NUM, l->nr);
	set_state(l, SET_VRING_BASE, 0);
	sent(l, &m, SET_VRING_ADDR, sizeof(m.addr), -1);
	set(l, SET_VRING_CALL, 0, l->call);
	set(l, SET_VRING_KICK, 0, l->kick);
	set_state(l, SET_VRING_ENABLE, 1);
	get(l, GET_FEATURES); /* its answer comes after all of that is done */
}

static uint64_t negotiate(struct load *l)
{
	uint64_t want = 1ull << F_PROTOCOL_BIT | 1ull << VIRTIO_F_VERSION_1, has = get(l, GET_FEATURES);

	if ((has & want) != want || !(get(l, GET_PROTOCOL_FEATURES) & 1ull << PROTOCOL_CONFIG_BIT))
		perf_die("%s: not a server of vhost-user-blk that tells its configuration", l->o->socket);
	set(l, SET_OWNER, 0, -1);
	set(l, SET_PROTOCOL_FEATURES, 1ull << PROTOCOL_CONFIG_BIT, -1);
	set(l, SET_FEATURES, want | (has & 1ull << VIRTIO_RING_F_EVENT_IDX), -1);
	return has;
}

/* ---- memory ---- */

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

/* Rings, headers and states, then the data from a page on. Returns its file. */
static int make_memory(struct load *l)
{
	size_t ring, headers, states, data;
	int fd = memfd_create("guest", MFD_CLOEXEC);

	for (l->nr = 128; l->nr < CHAIN * l->o->depth; l->nr *= 2)
		;
	ring = round_up(vring_size(l->nr, PAGE), PAGE);
	headers = ring + round_up(l->o->depth * sizeof(*l->header), PAGE);
	states = headers + round_up(l->o->depth, PAGE);
	data = round_up(l->o->depth * l->o->bs, PAGE);
	l->mem_bytes = states + data;
	if (fd < 0 || ftruncate(fd, (off_t)l->mem_bytes) < 0)
		perf_die("no memory file of %zu bytes: %s", l->mem_bytes, strerror(errno));
	l->mem = mmap(NULL, l->mem_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	l->free = calloc(l->o->depth, sizeof(*l->free));
	if (l->mem == MAP_FAILED || !l->free)
		perf_die("no memory for %u requests", l->o->depth);
	vring_init(&l->ring, l->nr, l->mem, PAGE);
	l->header = (void *)(l->mem + ring);
	l->status = l->mem + headers;
	l->buf = l->mem + states;
	memset(l->buf, 0x5a, data);
	return fd;
}

static struct vring_desc desc(const struct load *l, const void *p, size_t len, unsigned flags, unsigned next)
{
	return (struct vring_desc){ .addr = guest_base + (uint64_t)((const uint8_t *)p - l->mem), .len = (uint32_t)len,
				    .flags = (uint16_t)flags, .next = (uint16_t)next };
}

static void make_requests(struct load *l)
{
	for (unsigned i = 0; i < l->o->depth; i++) {
		struct vring_desc *d = &l->ring.desc[CHAIN * i];

		d[0] = desc(l, &l->header[i], sizeof(l->header[i]), VRING_DESC_F_NEXT, CHAIN * i + 1);
		d[1] = desc(l, l->buf + i * l->o->bs, l->o->bs, VRING_DESC_F_NEXT, CHAIN * i + 2);
		d[2] = desc(l, &l->status[i], 1, VRING_DESC_F_WRITE, 0);
		l->free[l->nr_free++] = i;
	}
}

static void connect_disk(struct load *l)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd;

	l->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	l->kick = eventfd(0, EFD_CLOEXEC);
	l->call = eventfd(0, EFD_CLOEXEC);
	snprintf(name.sun_path, sizeof(name.sun_path), "%s", l->o->socket);
	if (l->sock < 0 || l->kick < 0 || l->call < 0 || connect(l->sock, (struct sockaddr *)&name, sizeof(name)) < 0)
		perf_die("%s: %s", l->o->socket, strerror(errno));
	l->event_index = negotiate(l) & 1ull << VIRTIO_RING_F_EVENT_IDX;
	l->blocks = blocks_new(l->o->mode, l->o->bs, get_size(l));
	fd = make_memory(l);
	make_requests(l);
	if (!l->o->sleep)
		l->ring.avail->flags = VRING_AVAIL_F_NO_INTERRUPT; /* with the event index: it stays where no answer comes soon */
	give_memory(l, fd);
	give_ring(l);
	close(fd);
}

/* ---- requests ---- */

static void queue(struct load *l, unsigned i, bool write, uint64_t block)
{
	l->header[i] = (struct virtio_blk_outhdr){ .type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, .sector = block * (l->o->bs / SECTOR) };
	l->status[i] = VIRTIO_BLK_S_UNSUPP;
	l->ring.desc[CHAIN * i + 1].flags = VRING_DESC_F_NEXT | (write ? 0 : VRING_DESC_F_WRITE);
	l->ring.avail->ring[l->avail++ % l->nr] = (uint16_t)(CHAIN * i);
}

/* Show them to the server, and kick it if it asked. */
static void submit(struct load *l)
{
	uint16_t old = l->ring.avail->idx;
	bool kick;

	if (old == l->avail)
		return;
	/* store the index, then load what the server asks for, which does it the other way round */
	__atomic_store_n(&l->ring.avail->idx, l->avail, __ATOMIC_SEQ_CST);
	if (l->event_index)
		kick = vring_need_event(__atomic_load_n((uint16_t *)&vring_avail_event(&l->ring), __ATOMIC_SEQ_CST), l->avail, old);
	else
		kick = !(__atomic_load_n(&l->ring.used->flags, __ATOMIC_SEQ_CST) & VRING_USED_F_NO_NOTIFY);
	l->kicks += kick;
	if (kick && eventfd_write(l->kick, 1) < 0)
		perf_die("cannot kick: %s", strerror(errno));
}

static void ask(struct load *l)
{
	bool write = blocks_write(&l->blocks);

	while (l->nr_free > 0)
		queue(l, l->free[--l->nr_free], write, blocks_next(&l->blocks));
	submit(l);
}

/* Take answers. Returns how many came. */
static unsigned reap(struct load *l)
{
	uint16_t n = (uint16_t)(__atomic_load_n(&l->ring.used->idx, __ATOMIC_ACQUIRE) - l->used);

	if (n > l->nr)
		perf_die("more answers than requests");
	for (unsigned k = 0; k < n; k++) {
		unsigned i = l->ring.used->ring[l->used++ % l->nr].id / CHAIN;

		if (i >= l->o->depth || l->nr_free >= l->o->depth || l->status[i] != VIRTIO_BLK_S_OK)
			perf_die("request %u failed", i);
		l->free[l->nr_free++] = i;
	}
	return n;
}

/* Sleep until an answer comes. */
static void wait_call(struct load *l)
{
	struct pollfd p = { .fd = l->call, .events = POLLIN };
	eventfd_t n;

	if (l->event_index) {
		__atomic_store_n(&vring_used_event(&l->ring), l->used, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&l->ring.used->idx, __ATOMIC_SEQ_CST) != l->used)
			return;
	}
	if (poll(&p, 1, WAIT_MS) <= 0 || eventfd_read(l->call, &n) < 0)
		perf_die("the server does not answer");
}

static void drain(struct load *l)
{
	while (l->nr_free < l->o->depth)
		if (reap(l) == 0 && l->o->sleep)
			wait_call(l);
}

/* Returns how many requests ended meanwhile. */
static uint64_t run(struct load *l, unsigned msecs)
{
	double end = perf_now() + msecs / 1e3;
	uint64_t ios = 0;

	while (perf_now() < end) {
		unsigned n;

		ask(l);
		n = reap(l);
		ios += n;
		if (n == 0 && l->o->sleep)
			wait_call(l);
	}
	return ios;
}

static void measure(void *arg)
{
	struct load *l = arg;
	uint64_t ios, kicks;
	double began, cpu, secs;

	blocks_begin(&l->blocks);
	run(l, l->o->ramp);
	kicks = l->kicks;
	began = perf_now();
	cpu = perf_cpu();
	ios = run(l, l->o->msecs);
	secs = perf_now() - began;
	drain(l);
	printf("{\"iops\":%.0f,\"mb_s\":%.1f,\"us\":%.2f,\"cpu_s\":%.3f,\"secs\":%.3f,\"front_notifies\":%lu}\n", (double)ios / secs,
	       (double)ios * (double)l->o->bs / secs / 1e6, secs * 1e6 * l->o->depth / (double)(ios ? ios : 1), perf_cpu() - cpu, secs,
	       l->kicks - kicks);
}

/* A blocks_io. */
static void prove_batch(void *arg, bool write, const uint64_t *block, unsigned n)
{
	struct load *l = arg;

	for (unsigned i = 0; i < n; i++)
		queue(l, i, write, block[i]);
	submit(l);
	l->nr_free = l->o->depth - n;
	drain(l);
	for (unsigned i = 0; i < l->o->depth; i++)
		l->free[i] = i;
}

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "socket", "PATH", "where the server listens", pv_option_text, FIELD(socket) },
	{ "rw", "MODE", "randread, randwrite, read or write (randread)", pv_option_name, FIELD(mode), .names = blocks_modes },
	{ "bs", "SIZE", "bytes a request (4k)", pv_option_size, FIELD(bs) },
	{ "depth", "N", "requests in flight (32)", pv_option_number, FIELD(depth), .min = 1, .max = 512 },
	{ "msecs", "MS", "how long to measure (1000)", pv_option_number, FIELD(msecs), .min = 1, .max = 1000000 },
	{ "ramp", "MS", "how long to run before that (0)", pv_option_number, FIELD(ramp), .max = 1000000 },
	{ "cpus", "A", "pin to this CPU", pv_option_cpus, FIELD(cpus) },
	{ "prove", "SIZE", "before that write so much of the disk, read it back, compare", pv_option_size, FIELD(prove) },
	{ "image", "FILE", "... and compare with what this file has then", pv_option_text, FIELD(image) },
	{ "sleep", NULL, "wait for events instead of polling", NULL, FIELD(sleep) },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "vhost_blk",
	.usage = "--socket PATH [OPTION...]",
	.about = "Load a vhost-user-blk disk: requests a second, as JSON. Writing destroys what the disk holds.",
	.options = table,
};

int main(int argc, char **argv)
{
	struct options o = { .bs = 4096, .depth = 32, .msecs = 1000 };
	struct load l = { .o = &o };
	int ret = pv_options_parse(&program, argc, argv, &o);

	if (ret >= 0)
		return ret;
	if (!o.socket || o.bs < SECTOR || o.bs % SECTOR)
		return pv_options_wrong(&program, "--socket is needed, and --bs is in sectors of 512 bytes");
	perf_pin(&o.cpus, 0);
	connect_disk(&l);
	blocks_prove(&l.blocks, &(struct blocks_proof){ .bytes = o.prove, .image = o.image, .depth = o.depth, .buf = l.buf,
							.io = prove_batch, .arg = &l });
	perf_serve(o.once, measure, NULL, -1, &l);
	munmap(l.mem, l.mem_bytes);
	free(l.free);
	return 0;
}
