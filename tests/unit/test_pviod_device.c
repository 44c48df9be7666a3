/* test_pviod_device.c - the table of a device's states: sound in itself, and the same as in dom0-tools/README.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "dom0-tools/pviod.h"

static const char *const events[EV_COUNT] = {
	[EV_PREPARED] = "prepared", [EV_REFUSED] = "refused", [EV_SERVED] = "served", [EV_FAILED] = "failed", [EV_UPDATED] = "updated",
	[EV_DISCONNECTED] = "disconnected", [EV_REMOVED] = "removed", [EV_ANEW] = "anew", [EV_CHOICE] = "choice", [EV_CHANGED] = "changed",
	[EV_CLOSING] = "closing", [EV_CLOSED] = "closed", [EV_DIED] = "died", [EV_MISDEED] = "misdeed", [EV_LOST] = "lost",
	[EV_BACK] = "back", [EV_BROKEN] = "broken", [EV_DETACH] = "detach", [EV_FORCE] = "force",
};

static enum dev_state next_of(enum dev_state s, enum dev_event ev)
{
	enum dev_state next;

	return device_rule(s, ev, &next) ? next : s;
}

static void every_state_is_reached_from_new(void **state)
{
	bool seen[DEV_STATES] = { [DEV_NEW] = true };

	(void)state;
	for (int round = 0; round < DEV_STATES; round++)
		for (enum dev_state s = DEV_NEW; s < DEV_STATES; s++)
			for (enum dev_event ev = EV_NONE; seen[s] && ev < EV_COUNT; ev++)
				seen[next_of(s, ev)] = true;
	for (enum dev_state s = DEV_NEW; s < DEV_STATES; s++)
		if (!seen[s])
			fail_msg("%s cannot be reached", device_state_inner(s));
}

/* By force, and with a backend that is lost or answers, every device goes: no guest has a part in it. */
static void force_ends_every_state(void **state)
{
	(void)state;
	for (enum dev_state s = DEV_NEW; s < DEV_GONE; s++) {
		enum dev_state t = next_of(s, EV_FORCE);

		assert_true(t == DEV_REMOVING || t == DEV_GONE);
		assert_int_equal(next_of(DEV_REMOVING, EV_REMOVED), DEV_GONE);
		assert_int_equal(next_of(DEV_REMOVING, EV_LOST), DEV_GONE);
	}
}

/* A misdeed never lets a device go on being served, and never ends one that dom0 did not detach. */
static void misdeed_ends_service_and_nothing_else(void **state)
{
	(void)state;
	for (enum dev_state s = DEV_OFFERED; s < DEV_DETACHING; s++) {
		enum dev_state t = next_of(s, EV_MISDEED);

		assert_true(t == DEV_BREAKING || t == DEV_BROKEN);
	}
}

/* Nothing that a guest writes, or a backend says, revives a broken device. */
static void broken_is_left_by_detach_alone(void **state)
{
	(void)state;
	for (enum dev_event ev = EV_NONE; ev < EV_COUNT; ev++)
		assert_true(next_of(DEV_BROKEN, ev) == DEV_BROKEN || ev == EV_DETACH || ev == EV_FORCE);
}

/* Where an answer of the backend is awaited, its death is an answer too; else a device would hang for ever. */
static void lost_backend_ends_every_wait_for_it(void **state)
{
	static const enum dev_state waiting[] = { DEV_NEW, DEV_CONNECTING, DEV_CLOSING, DEV_PREPARING, DEV_BREAKING, DEV_STOPPING, DEV_REMOVING };

	(void)state;
	for (size_t i = 0; i < sizeof(waiting) / sizeof(waiting[0]); i++)
		assert_int_not_equal(next_of(waiting[i], EV_LOST), waiting[i]);
}

static void gone_is_the_end(void **state)
{
	(void)state;
	for (enum dev_event ev = EV_NONE; ev < EV_COUNT; ev++)
		assert_int_equal(next_of(DEV_GONE, ev), DEV_GONE);
}

static int find_name(const char *const *names, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (names[i] && strcmp(names[i], name) == 0)
			return i;
	fail_msg("README.md names '%s', which does not exist", name);
	return -1;
}

/* Rows "| state | event, event | next |" of the README, and nothing beside them. */
static void readme_has_the_same_table(void **state)
{
	const char *names[DEV_STATES] = { NULL };
	bool told[DEV_STATES][EV_COUNT] = { { false } };
	FILE *f = fopen("dom0-tools/README.md", "r");
	char line[512], from[32], evs[200], to[32];
	int rows = 0;

	(void)state;
	assert_non_null(f);
	for (enum dev_state s = DEV_NEW; s < DEV_STATES; s++)
		names[s] = device_state_inner(s);
	while (fgets(line, sizeof(line), f)) {
		char *save, *ev;
		int s, t;

		if (sscanf(line, "| `%31[a-z]` | %199[a-z, ] | `%31[a-z]` |", from, evs, to) != 3)
			continue;
		rows++;
		s = find_name(names, DEV_STATES, from);
		t = find_name(names, DEV_STATES, to);
		for (ev = strtok_r(evs, ", ", &save); ev; ev = strtok_r(NULL, ", ", &save)) {
			int e = find_name(events, EV_COUNT, ev);
			enum dev_state next = DEV_NONE;

			if (!device_rule(s, e, &next) || (int)next != t)
				fail_msg("README.md: %s, %s -> %s; the table says %s", from, ev, to, device_state_inner(next));
			told[s][e] = true;
		}
	}
	fclose(f);
	assert_true(rows > 20);
	for (enum dev_state s = DEV_NEW; s < DEV_STATES; s++)
		for (enum dev_event e = EV_NONE; e < EV_COUNT; e++) {
			enum dev_state next;

			if (device_rule(s, e, &next) && !told[s][e])
				fail_msg("README.md does not tell: %s, %s -> %s", device_state_inner(s), events[e], device_state_inner(next));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_state_is_reached_from_new),
		cmocka_unit_test(force_ends_every_state),
		cmocka_unit_test(misdeed_ends_service_and_nothing_else),
		cmocka_unit_test(broken_is_left_by_detach_alone),
		cmocka_unit_test(lost_backend_ends_every_wait_for_it),
		cmocka_unit_test(gone_is_the_end),
		cmocka_unit_test(readme_has_the_same_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
