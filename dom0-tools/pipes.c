/* pipes.c - pviod as the backend of pipes: between the page of a driver domain and a connection (conn.c).
 *
 * Theory of operation. A pipe is a device like any other (device.c), but nobody else serves it: what device.c asks of a backend is
 * done here, at once. A connected pipe has a socketpair, of which conn.c has one end as if somebody had connected to pviod's socket;
 * between the other end and the page the pump of pipe.h moves at most two pieces each way a turn, and a turn costs a token, so that a
 * driver domain that floods, or toggles its indices, buys a bounded share of our time. Its port stays masked until the turn was
 * done (XSA-331). Whatever it does wrong, in its indices or in what it says, breaks this one device.
 */
#include "pviod.h"
#include <poll.h>
#include <pvio/pipe.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct limit pipe_turns = { .burst = 4096, .rate = 1000 }; /* a turn takes up to 2 KiB: 2 MB a second */

/* Owner: its device, from connect to disconnect; freed when its loop handles are closed. */
struct pipe {
	struct device *dev;
	struct conn *conn; /* NULL: it was cut off, and the device is breaking */
	struct pv_pipe_page *page;
	struct pv_pipe end;
	struct port_user port;
	bool masked; /* the port, until the turn was done */
	int fd; /* our end of the socketpair, -1: none, and no handles */
	uv_poll_t poll;
	uv_timer_t timer; /* a turn that cannot be made now */
	unsigned handles; /* not closed yet */
	struct bucket budget;
	uint64_t turns, throttled;
};

static void turn(struct pipe *p);

/* ---- bytes ---- */

static void on_socket(uv_poll_t *poll, int status, int events)
{
	(void)status, (void)events;
	turn(poll->data);
}

static void on_timer(uv_timer_t *t)
{
	turn(t->data);
}

static void fired(struct port_user *u)
{
	struct pipe *p = port_owner(u, struct pipe, port);

	p->masked = true;
	if (p->conn && !uv_is_active((uv_handle_t *)&p->timer))
		turn(p);
}

static void later(struct pipe *p, unsigned ms)
{
	uv_poll_stop(&p->poll);
	uv_timer_start(&p->timer, on_timer, ms, 0);
}

/* It is not listened to any more, and breaks when device.c comes to it. */
static void broken(struct pipe *p, const char *what)
{
	uv_poll_stop(&p->poll);
	uv_timer_stop(&p->timer);
	device_fail(p->dev, -EPROTO, "the driver domain misbehaved: %s; detach and attach it to use it again", what);
	device_post(p->dev, EV_BROKEN);
}

/* Some bytes both ways, within the budget. */
static void turn(struct pipe *p)
{
	struct pviod *d = p->dev->d;
	struct pv_pipe_turn t;
	int rc;

	if (!bucket_take(&p->budget, &pipe_turns, pviod_now(d))) {
		p->throttled++;
		later(p, bucket_wait(&p->budget, &pipe_turns) + 1);
		return;
	}
	p->turns++;
	rc = pv_pipe_pump(&p->end, p->fd, &t);
	if (t.notify)
		pv_evt_notify(d->hyper, p->port.port);
	if (rc < 0) {
		broken(p, rc == -EPROTO ? "an index of the pipe is out of bounds" : "its connection ended");
		return;
	}
	if (t.again) {
		later(p, 0); /* after the others */
		return;
	}
	uv_poll_start(&p->poll, (t.events & POLLIN ? UV_READABLE : 0) | (t.events & POLLOUT ? UV_WRITABLE : 0), on_socket);
	if (p->masked)
		port_unmask(d, &p->port);
	p->masked = false;
}

/* ---- life ---- */

static int open_page(struct pipe *p, const struct pv_noxs_pipe_queue *q)
{
	struct pv_hyper *h = p->dev->d->hyper;
	uint16_t domid = p->dev->guest->domid;
	struct pv_gnt_notice notice = { .offset = PV_PIPE_NOTICE_OFFSET };
	int rc = pv_evt_bind(h, domid, q->port);
	void *page;

	if (rc < 0)
		return rc;
	port_listen(p->dev->d, &p->port, (uint32_t)rc, fired);
	p->masked = true; /* until the first turn */
	notice.port = p->port.port;
	rc = pv_gnt_map(h, domid, &q->gref, 1, true, &notice, &page);
	if (rc < 0)
		return rc;
	p->page = page;
	pv_pipe_init(&p->end, p->page, true);
	return 0;
}

static int open_conn(struct pipe *p)
{
	uv_loop_t *loop = &p->dev->d->loop;
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s) < 0)
		return -errno;
	p->conn = conn_new(p->dev->d, s[1]);
	if (!p->conn) {
		close(s[0]);
		return -ENOBUFS;
	}
	p->conn->pipe = p;
	p->fd = s[0];
	uv_poll_init(loop, &p->poll, p->fd);
	uv_timer_init(loop, &p->timer);
	p->poll.data = p->timer.data = p;
	p->handles = 2;
	later(p, 0);
	return 0;
}

static void handle_closed(uv_handle_t *h)
{
	struct pipe *p = h->data;

	if (--p->handles == 0)
		free(p);
}

static void pipe_end(struct device *dev)
{
	struct pipe *p = dev->pipe;
	struct conn *c = p ? p->conn : NULL;

	if (!p)
		return;
	dev->pipe = NULL;
	if (c) {
		c->pipe = NULL;
		conn_cut(c); /* who registered through it is lost */
	}
	if (p->page)
		pv_gnt_unmap(dev->d->hyper, p->page, 1); /* the notice tells the guest, while the port still exists */
	port_close(dev->d, &p->port);
	if (p->fd < 0) {
		free(p);
		return;
	}
	uv_close((uv_handle_t *)&p->poll, handle_closed);
	uv_close((uv_handle_t *)&p->timer, handle_closed);
	close(p->fd);
}

static int pipe_connect(struct device *dev)
{
	struct pipe *p = calloc(1, sizeof(*p));
	int rc;

	pipe_end(dev);
	if (!p) {
		device_fail(dev, -ENOMEM, "out of memory");
		return -ENOMEM;
	}
	p->dev = dev;
	p->fd = -1;
	dev->pipe = p;
	rc = open_page(p, &dev->choice.pipe[0]);
	if (rc < 0) {
		device_fail(dev, rc, "its page or port cannot be had: %s", pv_hyper_error(dev->d->hyper));
	} else {
		rc = open_conn(p);
		if (rc < 0)
			device_fail(dev, rc, "no connection for it (%s); pviod serves %d at once", strerror(-rc), CONNS_MAX);
	}
	if (rc < 0)
		pipe_end(dev);
	return rc;
}

void pipe_ask(struct device *dev, const char *method, enum dev_event ok, enum dev_event failed)
{
	int rc = 0;

	if (strcmp(method, "prepare") == 0)
		dev->offer.pipe = (struct pv_noxs_pipe_offer){ .version = PV_NOXS_PIPE_VERSION };
	else if (strcmp(method, "connect") == 0)
		rc = pipe_connect(dev);
	else /* disconnect, remove */
		pipe_end(dev);
	device_post(dev, rc < 0 ? failed : ok);
}

struct json_object *pipe_report(const struct device *dev)
{
	const struct pipe *p = dev->pipe;
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "backend", p && p->conn && p->conn->backend ? json_object_new_string(p->conn->backend->name) : NULL);
	json_object_object_add(o, "turns", json_object_new_int64(p ? (int64_t)p->turns : 0));
	json_object_object_add(o, "throttled", json_object_new_int64(p ? (int64_t)p->throttled : 0));
	return o;
}

struct guest *pipe_guest(const struct pipe *p)
{
	return p->dev->guest;
}

void pipe_cut(struct pipe *p)
{
	p->conn = NULL;
	if (!p->dev->d->ending)
		broken(p, "what it says is no JSON-RPC within the bounds, or it does not read");
}
