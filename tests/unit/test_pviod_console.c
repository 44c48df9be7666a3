/* test_pviod_console.c - a guest's console, on a real pviod with the loopback hypervisor; the guest's driver is this file. */
#include "tests/unit/loopback.h"
#include "dom0-tools/console.h"
#include "dom0-tools/pviod.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

enum { GUEST = 1, TURNS = 2000 /* of the loop, until something that should come has failed to come */ };

/* ---- the ring alone ---- */

static struct xencons_interface page;
static struct console_ring ring;
static char buf[sizeof(page.out)];

static void ring_up(XENCONS_RING_IDX from)
{
	memset(&page, 0, sizeof(page));
	page.out_cons = page.out_prod = page.in_cons = page.in_prod = from;
	console_ring_init(&ring, &page);
}

static void console_ring_take_takes_all_across_the_end(void **state)
{
	(void)state;
	ring_up(UINT32_MAX - 2); /* of the ring, and of the index */
	for (int i = 0; i < 6; i++)
		page.out[MASK_XENCONS_IDX(page.out_prod++, page.out)] = "abcdef"[i];
	assert_int_equal(console_ring_take(&ring, buf), 6);
	assert_memory_equal(buf, "abcdef", 6);
	assert_int_equal(page.out_cons, 3);
	assert_int_equal(console_ring_take(&ring, buf), 0);
}

static void console_ring_take_takes_a_full_ring(void **state)
{
	(void)state;
	ring_up(100);
	page.out_prod += sizeof(page.out);
	assert_int_equal(console_ring_take(&ring, buf), sizeof(page.out));
}

static void console_ring_take_refuses_indices_that_cannot_be(void **state)
{
	(void)state;
	ring_up(100);
	page.out_prod += sizeof(page.out) + 1;
	assert_int_equal(console_ring_take(&ring, buf), -EPROTO);
	page.out_prod = 99;
	assert_int_equal(console_ring_take(&ring, buf), -EPROTO);
	page.out_prod = 101, page.out_cons = 77; /* what the guest makes of our index is not believed */
	assert_int_equal(console_ring_take(&ring, buf), 1);
	assert_int_equal(page.out_cons, 101);
}

static void console_ring_put_fills_no_more_than_the_room(void **state)
{
	char text[sizeof(page.in)];

	(void)state;
	memset(text, 'x', sizeof(text));
	ring_up(UINT32_MAX - 9);
	assert_int_equal(console_ring_room(&ring), sizeof(page.in));
	console_ring_put(&ring, text, 1000);
	assert_int_equal(console_ring_room(&ring), 24);
	console_ring_put(&ring, "0123456789abcdefghijklmn", 24);
	assert_int_equal(console_ring_room(&ring), 0);
	assert_int_equal(page.in[MASK_XENCONS_IDX(page.in_prod - 1, page.in)], 'n');
	page.in_cons = page.in_prod + 1;
	assert_int_equal(console_ring_room(&ring), -EPROTO);
}

/* ---- the whole ---- */

static struct pviod d;
static struct console *console;
static struct pv_hyper *guest;
static struct xencons_interface *shared; /* the guest's page */
static int guest_port;
static char why[WHY_LEN], path[100], logs[80];

/* As a killed pviod leaves it. */
static void leave_socket(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char dir[96];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(dir, sizeof(dir), "%s/console", lb_dir);
	mkdir(dir, 0700);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/console/left.sock", lb_dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	close(fd);
}

static int up(void **state)
{
	static char sock[96];
	struct pviod_options opt = { .hypervisor = lb_spec, .socket = sock, .embedded = true, .console_log = logs };
	struct pv_hyper *dom0;
	uint32_t gref;
	void *p;

	(void)state;
	lb_up(NULL, NULL);
	snprintf(sock, sizeof(sock), "%s/pviod.sock", lb_dir);
	snprintf(path, sizeof(path), "%s/console/web.sock", lb_dir);
	snprintf(logs, sizeof(logs), "%s/logs", lb_dir);
	mkdir(logs, 0700);
	leave_socket();
	assert_int_equal(pviod_open(&d, &opt, why, sizeof(why)), 0);
	/* `down` finds that the socket that was left is gone */
	dom0 = lb_open(0);
	lb_guest(dom0, GUEST);
	pv_hyper_close(dom0);
	guest = lb_open(GUEST);
	assert_int_equal(pv_gnt_share(guest, 0, 1, true, NULL, &gref, &p), 0);
	shared = p;
	guest_port = pv_evt_alloc(guest, 0);
	assert_true(guest_port > 0);
	if (console_open(&d, "web", GUEST, gref, guest_port, &console, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return 0;
}

static void spin(int turns)
{
	while (turns--) {
		uint32_t port;

		uv_run(&d.loop, UV_RUN_NOWAIT);
		while (pv_evt_pending(guest, &port, 1) > 0)
			pv_evt_unmask(guest, &port, 1);
	}
}

static int down(void **state)
{
	char file[128];

	(void)state;
	console_close(console);
	console = NULL;
	pviod_close(&d);
	pv_hyper_close(guest);
	snprintf(file, sizeof(file), "%s/web.log", logs);
	unlink(file);
	snprintf(file, sizeof(file), "%s/web.log.1", logs);
	unlink(file);
	assert_int_equal(rmdir(logs), 0);
	snprintf(file, sizeof(file), "%s/console", lb_dir);
	assert_int_equal(rmdir(file), 0); /* no socket was left in it */
	lb_down();
	return 0;
}

static int attach(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	spin(3);
	return fd;
}

/* The guest's driver: as much as there is room for. */
static size_t say_some(const char *s, size_t n)
{
	size_t done = 0;

	while (done < n && shared->out_prod - __atomic_load_n(&shared->out_cons, __ATOMIC_ACQUIRE) < sizeof(shared->out))
		shared->out[MASK_XENCONS_IDX(shared->out_prod, shared->out)] = s[done++], __atomic_store_n(&shared->out_prod, shared->out_prod + 1, __ATOMIC_RELEASE);
	pv_evt_notify(guest, guest_port);
	return done;
}

static void say(const char *s, size_t n)
{
	size_t done = 0;

	for (int i = 0; done < n && i < TURNS; i++) {
		done += say_some(s + done, n - done);
		spin(1);
		if (done < n && i % 64 == 63)
			usleep(20000); /* its budget */
	}
	assert_int_equal(done, n);
}

/* Read what comes, until n bytes; returns how many came. */
static size_t hear(int fd, char *to, size_t n)
{
	size_t got = 0;

	for (int i = 0; got < n && i < TURNS; i++) {
		ssize_t r;

		spin(1);
		r = read(fd, to + got, n - got);
		if (r == 0)
			break;
		if (r > 0)
			got += r;
		else if (i > 20)
			usleep(1000);
	}
	return got;
}

static void expect_text(int fd, const char *text)
{
	char got[256] = "";

	assert_int_equal(hear(fd, got, strlen(text)), strlen(text));
	assert_string_equal(got, text);
}

static bool ended(int fd)
{
	char c;

	for (int i = 0; i < TURNS; i++) {
		spin(1);
		if (read(fd, &c, 1) == 0)
			return true;
		usleep(100);
	}
	return false;
}

static void console_serves_backlog_then_what_comes(void **state)
{
	struct stat st;
	int a, b;

	(void)state;
	say("early\r\n", 7);
	spin(3);
	a = attach();
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	expect_text(a, "early\r\n");
	say("late\033[1m\r\n", 10); /* escapes pass */
	expect_text(a, "late\033[1m\r\n");
	b = attach();
	expect_text(b, "early\r\nlate\033[1m\r\n");
	close(a);
	close(b);
}

static void console_passes_what_is_typed(void **state)
{
	char text[3000];
	size_t sent = 0, got = 0;
	int fd = attach();

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = 'a' + i % 23;
	for (int i = 0; got < sizeof(text) && i < TURNS; i++) { /* more than the ring holds: the guest reads, and notifies */
		ssize_t n = sent < sizeof(text) ? write(fd, text + sent, sizeof(text) - sent) : 0;
		XENCONS_RING_IDX prod;

		sent += n > 0 ? n : 0;
		spin(2);
		prod = __atomic_load_n(&shared->in_prod, __ATOMIC_ACQUIRE);
		assert_true(prod - shared->in_cons <= sizeof(shared->in));
		for (; shared->in_cons != prod; got++) {
			assert_int_equal(shared->in[MASK_XENCONS_IDX(shared->in_cons, shared->in)], text[got]);
			__atomic_store_n(&shared->in_cons, shared->in_cons + 1, __ATOMIC_RELEASE);
		}
		pv_evt_notify(guest, guest_port);
	}
	assert_int_equal(got, sizeof(text));
	close(fd);
}

static void console_keeps_the_last_64_kib(void **state)
{
	static char text[100 << 10], got[100 << 10];
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = "0123456789abcdefghi"[i % 19];
	say(text, sizeof(text));
	spin(3);
	fd = attach();
	assert_int_equal(hear(fd, got, 64 << 10), 64 << 10);
	assert_memory_equal(got, text + sizeof(text) - (64 << 10), 64 << 10);
	assert_int_equal(read(fd, got, 1), -1); /* and nothing more */
	close(fd);
}

static void console_is_not_held_up_by_one_who_does_not_read(void **state)
{
	static char text[16 << 10];
	int fd = attach();

	(void)state;
	memset(text, '.', sizeof(text));
	for (int i = 0; i < 40; i++)
		say(text, sizeof(text)); /* more than a socket and the backlog hold */
	close(fd);
}

static void console_close_tells_the_last_words(void **state)
{
	int fd = attach();
	char got[64] = "";

	(void)state;
	say_some("Kernel panic\r\n", 14); /* the event was not even looked at */
	console_close(console);
	console = NULL;
	assert_int_equal(hear(fd, got, sizeof(got)), 14);
	assert_string_equal(got, "Kernel panic\r\n");
	assert_true(ended(fd));
	assert_int_equal(access(path, F_OK), -1);
	close(fd);
}

static void console_close_waits_a_while_for_a_slow_reader(void **state)
{
	static char text[60 << 10], got[600 << 10];
	size_t n = 0, r;
	int fd = attach(), small = 4096;

	(void)state;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	memset(text, '.', sizeof(text));
	for (int i = 0; i < 8; i++)
		say(text, sizeof(text));
	say("end", 3);
	console_close(console);
	console = NULL;
	while ((r = hear(fd, got + n, sizeof(got) - n)) > 0)
		n += r;
	assert_true(n > 3 && memcmp(got + n - 3, "end", 3) == 0);
	assert_true(ended(fd));
	close(fd);
}

static void console_close_does_not_wait_for_one_who_never_reads(void **state)
{
	static char text[60 << 10];
	int fd = attach();

	(void)state;
	memset(text, '.', sizeof(text));
	for (int i = 0; i < 8; i++)
		say(text, sizeof(text)); /* more than the socket holds */
	console_close(console);
	console = NULL;
	assert_non_null(d.consoles);
	for (int i = 0; d.consoles && i < 20000; i++) {
		spin(1);
		usleep(1000);
	}
	assert_null(d.consoles);
	close(fd);
}

static void console_of_a_guest_that_lies_is_served_no_more(void **state)
{
	int fd;

	(void)state;
	say("truth", 5);
	spin(3);
	shared->out_prod += 1 << 20;
	pv_evt_notify(guest, guest_port);
	spin(10);
	fd = attach();
	expect_text(fd, "truth"); /* can still be read */
	assert_int_equal(write(fd, "x", 1), 1);
	spin(10);
	assert_int_equal(shared->in_prod, 0);
	close(fd);
	spin(5);
}

static void console_of_a_guest_that_lies_about_input_is_served_no_more(void **state)
{
	int fd = attach();

	(void)state;
	shared->in_cons = 5;
	assert_int_equal(write(fd, "x", 1), 1);
	spin(10);
	pv_evt_notify(guest, guest_port);
	spin(10);
	assert_int_equal(shared->in_prod, 0);
	close(fd);
	spin(5);
}

static void console_gives_a_storm_its_budget_and_no_more(void **state)
{
	uint64_t begin = uv_now(&d.loop), ms;
	unsigned taken = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) { /* a byte each, and each wants a turn */
		XENCONS_RING_IDX before = shared->out_cons;

		say_some("x", 1);
		spin(1);
		taken += shared->out_cons != before;
	}
	ms = uv_now(&d.loop) - begin;
	assert_true(taken >= 128);
	assert_true(taken <= 128 + 512 * (ms + 1) / 1000 + 1);
}

static void console_takes_no_more_than_eight(void **state)
{
	int fd[9];
	char c;

	(void)state;
	for (int i = 0; i < 9; i++)
		fd[i] = attach();
	assert_int_equal(read(fd[8], &c, 1), 0);
	assert_int_equal(read(fd[7], &c, 1), -1);
	close(fd[0]); /* its place is free again */
	spin(10);
	close(fd[8]);
	fd[8] = attach();
	assert_int_equal(read(fd[8], &c, 1), -1);
	for (int i = 1; i < 9; i++)
		close(fd[i]);
}

static void console_log_is_bounded(void **state)
{
	static char text[64 << 10];
	char file[128];
	struct stat st;

	(void)state;
	memset(text, '.', sizeof(text));
	for (int i = 0; i < 18; i++)
		say(text, sizeof(text));
	spin(3);
	snprintf(file, sizeof(file), "%s/web.log", logs);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(st.st_size > 0 && st.st_size < 1 << 20);
	strcat(file, ".1");
	assert_int_equal(stat(file, &st), 0);
	assert_true(st.st_size > 1 << 19 && st.st_size <= 1 << 20);
}

static void console_open_holds_nothing_when_it_fails(void **state)
{
	struct console *c;

	(void)state;
	assert_true(console_open(&d, "other", GUEST, 4711, guest_port, &c, why, sizeof(why)) < 0);
	assert_null(c);
	assert_non_null(strstr(why, "console page"));
	spin(5);
	assert_int_equal(unlinkat(AT_FDCWD, path, 0), 0); /* of web; the other's is gone already, as rmdir finds */
	char log[128];

	snprintf(log, sizeof(log), "%s/other.log", logs);
	unlink(log);
}

#define WHOLE(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(console_ring_take_takes_all_across_the_end),
		cmocka_unit_test(console_ring_take_takes_a_full_ring),
		cmocka_unit_test(console_ring_take_refuses_indices_that_cannot_be),
		cmocka_unit_test(console_ring_put_fills_no_more_than_the_room),
		WHOLE(console_serves_backlog_then_what_comes),
		WHOLE(console_passes_what_is_typed),
		WHOLE(console_keeps_the_last_64_kib),
		WHOLE(console_is_not_held_up_by_one_who_does_not_read),
		WHOLE(console_close_tells_the_last_words),
		WHOLE(console_close_waits_a_while_for_a_slow_reader),
		WHOLE(console_close_does_not_wait_for_one_who_never_reads),
		WHOLE(console_of_a_guest_that_lies_is_served_no_more),
		WHOLE(console_of_a_guest_that_lies_about_input_is_served_no_more),
		WHOLE(console_gives_a_storm_its_budget_and_no_more),
		WHOLE(console_takes_no_more_than_eight),
		WHOLE(console_log_is_bounded),
		WHOLE(console_open_holds_nothing_when_it_fails),
	};

	return cmocka_run_group_tests_name("pviod_console", tests, NULL, NULL);
}
