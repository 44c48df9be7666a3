/* nbdkit_pvio.c - a plugin of nbdkit that serves a vbd: nbdkit pvio domid=1 vbd=xvda. See nbdkit-pvio-plugin(1).
 *
 * Theory of operation. The vbd is open while a client is there. One thread, the worker, owns it; nbdkit's threads (one for each request
 * in flight) hand it their requests and sleep until they have ended. So all requests of all clients are in flight together.
 */
#define NBDKIT_API_VERSION 2
#include "blkio.h"
#include <errno.h>
#include <nbdkit-plugin.h>
#include <poll.h>
#include <pthread.h>
#include <pvio/blk.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

enum {
	REOPEN_MS = 5000, /* for pviod to offer the device anew after we closed it */
	PATIENCE_S = 3, /* with a silent backend, when nbdkit ends or the client has left */
	DEPTH = 256, /* requests of the device in flight */
};

/* Owner: the nbdkit thread that sleeps in ask(); between its two ends, the worker. */
struct job {
	struct blkio_req req; /* first: it is what comes back */
	sem_t ended;
	struct job *next; /* handed over, newest first */
};

static struct blkio_config config = { .domid = -1, .queues = 1, .depth = DEPTH };

/* The vbd. Its shape is written before there is a worker, and read by all. */
static struct vbd {
	pthread_mutex_t door; /* of clients; held while it is opened and closed */
	unsigned clients; /* more than 0: it is open */
	pthread_mutex_t lock; /* of handed */
	struct job *handed; /* to the worker */
	struct blkio *b; /* the worker's */
	pthread_t worker;
	int wake; /* eventfd */
	bool leave; /* nobody is there any more: the worker ends. Atomic */
	bool hurry; /* nobody waits for a silent backend any more. Atomic */
	uint64_t size;
	uint32_t sector_size, features;
	bool read_only;
} vbd = { .door = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- configuration ---- */

static int parse(const char *key, const char *value, unsigned min, unsigned max, unsigned *out)
{
	if (nbdkit_parse_unsigned(key, value, out))
		return -1;
	if (*out >= min && *out <= max)
		return 0;
	nbdkit_error("%s=%s: must be %u to %u", key, value, min, max);
	return -1;
}

static int pvio_config(const char *key, const char *value)
{
	unsigned n;

	if (!strcmp(key, "vbd")) {
		config.vbd = value;
	} else if (!strcmp(key, "hypervisor")) {
		config.hypervisor = value;
	} else if (!strcmp(key, "domid")) {
		if (parse(key, value, 1, 0x7fef, &n))
			return -1;
		config.domid = (int)n;
	} else if (!strcmp(key, "queues")) {
		return parse(key, value, 1, PV_NOXS_QUEUES_MAX, &config.queues);
	} else if (!strcmp(key, "wait")) {
		if (parse(key, value, 0, 86400, &n))
			return -1;
		config.wait_ms = (int)n * 1000;
	} else {
		nbdkit_error("there is no parameter \"%s\"; nbdkit pvio --help lists them", key);
		return -1;
	}
	return 0;
}

static struct blkio *open_vbd(void)
{
	struct blkio *b;
	char why[256];
	int rc = blkio_open(&b, &config, why, sizeof(why));

	if (rc < 0) {
		nbdkit_error("%s", why);
		nbdkit_set_error(-rc);
	}
	return b;
}

/* Before nbdkit goes into the background: what is wrong is told to who started it. */
static int pvio_get_ready(void)
{
	struct blkio *b = open_vbd();

	if (!b)
		return -1;
	blkio_close(b);
	if (config.wait_ms < REOPEN_MS)
		config.wait_ms = REOPEN_MS;
	return 0;
}

/* ---- the worker ---- */

static struct job *take_handed(void)
{
	struct job *newest, *j, *first = NULL;

	pthread_mutex_lock(&vbd.lock);
	newest = vbd.handed;
	vbd.handed = NULL;
	pthread_mutex_unlock(&vbd.lock);
	while ((j = newest)) {
		newest = j->next;
		j->next = first;
		first = j;
	}
	return first;
}

/* Ask what was handed over, end what has ended. Returns how many either was. */
static unsigned turn(struct blkio *b)
{
	struct blkio_req *r;
	unsigned n = 0;

	for (struct job *j = take_handed(), *next; j; j = next, n++) {
		next = j->next;
		blkio_ask(b, &j->req);
	}
	blkio_push(b);
	for (; (r = blkio_done(b)); n++)
		sem_post(&((struct job *)r)->ended);
	return n;
}

static void rest(struct blkio *b)
{
	struct pollfd fd[2] = { { .fd = vbd.wake, .events = POLLIN }, { .fd = blkio_fd(b), .events = POLLIN } };
	bool ended = blkio_error(b);
	uint64_t count;

	poll(fd, ended ? 1 : 2, blkio_away(b) ? BLKIO_AWAY_MS : -1);
	if (fd[0].revents && read(vbd.wake, &count, sizeof(count)) < 0)
		return;
	blkio_follow(b);
	if (!ended && __atomic_load_n(&vbd.hurry, __ATOMIC_RELAXED))
		blkio_end(b, -ESHUTDOWN, "its backend does not answer");
	if (blkio_error(b) && !ended)
		nbdkit_error("vbd %s: %s", config.vbd, blkio_error(b));
}

static void *work(void *arg)
{
	struct blkio *b = arg;

	while (!__atomic_load_n(&vbd.leave, __ATOMIC_ACQUIRE)) /* pairs with the release in pvio_close */
		if (!turn(b))
			rest(b);
	blkio_close(b);
	return NULL;
}

static void wake(void)
{
	const uint64_t one = 1;

	while (write(vbd.wake, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* ---- clients ---- */

static int begin(void)
{
	const struct pv_noxs_vbd_offer *offer;

	vbd.b = open_vbd();
	vbd.wake = vbd.b ? eventfd(0, EFD_CLOEXEC) : -1;
	vbd.leave = vbd.hurry = false;
	if (vbd.wake >= 0) {
		offer = pv_blkfront_offer(blkio_front(vbd.b));
		vbd.size = offer->sectors * 512;
		vbd.sector_size = offer->sector_size;
		vbd.read_only = offer->info & VDISK_READONLY;
		vbd.features = pv_blkfront_features(blkio_front(vbd.b));
		if (pthread_create(&vbd.worker, NULL, work, vbd.b) == 0)
			return 0;
		close(vbd.wake);
	}
	if (vbd.b)
		nbdkit_error("vbd %s: no thread or descriptor for it", config.vbd);
	blkio_close(vbd.b);
	return -1;
}

static void *pvio_open(int readonly)
{
	int rc = 0;

	(void)readonly; /* nbdkit itself refuses writes then */
	pthread_mutex_lock(&vbd.door);
	if (vbd.clients == 0)
		rc = begin();
	if (rc == 0)
		vbd.clients++;
	pthread_mutex_unlock(&vbd.door);
	return rc == 0 ? NBDKIT_HANDLE_NOT_NEEDED : NULL;
}

static void pvio_close(void *handle)
{
	(void)handle;
	pthread_mutex_lock(&vbd.door);
	if (--vbd.clients == 0) {
		__atomic_store_n(&vbd.leave, true, __ATOMIC_RELEASE); /* pairs with the acquire in work */
		wake();
		pthread_join(vbd.worker, NULL);
		close(vbd.wake);
	}
	pthread_mutex_unlock(&vbd.door);
}

static int64_t pvio_get_size(void *handle)
{
	(void)handle;
	return (int64_t)vbd.size;
}

static int pvio_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
	(void)handle;
	*minimum = vbd.sector_size;
	*preferred = 4096;
	*maximum = UINT32_MAX;
	return 0;
}

static int pvio_can_write(void *handle)
{
	(void)handle;
	return !vbd.read_only;
}

/* Without it the backend writes through. */
static int pvio_can_flush(void *handle)
{
	(void)handle;
	return !!(vbd.features & PV_VBD_FLUSH);
}

static int pvio_can_trim(void *handle)
{
	(void)handle;
	return !!(vbd.features & PV_VBD_DISCARD);
}

/* All clients have one vbd, and a flush of one is a flush of all. */
static int pvio_can_multi_conn(void *handle)
{
	(void)handle;
	return 1;
}

/* ---- requests ---- */

static bool ends_within(struct job *j, time_t seconds)
{
	struct timespec until;
	int rc;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += seconds;
	while ((rc = sem_clockwait(&j->ended, CLOCK_MONOTONIC, &until)) < 0 && errno == EINTR)
		;
	return rc == 0;
}

/* Sleep until the job has ended. A silent backend is waited for, but not for long if nbdkit ends or the client has left. */
static void wait_for(struct job *j)
{
	do {
		if (ends_within(j, 1))
			return;
	} while (nbdkit_nanosleep(0, 1) == 0);
	if (ends_within(j, PATIENCE_S))
		return;
	__atomic_store_n(&vbd.hurry, true, __ATOMIC_RELAXED);
	wake();
	while (sem_wait(&j->ended) < 0)
		;
}

static int complain(const struct job *j)
{
	static const char *const names[] = { "read", "write", "flush", "trim" };
	int err = -j->req.result;

	nbdkit_error("vbd %s: %s of %llu bytes at %llu: %s", config.vbd, names[j->req.op], (unsigned long long)j->req.len,
		     (unsigned long long)j->req.offset, err == EINVAL ? "not in whole sectors; nbdkit's filter blocksize makes them" : strerror(err));
	nbdkit_set_error(err == EINVAL || err == EROFS || err == EOPNOTSUPP || err == ESHUTDOWN ? err : EIO); /* others are EINVAL to NBD */
	return -1;
}

static int ask(enum pv_blkfront_op op, uint64_t offset, uint64_t len, void *buf)
{
	struct job j = { .req = { .op = op, .offset = offset, .len = len, .buf = buf } };
	bool first;

	sem_init(&j.ended, 0, 0);
	pthread_mutex_lock(&vbd.lock);
	first = !vbd.handed;
	j.next = vbd.handed;
	vbd.handed = &j;
	pthread_mutex_unlock(&vbd.lock);
	if (first)
		wake();
	wait_for(&j);
	sem_destroy(&j.ended);
	return j.req.result < 0 ? complain(&j) : 0;
}

static int pvio_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return ask(PV_BLKFRONT_READ, offset, count, buf);
}

static int pvio_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	(void)flags; /* nbdkit makes FUA of a flush */
	return ask(PV_BLKFRONT_WRITE, offset, count, (void *)buf);
}

static int pvio_flush(void *handle, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return ask(PV_BLKFRONT_FLUSH, 0, 0, NULL);
}

static int pvio_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return ask(PV_BLKFRONT_DISCARD, offset, count, NULL);
}

static struct nbdkit_plugin plugin = {
	.name = "pvio",
	.version = PVIO_VERSION,
	.longname = "a paravirtual disk of a Xen guest",
	.description = "Serves a vbd, whose frontend it is.",
	.config = pvio_config,
	.config_help = "vbd=NAME           The vbd: xvda, xvdb .. or its number (needed).\n"
		       "domid=N            The guest to be; on Xen: the domain that this runs in.\n"
		       "hypervisor=SPEC    xen, loopback or loopback:SOCKET; default: $PVIO_HYPERVISOR, else the host's.\n"
		       "queues=N           Queues to use, at most (1).\n"
		       "wait=SECONDS       Wait for the vbd to be announced (0).",
	.magic_config_key = "vbd",
	.get_ready = pvio_get_ready,
	.open = pvio_open,
	.close = pvio_close,
	.get_size = pvio_get_size,
	.block_size = pvio_block_size,
	.can_write = pvio_can_write,
	.can_flush = pvio_can_flush,
	.can_trim = pvio_can_trim,
	.can_multi_conn = pvio_can_multi_conn,
	.pread = pvio_pread,
	.pwrite = pvio_pwrite,
	.flush = pvio_flush,
	.trim = pvio_trim,
};

NBDKIT_REGISTER_PLUGIN(plugin)
