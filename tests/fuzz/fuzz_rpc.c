/* fuzz_rpc.c - bytes of a peer into a connection (rpc.c), and what it calls into the readers of messages (message.c). The input comes
 * in pieces: byte 0 is their size. */
#include "fuzz.h"
#include <pvio/message.h>
#include <pvio/rpc.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static bool closed;

static void on_call(void *ctx, struct pv_rpc *rpc, uint64_t id, const char *method, struct json_object *params)
{
	struct pv_device_id device;
	struct pv_connect c;
	struct pv_noxs_offer offer;
	struct json_object *config;
	char why[128];

	(void)ctx;
	MUST(method);
	pv_device_id_from_json(params, &device, why, sizeof(why));
	pv_config_from_json(params, &config, why, sizeof(why));
	pv_offer_from_json(params, PV_NOXS_VIF, &offer, why, sizeof(why));
	pv_offer_from_json(params, PV_NOXS_VBD, &offer, why, sizeof(why));
	if (!pv_connect_from_json(params, &c, why, sizeof(why)))
		MUST(c.choice.queues <= PV_NOXS_QUEUES_MAX);
	if (*method == 'f')
		pv_rpc_fail(rpc, id, -EINVAL, "%s", method);
	else
		pv_rpc_reply(rpc, id, NULL);
}

static void on_closed(void *ctx, struct pv_rpc *rpc, int err)
{
	(void)ctx, (void)rpc, (void)err;
	closed = true;
}

static void on_done(void *arg, int code, const char *message, struct json_object *result)
{
	(void)code, (void)message, (void)result;
	++*(int *)arg;
}

static void drain(int fd)
{
	char buf[4096];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct pv_rpc_ops ops = { .call = on_call, .closed = on_closed };
	struct input in = { data, size };
	size_t piece = take8(&in) * 16u + 1;
	struct pv_rpc *rpc;
	int fd[2], done = 0;

	MUST(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd));
	MUST(!pv_rpc_new(fd[0], &ops, NULL, &rpc));
	closed = false;
	pv_rpc_call(rpc, "question", NULL, 1000, on_done, &done);
	while (in.left && !closed) {
		size_t n = piece < in.left ? piece : in.left;
		ssize_t sent = send(fd[1], in.at, n, MSG_NOSIGNAL);

		if (sent > 0) {
			in.at += sent;
			in.left -= (size_t)sent;
		}
		pv_rpc_work(rpc);
		drain(fd[1]);
	}
	close(fd[1]);
	if (!closed)
		pv_rpc_work(rpc);
	MUST(closed && done == 1); /* each call is answered once, whatever was said */
	pv_rpc_free(rpc);
	return 0;
}
