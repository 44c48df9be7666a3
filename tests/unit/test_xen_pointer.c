/* The noxs pointer of a Xen guest, against a store that the test plays on a socket in place of /dev/xen/xenbus. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "rings/hyper_xen.h"

static struct xen *x;
static int store;

static int up(void **state)
{
	int fds[2];

	(void)state;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds))
		return -1;
	x = calloc(1, sizeof(*x));
	x->pointer = (struct xen_pointer){ .bus.fd = fds[0], .opened = true, .look = true, .node_rc = -EAGAIN, .hint_rc = -ENOENT };
	store = fds[1];
	return 0;
}

static int down(void **state)
{
	(void)state;
	xen_pointer_close(x);
	free(x);
	if (store >= 0)
		close(store);
	return 0;
}

static int look(struct pv_noxs_pointer *out)
{
	memset(out, 0, sizeof(*out));
	return xen_pointer(&x->h, out);
}

/* The next request must be this. */
static void asked(uint32_t type)
{
	struct xsd_sockmsg msg;
	char body[64];

	assert_int_equal(read(store, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(msg.type, type);
	assert_int_equal(msg.tx_id, 0);
	assert_int_equal(read(store, body, msg.len), msg.len);
	assert_string_equal(body, "device/pvio");
	assert_int_equal(msg.len, type == XS_WATCH ? sizeof("device/pvio\0pvio") : sizeof("device/pvio"));
}

static void asked_nothing(void)
{
	char byte;

	assert_int_equal(read(store, &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
}

static void say_len(uint32_t type, const char *body, uint32_t len)
{
	struct xsd_sockmsg msg = { .type = type, .len = len };

	assert_int_equal(write(store, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(write(store, body, len), len);
}

static void say(uint32_t type, const char *body)
{
	say_len(type, body, strlen(body));
}

static void fire(void)
{
	say_len(XS_WATCH_EVENT, "device/pvio\0pvio", sizeof("device/pvio\0pvio"));
}

/* Up to the first answer and the watch, which fires at once. */
static void begin(uint32_t type, const char *body)
{
	struct pv_noxs_pointer p;

	assert_int_equal(look(&p), -ENOENT);
	asked(XS_READ);
	asked_nothing(); /* a watch would sleep in the kernel until there is a store */
	if (type == XS_ERROR)
		say_len(type, body, strlen(body) + 1);
	else
		say(type, body);
	look(&p);
	asked(XS_WATCH);
	say_len(XS_WATCH, "OK", 3);
	fire();
}

static void pointer_follows_the_node(void **state)
{
	const struct pv_noxs_pointer first = { PV_NOXS_MAGIC, 1, 7, 18, 33 }, second = { PV_NOXS_MAGIC, 1, 8, 19, 34 };
	struct pv_noxs_pointer p;

	(void)state;
	begin(XS_ERROR, "ENOENT");
	assert_int_equal(look(&p), -ENOENT);
	assert_non_null(strstr(x->h.error, "device/pvio"));
	asked(XS_READ);
	say(XS_READ, "1 7 18 33");
	assert_int_equal(look(&p), 0);
	assert_memory_equal(&p, &first, sizeof(p));
	for (int i = 0; i < 100; i++)
		assert_int_equal(look(&p), 0);
	asked_nothing(); /* nothing fired */
	fire();
	fire(); /* one question for both */
	assert_int_equal(look(&p), 0);
	assert_memory_equal(&p, &first, sizeof(p)); /* nobody waits */
	asked(XS_READ);
	asked_nothing();
	say(XS_READ, "1 8 19 34");
	assert_int_equal(look(&p), 0);
	assert_memory_equal(&p, &second, sizeof(p));
	fire();
	look(&p);
	asked(XS_READ);
	say_len(XS_ERROR, "ENOENT", 7);
	assert_int_equal(look(&p), -ENOENT);
}

/* A watch that fires between question and answer is not lost: the answer may be older. */
static void pointer_asks_again_if_it_fired_meanwhile(void **state)
{
	struct pv_noxs_pointer p;

	(void)state;
	begin(XS_READ, "1 1 1 1");
	assert_int_equal(look(&p), 0);
	asked(XS_READ);
	fire();
	say(XS_READ, "1 1 1 1");
	assert_int_equal(look(&p), 0);
	asked(XS_READ);
	say(XS_READ, "1 2 2 2");
	assert_int_equal(look(&p), 0);
	assert_int_equal(p.generation, 2);
	asked_nothing();
}

static void pointer_in_pieces(void **state)
{
	struct xsd_sockmsg msg = { .type = XS_READ, .len = 9 };
	struct pv_noxs_pointer p;
	char all[sizeof(msg) + 9];

	(void)state;
	memcpy(all, &msg, sizeof(msg));
	memcpy(all + sizeof(msg), "1 7 18 33", 9);
	assert_int_equal(look(&p), -ENOENT);
	for (size_t i = 0; i < sizeof(all); i++) {
		assert_int_equal(look(&p), -ENOENT);
		assert_int_equal(write(store, all + i, 1), 1);
	}
	assert_int_equal(look(&p), 0);
	assert_int_equal(p.port, 33);
}

static void pointer_of_nonsense(void **state)
{
	struct pv_noxs_pointer p;

	(void)state;
	begin(XS_READ, "2 1 1 1");
	assert_int_equal(look(&p), -EPROTO);
	asked(XS_READ);
	say(XS_READ, ""); /* taken back */
	assert_int_equal(look(&p), -ENOENT);
}

static void hint_until_there_is_a_node(void **state)
{
	struct pv_noxs_pointer p;

	(void)state;
	x->pointer.hint_rc = pv_noxs_hint_parse("noxs=5,6", &x->pointer.hint);
	assert_int_equal(look(&p), 0); /* no answer yet */
	assert_int_equal(p.gref, 5);
	asked(XS_READ);
	say_len(XS_ERROR, "ENOENT", 7);
	assert_int_equal(look(&p), 0);
	assert_int_equal(p.gref, 5);
	asked(XS_WATCH);
	fire();
	look(&p);
	asked(XS_READ);
	say(XS_READ, "1 1 9 9");
	assert_int_equal(look(&p), 0);
	assert_int_equal(p.gref, 9);
	fire();
	look(&p);
	asked(XS_READ);
	say_len(XS_ERROR, "ENOENT", 7);
	assert_int_equal(look(&p), -ENOENT); /* the hint is older than what was taken back */
}

static void store_that_breaks(void **state)
{
	struct xsd_sockmsg msg = { .type = XS_READ, .len = XENSTORE_PAYLOAD_MAX + 1 };
	struct pv_noxs_pointer p;

	(void)state;
	begin(XS_READ, "1 1 9 9");
	assert_int_equal(look(&p), 0);
	assert_int_equal(write(store, &msg, sizeof(msg)), sizeof(msg)); /* more than a message can have */
	assert_int_equal(look(&p), 0); /* what was found stays */
	assert_int_equal(p.gref, 9);
	assert_int_equal(x->pointer.bus.fd, -1);
	assert_int_equal(look(&p), 0);
}

static void no_store_at_all(void **state)
{
	struct pv_noxs_pointer p;

	(void)state;
	close(store); /* writing fails */
	store = -1;
	assert_int_equal(look(&p), -ENOENT);
	assert_non_null(strstr(x->h.error, "no XenStore"));
	x->pointer.hint_rc = -EPROTO;
	assert_int_equal(look(&p), -EPROTO);
	x->pointer.hint_rc = pv_noxs_hint_parse("noxs=5,6", &x->pointer.hint);
	assert_int_equal(look(&p), 0);
	assert_int_equal(p.port, 6);
}

static void bus_read_waits_no_longer_than_asked(void **state)
{
	(void)state;
	assert_int_equal(xen_bus_read(&x->pointer.bus, "device/pvio", 10), -ETIMEDOUT);
	asked(XS_READ);
	say(XS_READ, "12");
	assert_int_equal(xen_bus_read(&x->pointer.bus, "device/pvio", 10), 2);
	assert_memory_equal(x->pointer.bus.body, "12", 2);
	say_len(XS_ERROR, "EACCES", 7);
	assert_int_equal(xen_bus_read(&x->pointer.bus, "device/pvio", 10), -EACCES);
	say_len(XS_ERROR, "EWHATEVER", 10);
	assert_int_equal(xen_bus_read(&x->pointer.bus, "device/pvio", 10), -EIO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pointer_follows_the_node),	  TEST(pointer_asks_again_if_it_fired_meanwhile), TEST(pointer_in_pieces),
		TEST(pointer_of_nonsense),	  TEST(hint_until_there_is_a_node),		  TEST(store_that_breaks),
		TEST(no_store_at_all),		  TEST(bus_read_waits_no_longer_than_asked),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("xen_pointer", tests, NULL, NULL);
}
