/* What is captured is what passed, whoever reads it and however slowly; the guests never wait for it. Each with one worker and with two. */
#include "net_rig.h"
#include <endian.h>
#include <sys/un.h>

enum { LARGE = 60000, CAPTURES = 16 };

/* `pvio capture`'s part. */
struct reader {
	int fd;
	uint8_t *file;
	size_t len;
	unsigned packets, in, out; /* found in the file ... */
	uint64_t dropped;
	bool whole; /* ... and its last block */
};

static uint8_t sent[65536];

static uint32_t word(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

/* Ask for a capture. Returns the answer's code; r->fd is connected if that is 0. more: JSON members, each with a comma in front. */
static int begin(struct reader *r, const struct net_guest *g, const char *more)
{
	char path[80], params[300];
	struct pv_device_id id = guest_device(g);
	struct json_object *o = pv_device_id_to_json(&id);
	int listener, ret;

	*r = (struct reader){ .fd = -1 };
	snprintf(path, sizeof(path), "%s/capture", rig.dir);
	listener = pv_rpc_listen(path);
	assert_true(listener >= 0);
	snprintf(params, sizeof(params), "{\"path\":\"%s\",\"name\":\"g/vif0\"%s}", path, more);
	json_object_object_add(o, "what", json_object_new_string("capture"));
	json_object_object_add(o, "params", json_tokener_parse(params));
	ret = rig_call("ask", o);
	if (ret == 0)
		r->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(ret < 0 || r->fd >= 0);
	close(listener);
	unlink(path);
	return ret;
}

static void take_block(struct reader *r, const uint8_t *block, uint32_t len)
{
	const uint8_t *end = block + len - 4;

	assert_int_equal(word(end), len);
	if (word(block) == 6) {
		r->packets++;
		block += 28 + (word(block + 20) + 3) / 4 * 4;
		assert_int_equal(word(block), 2 | 4 << 16);
		r->in += word(block + 4) == 1;
		r->out += word(block + 4) == 2;
	} else if (word(block) == 5) {
		for (block += 20; block < end; block += 4 + (word(block) >> 16))
			if ((word(block) & 0xffff) == 5)
				r->dropped = word(block + 4) | (uint64_t)word(block + 8) << 32;
		r->whole = true;
	}
}

/* All until the backend ends it. */
static void finish(struct reader *r)
{
	size_t room = 1 << 16;
	ssize_t n;

	r->file = malloc(room);
	while ((n = read(r->fd, r->file + r->len, room - r->len)) > 0) {
		r->len += (size_t)n;
		if (r->len == room)
			r->file = realloc(r->file, room *= 2);
	}
	assert_int_equal(n, 0);
	close(r->fd);
	for (size_t at = 0; at < r->len; at += word(r->file + at + 4)) {
		assert_true(r->len - at >= 12 && word(r->file + at + 4) >= 12 && word(r->file + at + 4) <= r->len - at);
		take_block(r, r->file + at, word(r->file + at + 4));
	}
	assert_true(r->whole);
	assert_int_equal(r->in + r->out, r->packets);
}

/* As Ctrl-C does. */
static void end(struct reader *r)
{
	shutdown(r->fd, SHUT_WR);
	finish(r);
}

/* The nth packet of the file. */
static const uint8_t *packet(const struct reader *r, unsigned n, uint32_t *cap, uint32_t *len)
{
	for (size_t at = 0;; at += word(r->file + at + 4)) {
		if (word(r->file + at) != 6 || n--)
			continue;
		*cap = word(r->file + at + 20);
		*len = word(r->file + at + 24);
		return r->file + at + 28;
	}
}

static bool is_captured(const struct net_guest *g)
{
	struct json_object *v = NULL;

	assert_int_equal(guest_call(g, "stats"), 0);
	assert_true(json_object_object_get_ex(rig_last.result, "capture", &v));
	return v != NULL;
}

static void capture_ends(const struct net_guest *g)
{
	int64_t patience = rig_ms() + PATIENCE;

	while (is_captured(g)) {
		assert_true(rig_ms() < patience);
		usleep(1000);
	}
}

static void packets_are_shown_whole(void **state)
{
	static const unsigned sizes[] = { 14, 60, 1514, 4096, 4097, LARGE };
	uint32_t cap, len;
	struct reader r;

	(void)state;
	assert_int_equal(begin(&r, &peers.a, ""), 0);
	for (unsigned i = 0; i < 6; i++)
		exchange(&peers.a, &peers.b, sizes[i], i);
	exchange(&peers.b, &peers.a, 100, 9);
	end(&r);
	assert_int_equal(r.out, 6);
	assert_int_equal(r.in, 1);
	assert_int_equal(r.dropped, 0);
	for (unsigned i = 0, found = 0; i < 7; i++) { /* with two workers the last may come earlier */
		const uint8_t *p = packet(&r, i, &cap, &len);

		assert_int_equal(cap, len);
		if (len == 100)
			continue;
		frame(sent, peers.b.mac, peers.a.mac, sizes[found], found);
		assert_int_equal(len, sizes[found++]);
		assert_memory_equal(p, sent, len);
	}
	free(r.file);
	rig_check();
}

static void wishes_are_followed(void **state)
{
	uint32_t cap, len;
	struct reader r;

	(void)state;
	assert_int_equal(begin(&r, &peers.a, ",\"snaplen\":33,\"count\":3,\"direction\":\"to\""), 0);
	for (unsigned i = 0; i < 10; i++) {
		exchange(&peers.a, &peers.b, 200, i);
		exchange(&peers.b, &peers.a, 200, i);
	}
	finish(&r); /* it ends by itself */
	assert_int_equal(r.in, 3);
	assert_int_equal(r.out, 0);
	frame(sent, peers.a.mac, peers.b.mac, 200, 2);
	assert_memory_equal(packet(&r, 2, &cap, &len), sent, 33);
	assert_int_equal(cap, 33);
	assert_int_equal(len, 200);
	free(r.file);
	rig_check();
}

static void slow_reader_costs_packets_of_the_capture_alone(void **state)
{
	enum { PACKETS = 300 }; /* more than fit into all that may wait */
	struct reader r;

	(void)state;
	assert_int_equal(begin(&r, &peers.a, ",\"direction\":\"from\""), 0);
	for (unsigned i = 0; i < PACKETS; i++)
		exchange(&peers.a, &peers.b, LARGE, i);
	end(&r);
	assert_true(r.packets > 20 && r.dropped > 50);
	assert_int_equal(r.packets + r.dropped, PACKETS);
	for (unsigned i = 0; i < r.packets; i++) {
		uint32_t cap, len;
		const uint8_t *p = packet(&r, i, &cap, &len);

		frame(sent, peers.b.mac, peers.a.mac, LARGE, p[14] - (uint8_t)(14 * 31));
		assert_memory_equal(p, sent, LARGE);
	}
	free(r.file);
	rig_check();
}

static void reader_that_vanishes_ends_it(void **state)
{
	struct reader r;

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(begin(&r, &peers.a, ""), 0);
		for (unsigned n = 0; n < i; n++)
			exchange(&peers.a, &peers.b, LARGE, n);
		close(r.fd);
		capture_ends(&peers.a);
	}
	rig_check();
}

static void capture_outlives_the_connection_but_not_the_vif(void **state)
{
	struct net_guest c = { 0 };
	struct reader r;

	(void)state;
	guest_up(&c, 1, ALL_FEATURES, NULL);
	assert_int_equal(begin(&r, &c, ""), 0);
	exchange(&c, &peers.a, 100, 1);
	assert_int_equal(guest_call(&c, "disconnect"), 0);
	guest_again(&c, NULL);
	exchange(&c, &peers.a, 100, 2);
	guest_down(&c);
	finish(&r);
	assert_int_equal(r.out, 2);
	free(r.file);
	rig_check();
}

static void captures_are_bounded(void **state)
{
	struct net_guest c[CAPTURES + 1] = { 0 };
	struct reader r[CAPTURES + 1];

	(void)state;
	for (unsigned i = 0; i <= CAPTURES; i++) {
		guest_open(&c[i], 1, 0);
		assert_int_equal(guest_prepare(&c[i], NULL), 0); /* not connected yet: that is no reason to refuse */
		assert_int_equal(begin(&r[i], &c[i], ""), i < CAPTURES ? 0 : -EBUSY);
	}
	assert_int_equal(begin(&r[CAPTURES], &c[0], ""), -EBUSY);
	for (unsigned i = 0; i < CAPTURES; i++) {
		end(&r[i]);
		free(r[i].file);
	}
	assert_int_equal(begin(&r[CAPTURES], &c[0], ""), 0);
	for (unsigned i = 0; i <= CAPTURES; i++)
		guest_down(&c[i]);
	finish(&r[CAPTURES]);
	free(r[CAPTURES].file);
	rig_check();
}

static void nonsense_is_refused(void **state)
{
	static const char *const wrong[] = {
		",\"snaplen\":0", ",\"snaplen\":-1", ",\"count\":-5", ",\"direction\":\"up\"", ",\"path\":\"/nowhere/at/all\"", ",\"path\":7",
	};
	struct pv_device_id id = guest_device(&peers.a);
	struct json_object *o = pv_device_id_to_json(&id);
	struct reader r;

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_true(begin(&r, &peers.a, wrong[i]) < 0);
	json_object_object_add(o, "what", json_object_new_string("levitation"));
	assert_int_equal(rig_call("ask", o), -ENOTSUP);
	assert_non_null(strstr(rig_last.message, "levitation"));
	assert_false(is_captured(&peers.a));
	rig_check();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_are_shown_whole),
		cmocka_unit_test(wishes_are_followed),
		cmocka_unit_test(slow_reader_costs_packets_of_the_capture_alone),
		cmocka_unit_test(reader_that_vanishes_ends_it),
		cmocka_unit_test(capture_outlives_the_connection_but_not_the_vif),
		cmocka_unit_test(captures_are_bounded),
		cmocka_unit_test(nonsense_is_refused),
	};

	return rig_run_group_twice(tests);
}
