// SPDX-License-Identifier: GPL-2.0-only
/* fio_pvio.c - an engine of fio that drives a vbd through blkfront: fio --ioengine=external:/path/to/pvio-fio.so. See pvio-fio(1).
 *
 * This file becomes a part of fio when fio loads it, and fio is under version 2 of the GPL; so is this file, and this file alone.
 *
 * A job is the frontend of its vbd for as long as it runs, in its own process or thread. What fio calls setup happens in fio's main process,
 * before it forks: there the device is opened for its size, and closed.
 */
#include "config-host.h"
#include "fio.h"
#include "optgroup.h"
#include "blkio.h"
#include <errno.h>
#include <poll.h>
#include <pvio/blk.h>
#include <pvio/front.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	REOPEN_MS = 5000, /* for pviod to offer the device anew after setup closed it */
	TICK_MS = 1000,
	SILENCE_MS = 5000, /* after which a silent backend is told of; and if fio ends, given up */
};

struct options {
	void *pad; /* an option at offset 0 is none to fio */
	char *hypervisor, *vbd;
	unsigned domid, queues, wait;
};

/* One of fio's io_u, by its index. */
struct io {
	struct blkio_req req; /* first: it is what comes back */
	struct io_u *io_u;
};

/* Owner: a job's thread, from init to cleanup. */
struct job {
	struct blkio *b;
	const char *vbd;
	struct io *io; /* iodepth of them */
	struct io_u **event;
	unsigned asked; /* since the last commit */
	uint64_t heard_ms; /* when something ended last; 0: just now */
	void *memory; /* the buffers, if they did not fit into granted pages */
	bool told_silent, told_ended;
};

#define OPTION(n, t, h) .name = #n, .lname = #n, .type = t, .off1 = offsetof(struct options, n), .help = h, \
	.category = FIO_OPT_C_ENGINE, .group = FIO_OPT_G_INVALID

static struct fio_option options[] = {
	{ OPTION(vbd, FIO_OPT_STR_STORE, "The vbd: xvda, xvdb .. or its number") },
	{ OPTION(domid, FIO_OPT_INT, "The guest to be; on Xen: the domain that this runs in") },
	{ OPTION(hypervisor, FIO_OPT_STR_STORE, "xen, loopback or loopback:SOCKET; default: $PVIO_HYPERVISOR, else the host's") },
	{ OPTION(queues, FIO_OPT_INT, "Queues to use, at most"), .def = "1", .minval = 1, .maxval = PV_NOXS_QUEUES_MAX },
	{ OPTION(wait, FIO_OPT_INT, "Seconds to wait for the vbd to be announced"), .def = "0", .maxval = 86400 },
	{ .name = NULL },
};

/* ---- setup, init ---- */

static struct blkio *open_vbd(struct thread_data *td, int wait_ms)
{
	const struct options *o = td->eo;
	struct blkio_config c = {
		.hypervisor = o->hypervisor, .vbd = o->vbd, .domid = o->domid ? (int)o->domid : -1, .queues = o->queues, .depth = td->o.iodepth,
		.wait_ms = wait_ms,
	};
	struct blkio *b;
	char why[256];

	if (blkio_open(&b, &c, why, sizeof(why)) < 0)
		log_err("pvio: %s: %s\n", td->o.name, why);
	return b;
}

/* What the device cannot do is said before anything begins. */
static int check(struct thread_data *td, const struct blkio *b)
{
	const struct options *o = td->eo;
	const struct pv_noxs_vbd_offer *offer = pv_blkfront_offer(blkio_front(b));
	const char *why = NULL;
	char text[96];

	if ((td_write(td) || td_trim(td)) && (offer->info & VDISK_READONLY))
		why = "it is read-only";
	if (td_trim(td) && !(pv_blkfront_features(blkio_front(b)) & PV_VBD_DISCARD))
		why = "its backend offers no discard, which trim needs";
	if (td_min_bs(td) % offer->sector_size) {
		snprintf(text, sizeof(text), "its sectors have %u bytes, and bs must be whole ones", offer->sector_size);
		why = text;
	}
	if (!why)
		return 0;
	log_err("pvio: %s: vbd %s: %s\n", td->o.name, o->vbd, why);
	return 1;
}

static int pvio_setup(struct thread_data *td)
{
	struct job *j = td->io_ops_data; /* with create_serialize=0 it is open already */
	struct blkio *b = j ? j->b : open_vbd(td, (int)((struct options *)td->eo)->wait * 1000);
	int rc = b ? check(td, b) : 1;

	if (td->files_index > 1) {
		log_err("pvio: %s: a job has one vbd: leave out filename= and nrfiles=, and give each vbd a job of its own\n", td->o.name);
		rc = 1;
	}
	if (!rc && !td->files_index) {
		add_file(td, "vbd", 0, 0);
		td->o.nr_files = 1;
		td->o.open_files++;
	}
	if (!rc)
		td->files[0]->real_file_size = pv_blkfront_offer(blkio_front(b))->sectors * 512;
	if (!j)
		blkio_close(b);
	return rc;
}

static void pvio_cleanup(struct thread_data *td)
{
	struct job *j = td->io_ops_data;

	if (!j)
		return;
	blkio_close(j->b);
	free(j->io);
	free(j->event);
	free(j);
	td->io_ops_data = NULL;
}

static int pvio_init(struct thread_data *td)
{
	struct job *j = calloc(1, sizeof(*j));

	td->io_ops_data = j;
	if (!j)
		return ENOMEM;
	j->vbd = ((struct options *)td->eo)->vbd;
	j->io = calloc(td->o.iodepth, sizeof(*j->io));
	j->event = calloc(td->o.iodepth, sizeof(*j->event));
	j->b = j->io && j->event ? open_vbd(td, REOPEN_MS) : NULL;
	if (j->b)
		return 0;
	pvio_cleanup(td);
	return 1;
}

/* fio's buffers: granted pages, so that nothing is copied; if they are too many, memory that is copied. */
static int pvio_iomem_alloc(struct thread_data *td, size_t len)
{
	struct job *j = td->io_ops_data;

	td->orig_buffer = blkio_memory(j->b, len);
	if (td->orig_buffer)
		return 0;
	if (posix_memalign(&j->memory, page_mask + 1, len))
		return ENOMEM;
	td->orig_buffer = j->memory;
	return 0;
}

static void pvio_iomem_free(struct thread_data *td)
{
	struct job *j = td->io_ops_data;

	if (!j)
		return;
	free(j->memory);
	j->memory = NULL;
}

/* ---- I/O ---- */

static bool has_flush(const struct job *j)
{
	return pv_blkfront_features(blkio_front(j->b)) & PV_VBD_FLUSH;
}

static enum fio_q_status pvio_queue(struct thread_data *td, struct io_u *io_u)
{
	static const enum pv_blkfront_op op_of[] = {
		[DDIR_READ] = PV_BLKFRONT_READ, [DDIR_WRITE] = PV_BLKFRONT_WRITE, [DDIR_TRIM] = PV_BLKFRONT_DISCARD,
	};
	struct job *j = td->io_ops_data;
	struct io *io = &j->io[io_u->index];

	fio_ro_check(td, io_u);
	if (ddir_sync(io_u->ddir) && !has_flush(j))
		return FIO_Q_COMPLETED; /* its backend writes through */
	io->io_u = io_u;
	io->req = (struct blkio_req){ .op = PV_BLKFRONT_FLUSH };
	if (!ddir_sync(io_u->ddir))
		io->req = (struct blkio_req){
			.op = op_of[io_u->ddir], .offset = io_u->offset, .len = io_u->xfer_buflen, .buf = io_u->xfer_buf,
		};
	blkio_ask(j->b, &io->req);
	j->asked++;
	return FIO_Q_QUEUED;
}

static int pvio_commit(struct thread_data *td)
{
	struct job *j = td->io_ops_data;

	if (!j->asked)
		return 0;
	blkio_push(j->b);
	io_u_mark_submit(td, j->asked);
	j->asked = 0;
	return 0;
}

/* Take one that ended. Returns its io_u, or NULL: it is a write that is to be flushed yet. */
static struct io_u *end(struct thread_data *td, struct job *j, struct io *io)
{
	if (td->o.sync_io && io->req.op == PV_BLKFRONT_WRITE && !io->req.result && has_flush(j)) {
		io->req = (struct blkio_req){ .op = PV_BLKFRONT_FLUSH };
		blkio_ask(j->b, &io->req);
		return NULL;
	}
	if (io->req.result < 0) {
		io->io_u->error = (unsigned)-io->req.result;
		io->io_u->resid = io->io_u->xfer_buflen;
	}
	return io->io_u;
}

/* Nothing has come for a while: its backend is gone, and waited for, unless fio ends. */
static void silence(struct thread_data *td, struct job *j)
{
	if (td->terminate)
		blkio_end(j->b, -ETIMEDOUT, "fio ends, and its backend does not answer");
	else if (!j->told_silent)
		log_info("pvio: %s: the backend of vbd %s does not answer: waiting for it\n", td->o.name, j->vbd);
	j->told_silent = true;
}

/* Sleep until the device has something; follow it. */
static void rest(struct thread_data *td, struct job *j, int ms)
{
	struct pollfd fd = { .fd = blkio_fd(j->b), .events = POLLIN };

	if (!j->heard_ms)
		j->heard_ms = front_now_ms();
	poll(&fd, 1, blkio_away(j->b) && ms > BLKIO_AWAY_MS ? BLKIO_AWAY_MS : ms);
	blkio_follow(j->b);
	if (!blkio_error(j->b) && ms && front_now_ms() - j->heard_ms >= SILENCE_MS)
		silence(td, j);
	if (blkio_error(j->b) && !j->told_ended) {
		log_err("pvio: %s: vbd %s: %s\n", td->o.name, j->vbd, blkio_error(j->b));
		j->told_ended = true;
	}
}

/* fio gives a timeout only with min 0, and then it is none. */
static int pvio_getevents(struct thread_data *td, unsigned int min, unsigned int max, const struct timespec *t)
{
	struct job *j = td->io_ops_data;
	struct blkio_req *r;
	unsigned n = 0;

	(void)t;
	for (bool looked = false;; looked = true) {
		while (n < max && (r = blkio_done(j->b)))
			if ((j->event[n] = end(td, j, (struct io *)r)))
				n++;
		blkio_push(j->b);
		if (n)
			j->heard_ms = 0;
		if (n >= min && (n || looked))
			return (int)n;
		rest(td, j, min ? TICK_MS : 0);
	}
}

static struct io_u *pvio_event(struct thread_data *td, int event)
{
	struct job *j = td->io_ops_data;

	return j->event[event];
}

/* The vbd is open from init to cleanup, and nothing of it is cached here. */
static int pvio_file(struct thread_data *td, struct fio_file *f)
{
	(void)td;
	(void)f;
	return 0;
}

struct ioengine_ops ioengine = {
	.name = "pvio",
	.version = FIO_IOOPS_VERSION,
	.flags = FIO_DISKLESSIO | FIO_NOEXTEND | FIO_NO_OFFLOAD,
	.setup = pvio_setup,
	.init = pvio_init,
	.cleanup = pvio_cleanup,
	.iomem_alloc = pvio_iomem_alloc,
	.iomem_free = pvio_iomem_free,
	.queue = pvio_queue,
	.commit = pvio_commit,
	.getevents = pvio_getevents,
	.event = pvio_event,
	.open_file = pvio_file,
	.close_file = pvio_file,
	.invalidate = pvio_file,
	.options = options,
	.option_struct_size = sizeof(struct options),
};
