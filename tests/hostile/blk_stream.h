/* blk_stream.h - a guest writes and verifies blocks through the whole product, while pvio-blkback is killed and handed over under it.
 *
 * Hub, pviod and blkback are processes, brought up by `pvio sandbox up`, or blkback by a pviod that supervises it. The frontend is libpvfront's; test_blk_killed_xenbus.c has it
 * connect as Linux does. It may see nothing but a pause: it stays Connected, each request is answered once and well (blkfront breaks
 * at an answer to what is not in flight), and each block is what its last acknowledged write made it: it holds its own number and that write's.
 * Two writes to one block are never in flight at once.
 */
#ifndef BLK_STREAM_H
#define BLK_STREAM_H

#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <pvio/blkfront.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/hostile/rig.h"
#include "tests/unit/sandbox.h"

enum {
	PATIENCE_MS = 60000, DEPTH = 24, BLOCK = 4096, BLOCKS = 4096 /* of the disk */, IO_BLOCKS = 32 /* of a request, at most: an indirect one */,
	XVDA = 51712,
};

struct request {
	bool out;
	enum pv_blkfront_op op;
	uint32_t first, n; /* blocks */
	uint8_t *buf; /* IO_BLOCKS blocks, its own */
};

static struct pv_blkfront *front;
static struct request request[DEPTH];
static uint32_t generation[BLOCKS], writing[BLOCKS]; /* of the last acknowledged write; of the one in flight, else 0 */
static bool reading[BLOCKS];
static uint64_t asked, answered, last_answer, pause_us;

/* ---- blocks ---- */

static void block_fill(uint8_t *p, uint32_t block, uint32_t gen)
{
	uint32_t *word = (uint32_t *)p;

	for (uint32_t i = 0; i < BLOCK / sizeof(*word); i++)
		word[i] = gen ? (i & 1 ? gen : block) ^ i * 0x9e3779b9 : 0;
}

static void block_check(const uint8_t *p, uint32_t block)
{
	uint8_t want[BLOCK];

	block_fill(want, block, generation[block]);
	if (memcmp(p, want, BLOCK)) {
		const uint32_t *word = (const uint32_t *)p;

		fail_msg("block %u holds write %u of block %u, not %u", block, word[1] ^ 0x9e3779b9, word[0], generation[block]);
	}
}

static bool range_free(uint32_t first, uint32_t n)
{
	for (uint32_t b = first; b < first + n; b++)
		if (writing[b] || reading[b])
			return false;
	return true;
}

/* ---- requests ---- */

static void request_make(struct request *r)
{
	unsigned kind = (unsigned)rand() % 16;

	r->op = kind == 0 ? PV_BLKFRONT_FLUSH : kind < 9 ? PV_BLKFRONT_WRITE : PV_BLKFRONT_READ;
	r->n = r->op == PV_BLKFRONT_FLUSH ? 0 : kind % 4 == 1 ? 1 + (uint32_t)rand() % IO_BLOCKS : 1 + (uint32_t)rand() % 4;
	do
		r->first = (uint32_t)rand() % (BLOCKS - IO_BLOCKS);
	while (!range_free(r->first, r->n));
	for (uint32_t i = 0; i < r->n; i++) {
		if (r->op == PV_BLKFRONT_READ) {
			reading[r->first + i] = true;
			continue;
		}
		writing[r->first + i] = generation[r->first + i] + 1;
		block_fill(r->buf + (size_t)i * BLOCK, r->first + i, generation[r->first + i] + 1);
	}
}

static void request_done(struct request *r, int result)
{
	uint64_t now = stream_us();

	assert_true(r->out);
	if (result)
		fail_msg("a request of kind %d failed: %s", (int)r->op, strerror(-result));
	r->out = false;
	answered++;
	if (now - last_answer > pause_us)
		pause_us = now - last_answer;
	last_answer = now;
	for (uint32_t b = r->first; b < r->first + r->n; b++) {
		if (r->op == PV_BLKFRONT_READ)
			block_check(r->buf + (size_t)(b - r->first) * BLOCK, b);
		else
			generation[b] = writing[b];
		writing[b] = 0;
		reading[b] = false;
	}
}

static void ask(void)
{
	bool any = false;

	for (struct request *r = request; r < request + DEPTH; r++) {
		struct pv_blkfront_io io;

		if (r->out)
			continue;
		request_make(r);
		io = (struct pv_blkfront_io){ .op = r->op, .offset = (uint64_t)r->first * BLOCK, .len = (uint64_t)r->n * BLOCK,
					      .buf = r->n ? r->buf : NULL, .user = r };
		if (pv_blkfront_queue(front, 0, &io))
			fail_msg("%s", pv_blkfront_error(front));
		r->out = any = true;
		asked++;
	}
	if (any)
		assert_int_equal(pv_blkfront_submit(front), 0);
}

static void turn(bool more)
{
	struct pv_blkfront_done done[DEPTH];
	struct pollfd p = { pv_blkfront_fd(front), POLLIN, 0 };
	int n;

	if (more)
		ask();
	poll(&p, 1, 1);
	if (pv_blkfront_work(front) < 0)
		fail_msg("%s", pv_blkfront_error(front));
	assert_int_equal(pv_blkfront_state(front), XenbusStateConnected);
	while ((n = pv_blkfront_reap(front, 0, done, DEPTH)) > 0)
		for (int i = 0; i < n; i++)
			request_done(done[i].user, done[i].result);
	assert_int_equal(n, 0);
}

/* Until so many more are answered. */
static void run_on(uint64_t requests)
{
	uint64_t end = stream_us() + PATIENCE_MS * 1000ull, goal = answered + requests;

	while (answered < goal) {
		turn(true);
		if (stream_us() > end)
			fail_msg("the guest gets no answers: %llu of %llu", (unsigned long long)answered, (unsigned long long)asked);
	}
}

static void drain(void)
{
	uint64_t end = stream_us() + PATIENCE_MS * 1000ull;

	while (answered < asked) {
		turn(false);
		if (stream_us() > end)
			fail_msg("%llu requests were never answered", (unsigned long long)(asked - answered));
	}
}

/* With nothing in flight: all of the disk. */
static void verify_all(void)
{
	struct request *r = &request[0];

	drain();
	for (uint32_t b = 0; b < BLOCKS; b += IO_BLOCKS) {
		const struct pv_blkfront_io io = { .op = PV_BLKFRONT_READ, .offset = (uint64_t)b * BLOCK, .len = IO_BLOCKS * BLOCK, .buf = r->buf,
						   .user = r };

		r->op = PV_BLKFRONT_READ;
		r->first = b;
		r->n = IO_BLOCKS;
		assert_int_equal(pv_blkfront_queue(front, 0, &io), 0);
		assert_int_equal(pv_blkfront_submit(front), 0);
		r->out = true;
		asked++;
		drain();
	}
}

/* ---- what happens to it ---- */

/* `pvio backend VERB blkback`, with the I/O going on. Returns the longest time without an answer, in us. */
static uint64_t replace_blkback(const char *verb)
{
	uint64_t end = stream_us() + PATIENCE_MS * 1000ull;
	pid_t pid;
	int status;

	pause_us = 0;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(pvio("backend %s blkback", verb));
	while (waitpid(pid, &status, WNOHANG) == 0) {
		turn(true);
		assert_true(stream_us() < end);
	}
	if (status) {
		sandbox_tell();
		fail_msg("pvio backend %s blkback", verb);
	}
	run_on(DEPTH + 1); /* all of what was in flight is answered */
	return pause_us;
}

static int64_t device_number(const char *key)
{
	struct json_object *all = pvio_json("inspect g1"), *pviod = NULL, *v = NULL;
	int64_t value = -1;

	for (size_t i = 0; i < json_object_array_length(all); i++) {
		struct json_object *dev = json_object_array_get_idx(all, i);

		if (json_object_object_get_ex(dev, "type", &v) && strcmp(json_object_get_string(v), "vbd") == 0 &&
		    json_object_object_get_ex(dev, "pviod", &pviod) && json_object_object_get_ex(pviod, key, &v))
			value = json_object_get_int64(v);
	}
	json_object_put(all);
	return value;
}

static void stream_open(void)
{
	const struct pv_blkfront_config c = { .devid = XVDA, .wait_ms = 10000, .pool_pages = DEPTH * IO_BLOCKS };
	uint64_t end = stream_us() + PATIENCE_MS * 1000ull;
	char why[200];

	memset(generation, 0, sizeof(generation)); /* the disk is a new one */
	if (pv_blkfront_open(NULL, G1, &c, &front, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	while (pv_blkfront_state(front) != XenbusStateConnected) {
		assert_true(pv_blkfront_work(front) >= 0);
		assert_true(stream_us() < end);
	}
	assert_true(pv_blkfront_io_max(front) >= IO_BLOCKS * BLOCK);
	for (unsigned i = 0; i < DEPTH; i++) {
		request[i].buf = pv_blkfront_buf(front, IO_BLOCKS * BLOCK);
		assert_non_null(request[i].buf);
	}
	last_answer = stream_us();
	run_on(200);
}

static void stream_close(void)
{
	verify_all();
	print_message("%llu requests, each answered once\n", (unsigned long long)answered);
	pv_blkfront_close(front, 5000);
}

static void stream_survives(void)
{
	bool in_full = getenv("PVIO_TEST_LONG") && *getenv("PVIO_TEST_LONG");
	unsigned kills = in_full ? 100 : 5, handovers = in_full ? 20 : 5, k = 0, h = 0;
	uint64_t kill_us[100], handover_us[100];
	int64_t before;

	srand((unsigned)stream_us());
	before = device_number("connects");
	while (k < kills || h < handovers) {
		run_on(1 + (uint64_t)rand() % 500);
		if (h * kills < k * handovers || k == kills)
			handover_us[h++] = replace_blkback("handover");
		else
			kill_us[k++] = replace_blkback("restart");
	}
	run_on(500);
	assert_int_equal(device_number("adoptions"), kills + handovers);
	assert_int_equal(device_number("connects"), before);
	tell_pauses("kills", "an answer", kill_us, kills);
	tell_pauses("handovers", "an answer", handover_us, handovers);
}

/* ---- a blkback that pviod starts, and starts again ---- */

static pid_t hub, pviod;

static int64_t blkback_number(const char *key)
{
	struct json_object *all = pvio_json("backend list"), *v = NULL;
	int64_t value = 0;

	if (json_object_array_length(all) == 1 && json_object_object_get_ex(json_object_array_get_idx(all, 0), key, &v))
		value = json_object_get_int64(v);
	json_object_put(all);
	return value;
}

/* Start a program, and wait until it says that it is ready. */
static pid_t start(const char *name, const char *const *args)
{
	uint64_t end = stream_us() + PATIENCE_MS * 1000ull;
	pid_t pid = rig_spawn(name, args, rig.log);
	char ready[40];

	snprintf(ready, sizeof(ready), "%s: ready", name);
	while (!rig_log_count(ready)) {
		assert_true(stream_us() < end);
		usleep(1000);
	}
	return pid;
}

static int supervised_up(void **state)
{
	uint64_t end = stream_us() + PATIENCE_MS * 1000ull;
	char path[80], command[450];

	(void)state;
	sandbox_begin();
	snprintf(path, sizeof(path), "%s/pviod.log", dir);
	rig.log = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	snprintf(command, sizeof(command), "%s/pvio-blkback --workers 1", bin);
	hub = start("pvio-hub", NULL);
	pviod = start("pviod", (const char *const[]){ "--backend", command, NULL });
	while (!blkback_number("registered"))
		assert_true(stream_us() < end);
	return pvio("guest create g1");
}

static int supervised_down(void **state)
{
	int status;

	(void)state;
#ifdef XENBUS_PORT_H
	port_down();
#endif
	kill(pviod, SIGTERM); /* it ends its blkback before */
	waitpid(pviod, &status, 0);
	kill(hub, SIGTERM);
	waitpid(hub, NULL, 0);
	close(rig.log);
	return status ? status : sandbox_end();
}

/* A bare SIGKILL for the one that serves: nobody but pviod starts another. Returns the longest time without an answer, in us. */
static uint64_t kill_blkback(void)
{
	static int64_t last;
	uint64_t end = stream_us() + PATIENCE_MS * 1000ull;
	int64_t pid;

	do {
		run_on(1 + (uint64_t)rand() % 200);
		pid = blkback_number("registered") ? blkback_number("pid") : 0;
		assert_true(stream_us() < end);
	} while (pid <= 1 || pid == last);
	last = pid;
	run_on(DEPTH + 1);
	pause_us = 0;
	assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
	run_on(DEPTH + 1); /* no more than what was in flight can be the dead one's */
	return pause_us;
}

/* The pauses grow: each that was started lasted for less than pviod calls calm, so that it waits longer before the next. */
static void stream_survives_kills(void)
{
	enum { KILLS = 5 };
	uint64_t us[KILLS];
	int64_t before;

	srand((unsigned)stream_us());
	before = device_number("connects");
	for (unsigned k = 0; k < KILLS; k++)
		us[k] = kill_blkback();
	run_on(500);
	assert_int_equal(device_number("adoptions"), KILLS);
	assert_int_equal(device_number("connects"), before);
	assert_int_equal(blkback_number("restarts"), KILLS);
	assert_int_equal(blkback_number("supervised"), true);
	tell_pauses("kills of a supervised one", "an answer", us, KILLS);
}

#endif
