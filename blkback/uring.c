/* uring.c - see uring.h. */
#include "uring.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { SQ_ENTRIES = 512, CQ_ENTRIES = 4096, UNWATCH_NAP_NS = 1000000 };

/* Best first. COOP_TASKRUN spares the interrupt for each completion, TASKRUN_FLAG tells when to fetch them; DEFER_TASKRUN
 * measured no better, and each of its turns must enter the kernel. 5.19 has no SINGLE_ISSUER, 5.13 (the first with multishot
 * polls) only the last. */
static const unsigned setups[] = {
	IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SINGLE_ISSUER,
	IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	IORING_SETUP_CQSIZE,
};

int uring_open(struct uring *u, char *why, size_t len)
{
	struct io_uring_params p;
	int ret = -EINVAL;

	memset(u, 0, sizeof(*u));
	for (unsigned i = 0; i < sizeof(setups) / sizeof(setups[0]) && ret == -EINVAL; i++) {
		p = (struct io_uring_params){ .flags = setups[i], .cq_entries = CQ_ENTRIES };
		ret = io_uring_queue_init_params(SQ_ENTRIES, &u->ring, &p);
	}
	if (ret == 0 && !(p.features & IORING_FEAT_EXT_ARG)) {
		io_uring_queue_exit(&u->ring);
		ret = -EOPNOTSUPP;
	}
	if (ret < 0) {
		snprintf(why, len, "io_uring is not usable here (%s): %s", strerror(-ret),
			 ret == -EPERM ? "set the sysctl kernel.io_uring_disabled to 0" :
			 ret == -ENOMEM ? "raise the limit on locked memory (ulimit -l)" : "a kernel of 5.13 or newer is needed");
		return ret;
	}
	u->open = true;
	io_uring_register_ring_fd(&u->ring); /* saves a look-up a call; older kernels do without */
	return 0;
}

void uring_close(struct uring *u)
{
	if (u->open)
		io_uring_queue_exit(&u->ring);
	u->open = false;
}

struct io_uring_sqe *uring_sqe(struct uring *u, struct uring_op *op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	io_uring_sqe_set_data(sqe, op); /* liburing's prep functions leave user_data alone */
	return sqe;
}

/* What cannot be submitted now (EAGAIN: no memory, EBUSY: completions to fetch first) stays in the ring for the next time. */
void uring_submit(struct uring *u)
{
	unsigned n = io_uring_sq_ready(&u->ring), ended;

	if (!n)
		return;
	u->submits++;
	ended = io_uring_cq_ready(&u->ring);
	io_uring_submit(&u->ring);
	u->prompt = io_uring_cq_ready(&u->ring) - ended == n;
}

void uring_wait(struct uring *u, uint64_t ns)
{
	struct __kernel_timespec ts = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
	struct io_uring_cqe *cqe;

	u->waits++;
	if (ns)
		io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
	else
		io_uring_submit_and_wait(&u->ring, 1);
}

unsigned uring_reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	/* A relaxed look: what the kernel sets a moment later is seen in the next turn, or ends uring_wait. */
	if (IO_URING_READ_ONCE(*u->ring.sq.kflags) & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN))
		io_uring_get_events(&u->ring);
	io_uring_for_each_cqe(&u->ring, head, cqe) {
		struct uring_op *op = io_uring_cqe_get_data(cqe);

		if (!uring_room(u))
			break;
		op->done(op, cqe->res, cqe->flags);
		n++;
	}
	io_uring_cq_advance(&u->ring, n);
	return n;
}

static void poll_done(struct uring_op *op, int res, uint32_t flags)
{
	struct uring_poll *p = (struct uring_poll *)op;

	(void)res; /* an error too is a reason to look at the descriptor */
	p->ready = true;
	if (!(flags & IORING_CQE_F_MORE))
		p->armed = false;
}

void uring_poll_arm(struct uring *u, struct uring_poll *p)
{
	if (p->armed || !uring_room(u))
		return;
	p->op.done = poll_done;
	io_uring_prep_poll_multishot(uring_sqe(u, &p->op), p->fd, POLLIN);
	p->armed = true;
}

void uring_watch(struct uring *u, struct uring_watch *w, int fd, unsigned events)
{
	io_uring_prep_poll_add(uring_sqe(u, &w->op), fd, events);
	w->armed = true;
}

static void ignore(struct uring_op *op, int res, uint32_t flags)
{
	(void)op, (void)res, (void)flags;
}

void uring_unwatch(struct uring *u, struct uring_watch *w)
{
	static struct uring_op taken_back = { .done = ignore };

	uring_submit(u);
	if (w->armed)
		io_uring_prep_poll_remove(uring_sqe(u, &taken_back), (uint64_t)(uintptr_t)w);
	while (w->armed) {
		uring_wait(u, UNWATCH_NAP_NS);
		uring_reap(u);
	}
}
