/* test_pviod_rpc.c - garbage on pviod.sock: whoever sends it is cut off or refused; others are served. */
#include "tests/unit/pviod_rig.h"
#include <sys/socket.h>
#include <sys/un.h>

static int connect_raw(void)
{
	int fd = pv_rpc_connect(rig->sock);

	assert_true(fd >= 0);
	return fd;
}

/* Send all of it, as far as the other end takes it. */
static void send_all(int fd, const char *data, size_t len)
{
	uint64_t end = rig_ms() + RIG_MS;

	while (len > 0 && rig_ms() < end) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			return;
		if (n > 0) {
			data += n;
			len -= n;
		}
		rig_turn();
	}
}

static bool is_cut(int fd)
{
	char buf[4096];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN);
}

static void serves_others(void)
{
	good("attach", "{\"guest\":\"web\",\"type\":\"vif\",\"name\":\"0\"}");
	good("detach", "{\"guest\":\"web\",\"device\":\"vif0\"}");
}

static void garbage_is_cut_off(void **state)
{
	static const char *const garbage[] = {
		"\n", "hello\n", "{}\n", "[]\n", "null\n", "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"list\"}\n",
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}\n", "{\"jsonrpc\":\"2.0\",\"id\":-1,\"method\":\"list\"}\n",
		"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"list\"}\n", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"list\",\"params\":{\n",
		"\x00\x01\x02\xff\n", "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"list\"}]\n",
		"{\"jsonrpc\":\"2.0\",\"method\":\"list\"}\n", /* a client that tells instead of asking */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		int fd = connect_raw();

		send_all(fd, garbage[i], garbage[i][0] ? strlen(garbage[i]) : 5);
		WAIT(is_cut(fd));
		close(fd);
	}
	serves_others();
}

static void line_without_end_is_cut_off(void **state)
{
	static char data[1 << 16];
	int fd = connect_raw();

	(void)state;
	memset(data, 'x', sizeof(data));
	for (int i = 0; i < 20 && !is_cut(fd); i++)
		send_all(fd, data, sizeof(data));
	WAIT(is_cut(fd));
	close(fd);
	serves_others();
}

static void deep_nesting_is_cut_off(void **state)
{
	static char data[4096];
	int fd = connect_raw(), n = snprintf(data, sizeof(data), "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"list\",\"params\":");

	(void)state;
	memset(data + n, '[', 1000);
	data[n + 1000] = '\n';
	send_all(fd, data, n + 1001);
	WAIT(is_cut(fd));
	close(fd);
	serves_others();
}

/* Idle connections take places, but not all of the daemon: those beyond the limit are closed, and places come back. */
static void connections_are_bounded(void **state)
{
	int fd[CONNS_MAX + 20];

	(void)state;
	for (int i = 0; i < CONNS_MAX + 20; i++) {
		uint64_t end = rig_ms() + RIG_MS;

		while ((fd[i] = pv_rpc_connect(rig->sock)) == -EAGAIN && rig_ms() < end)
			rig_turn();
		assert_true(fd[i] >= 0);
	}
	WAIT(is_cut(fd[CONNS_MAX + 19]));
	serves_others();
	for (int i = 0; i < CONNS_MAX + 20; i++)
		close(fd[i]);
	WAIT(({
		int f = pv_rpc_connect(rig->sock);
		struct pollfd p = { .fd = f, .events = POLLIN };
		bool kept = f >= 0 && poll(&p, 1, 50) == 0;

		if (f >= 0)
			close(f);
		kept;
	}));
}

/* A client that asks and asks and never reads is cut off; nobody waits for it. */
static void client_that_never_reads_is_cut_off(void **state)
{
	static const char call[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"list\"}\n";
	int fd = connect_raw();
	uint64_t end = rig_ms() + RIG_MS;
	bool cut = false;

	(void)state;
	for (int i = 0; i < 20; i++)
		good("attach", "{\"guest\":\"web\",\"type\":\"vif\"}");
	while (!cut && rig_ms() < end) {
		ssize_t n = send(fd, call, sizeof(call) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);

		cut = n < 0 && (errno == EPIPE || errno == ECONNRESET);
		if (n != sizeof(call) - 1)
			rig_turn();
	}
	assert_true(cut);
	close(fd);
	good("guest.destroy", "{\"guest\":\"web\"}");
}

/* Calls with parameters of every wrong type, from a fixed set of bits and pieces put together at random. */
static void calls_put_together_at_random_are_answered(void **state)
{
	static const char *const methods[] = { "attach", "detach", "list", "stats", "inspect", "ask", "guest.create", "guest.list", "backend.list", "version", "x" };
	static const char *const keys[] = { "guest", "type", "name", "device", "config", "force", "wait_ms", "timeout_ms", "after", "backend", "domid" };
	static const char *const values[] = { "\"web\"", "\"vif\"", "\"0\"", "0", "1", "-1", "1e300", "9223372036854775807", "true", "null", "{}", "[]",
					      "{\"mac\":\"x\"}", "\"vif0\"", "\"\"", "\"9\"", "\"%s%n\"", "\"\\u0000\"", "10" };
	unsigned seed = 4711;

	(void)state;
	for (int i = 0; i < 1500; i++) {
		char params[512] = "{";
		struct answer a;
		int n = 1;

		for (int k = 0; k < 4; k++) {
			seed = seed * 1103515245 + 12345;
			n += snprintf(params + n, sizeof(params) - n, "%s\"%s\":%s", k ? "," : "", keys[(seed >> 16) % 11], values[(seed >> 8) % 19]);
		}
		snprintf(params + n, sizeof(params) - n, ",\"wait_ms\":0,\"timeout_ms\":20}");
		seed = seed * 1103515245 + 12345;
		ask(&a, methods[(seed >> 16) % 10], "%s", params);
		WAIT(a.done);
		json_object_put(a.result);
	}
	{
		struct json_object *o = get("guest.list", "{}"), *guests;

		json_object_object_get_ex(o, "guests", &guests);
		for (size_t i = 0; i < json_object_array_length(guests); i++)
			good("guest.destroy", "{\"guest\":\"%s\",\"force\":true}", text_in(json_object_array_get_idx(guests, i), "name"));
		json_object_put(o);
	}
}

#define with(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with(garbage_is_cut_off),
		with(line_without_end_is_cut_off),
		with(deep_nesting_is_cut_off),
		with(connections_are_bounded),
		with(client_that_never_reads_is_cut_off),
		with(calls_put_together_at_random_are_answered),
	};

	return cmocka_run_group_tests(tests, rig_hub_up, rig_hub_down);
}
