/* The contract of the port between two domains that know nothing of each other's memory: an agent is the one, the tests are the other.
 *
 *	test_hyper_pair				both, on a loopback hub of their own: the agent is a guest, the tests are domain 0
 *	test_hyper_pair agent SPEC DOMID	the agent, for a peer that is DOMID: prints `agent: GREF PORT` and serves until told to end
 *	test_hyper_pair with SPEC DOMID [GREF PORT]
 *						the tests, with the agent that is DOMID; where to find it is told by the noxs pointer if not here
 *
 * They talk through a page that the agent shares: a call, then an event; its results, then an event. test_hyper is every sentence of
 * the contract; here is what only two domains can show, and all that needs a map in domains that are not PV.
 */
#include "loopback.h"
#include <errno.h>
#include <poll.h>
#include <pvio/noxs.h>
#include <xen/grant_table.h>

enum op { OP_END, OP_SHARE, OP_UNSHARE, OP_POKE, OP_PEEK, OP_ALLOC, OP_BIND, OP_UNBIND, OP_NOTIFY, OP_WAIT, OP_MAP, OP_UNMAP, OP_COPY, OP_SHARER, OP_SLAY };
enum { PAGES = 600, WAIT_MS = 20000 };

/* The page between them. Each end writes its own half, its number last. */
struct talk {
	uint32_t asked, op, in[8];
	uint32_t reserved[54];
	uint32_t answered, out[PAGES];
	int32_t result;
};
_Static_assert(sizeof(struct talk) <= 4096, "one page");

static struct pv_hyper *hyper;
static struct talk *talk;
static uint32_t talk_port;
static int peer;

static bool readable(int ms)
{
	struct pollfd p = { .fd = pv_evt_fd(hyper), .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

static uint8_t pending[1 << 17]; /* [port]: events that came while another was waited for */

/* Wait for an event of a port. Returns 0 or -ETIMEDOUT. */
static int wait_event(uint32_t port, int ms)
{
	uint32_t got[16];

	for (;;) {
		int n = pv_evt_pending(hyper, got, 16);

		for (int i = 0; i < n; i++)
			pending[got[i]] = 1;
		if (n > 0)
			pv_evt_unmask(hyper, got, n);
		if (pending[port]) {
			pending[port] = 0;
			return 0;
		}
		if (!readable(ms))
			return -ETIMEDOUT;
	}
}

/* ---- the agent ---- */

static struct {
	uint8_t *shared, *mapped; /* the last share and map */
	uint32_t shared_pages;
	pid_t sharer;
} agent;

/* A process that shares a page whose notice goes through the peer's port, and waits to be killed. */
static int start_sharer(uint32_t peer_port, uint32_t *gref)
{
	struct pv_gnt_notice notice = { .offset = 8 };
	const char *spec = hyper->ops->name;
	int domid = hyper->domid, fds[2];
	struct pv_hyper *h;
	void *p;

	if (pipe(fds))
		return -errno;
	agent.sharer = fork();
	if (!agent.sharer) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (pv_hyper_open(spec, domid, &h, NULL, 0))
			_exit(1);
		notice.port = pv_evt_bind(h, peer, peer_port);
		if ((int)notice.port < 0 || pv_gnt_share(h, peer, 1, true, &notice, gref, &p))
			_exit(1);
		((uint8_t *)p)[8] = 1;
		if (write(fds[1], gref, sizeof(*gref)) != sizeof(*gref))
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	int n = read(fds[0], gref, sizeof(*gref));

	close(fds[0]);
	return n == sizeof(*gref) ? 0 : -EIO;
}

static int serve(uint32_t op, const uint32_t *in, uint32_t *out)
{
	struct pv_gnt_copy copy = { .from = { .gref = in[0], .domid = peer }, .len = 4, .to.local = &out[0] };
	void *addr;
	int rc;

	switch (op) {
	case OP_SHARE: /* pages, writable */
		rc = pv_gnt_share(hyper, peer, in[0], in[1], NULL, out, &addr);
		if (!rc) {
			agent.shared = addr;
			agent.shared_pages = in[0];
		}
		return rc;
	case OP_UNSHARE:
		return pv_gnt_unshare(hyper, agent.shared, agent.shared_pages);
	case OP_POKE: /* mapped?, word, value */
		((volatile uint32_t *)(in[0] ? agent.mapped : agent.shared))[in[1]] = in[2];
		return 0;
	case OP_PEEK: /* mapped?, word */
		out[0] = ((volatile uint32_t *)(in[0] ? agent.mapped : agent.shared))[in[1]];
		return 0;
	case OP_ALLOC:
		return pv_evt_alloc(hyper, peer);
	case OP_BIND: /* port */
		return pv_evt_bind(hyper, peer, in[0]);
	case OP_UNBIND:
		return pv_evt_unbind(hyper, in[0]);
	case OP_NOTIFY:
		return pv_evt_notify(hyper, in[0]);
	case OP_WAIT:
		return wait_event(in[0], WAIT_MS);
	case OP_MAP: /* gref, writable */
		rc = pv_gnt_map(hyper, peer, &in[0], 1, in[1], NULL, &addr);
		agent.mapped = rc ? NULL : addr;
		return rc;
	case OP_UNMAP:
		return pv_gnt_unmap(hyper, agent.mapped, 1);
	case OP_COPY: /* gref: its first word */
		rc = pv_gnt_copy(hyper, &copy, 1);
		return rc ? rc : copy.status;
	case OP_SHARER: /* port of the peer */
		return start_sharer(in[0], out);
	case OP_SLAY:
		kill(agent.sharer, SIGKILL);
		waitpid(agent.sharer, NULL, 0);
		return 0;
	}
	return 0;
}

static int agent_main(const char *spec, int domid, int of, int say)
{
	char why[200] = "", line[64];
	void *addr;
	uint32_t gref, done = 0, op = OP_SHARE;
	int port;

	peer = of;
	if (pv_hyper_open(spec, domid, &hyper, why, sizeof(why)) || pv_gnt_share(hyper, peer, 1, true, NULL, &gref, &addr) ||
	    (port = pv_evt_alloc(hyper, peer)) < 0) {
		fprintf(stderr, "agent: %s%s\n", why, pv_hyper_error(hyper));
		return 1;
	}
	talk = addr;
	talk_port = port;
	snprintf(line, sizeof(line), "agent: %u %u\n", gref, talk_port);
	if (write(say, line, strlen(line)) < 0)
		return 1;
	while (op != OP_END) {
		uint32_t asked;

		if (wait_event(talk_port, -1))
			return 1;
		asked = __atomic_load_n(&talk->asked, __ATOMIC_ACQUIRE); /* pairs with call() */
		if (asked == done)
			continue;
		op = talk->op;
		talk->result = serve(op, talk->in, talk->out);
		done = asked;
		__atomic_store_n(&talk->answered, done, __ATOMIC_RELEASE); /* pairs with call() */
		pv_evt_notify(hyper, talk_port);
	}
	pv_hyper_close(hyper);
	return 0;
}

/* ---- the tests' end ---- */

static int call(enum op op, uint32_t a, uint32_t b, uint32_t c)
{
	uint32_t nr = talk->asked + 1;

	talk->op = op;
	talk->in[0] = a;
	talk->in[1] = b;
	talk->in[2] = c;
	__atomic_store_n(&talk->asked, nr, __ATOMIC_RELEASE); /* pairs with agent_main() */
	assert_int_equal(pv_evt_notify(hyper, talk_port), 0);
	while (__atomic_load_n(&talk->answered, __ATOMIC_ACQUIRE) != nr) /* pairs with agent_main() */
		assert_int_equal(wait_event(talk_port, 60000), 0);
	return talk->result;
}

static void *map(const uint32_t *grefs, unsigned n, bool writable)
{
	void *addr;

	if (pv_gnt_map(hyper, peer, grefs, n, writable, NULL, &addr))
		fail_msg("%s", pv_hyper_error(hyper));
	return addr;
}

static void refused(uint32_t gref, bool writable)
{
	void *addr;

	assert_int_equal(pv_gnt_map(hyper, peer, &gref, 1, writable, NULL, &addr), -EACCES);
	assert_true(strlen(pv_hyper_error(hyper)) > 0);
}

/* Refused from a moment after the last unmap on. */
static void gone(uint32_t gref)
{
	void *addr;

	for (int i = 0; i < 1000 && !pv_gnt_map(hyper, peer, &gref, 1, false, NULL, &addr); i++) {
		assert_int_equal(pv_gnt_unmap(hyper, addr, 1), 0);
		usleep(10000);
	}
	refused(gref, false);
}

static int16_t copy_word(uint32_t gref, uint32_t *word, bool to)
{
	struct pv_gnt_end far = { .gref = gref, .domid = peer }, near = { .local = word };
	struct pv_gnt_copy op = { .from = to ? near : far, .to = to ? far : near, .len = sizeof(*word) };

	assert_int_equal(pv_gnt_copy(hyper, &op, 1), 0);
	return op.status;
}

static void map_is_the_same_memory(void **state)
{
	uint32_t g[3], *m;

	(void)state;
	assert_int_equal(call(OP_SHARE, 3, true, 0), 0);
	memcpy(g, talk->out, sizeof(g));
	m = map(g, 3, true);
	for (int i = 0; i < 3 * 1024; i++)
		assert_int_equal(m[i], 0);
	call(OP_POKE, 0, 2 * 1024 + 7, 0x1234);
	assert_int_equal(m[2 * 1024 + 7], 0x1234);
	m[1024] = 0x5678;
	call(OP_PEEK, 0, 1024, 0);
	assert_int_equal(talk->out[0], 0x5678);
	assert_int_equal(pv_gnt_unmap(hyper, m, 3), 0);
	assert_int_equal(call(OP_UNSHARE, 0, 0, 0), 0);
	gone(g[0]);
}

static void map_hundreds(void **state)
{
	uint32_t g[PAGES], keep, *m;
	void *addr;

	(void)state;
	assert_int_equal(call(OP_SHARE, PAGES, true, 0), 0);
	memcpy(g, talk->out, sizeof(g));
	for (int i = 0; i < PAGES; i += 50)
		call(OP_POKE, 0, i * 1024, i + 1);
	keep = g[PAGES - 1];
	g[PAGES - 1] = 0xfffffff;
	assert_int_equal(pv_gnt_map(hyper, peer, g, PAGES, true, NULL, &addr), -EACCES); /* as a whole */
	g[PAGES - 1] = keep;
	m = map(g, PAGES, true);
	for (int i = 0; i < PAGES; i += 50)
		assert_int_equal(m[i * 1024], i + 1);
	assert_int_equal(pv_gnt_unmap(hyper, m, PAGES), 0);
	assert_int_equal(call(OP_UNSHARE, 0, 0, 0), 0);
}

static void read_only_is_read_only(void **state)
{
	uint32_t g, *m, word = 1;

	(void)state;
	assert_int_equal(call(OP_SHARE, 1, false, 0), 0);
	g = talk->out[0];
	call(OP_POKE, 0, 0, 99);
	refused(g, true);
	m = map(&g, 1, false);
	assert_int_equal(m[0], 99);
	assert_true(copy_word(g, &word, true) < 0);
	assert_int_equal(copy_word(g, &word, false), GNTST_okay);
	assert_int_equal(word, 99);
	assert_int_equal(m[0], 99);
	assert_int_equal(pv_gnt_unmap(hyper, m, 1), 0);
	assert_int_equal(call(OP_UNSHARE, 0, 0, 0), 0);
}

static void copy_both_ways_in_a_batch(void **state)
{
	uint32_t g[8];
	uint8_t buf[8][100];
	struct pv_gnt_copy op[8];

	(void)state;
	assert_int_equal(call(OP_SHARE, 8, true, 0), 0);
	memcpy(g, talk->out, sizeof(g));
	memset(buf, 0x77, sizeof(buf));
	for (int i = 0; i < 8; i++)
		call(OP_POKE, 0, i * 1024 + 1, 0x01010101 * i);
	for (int i = 0; i < 8; i++)
		op[i] = (struct pv_gnt_copy){ .from = { .gref = g[i], .domid = peer, .offset = 4 }, .to.local = buf[i], .len = 4 };
	op[2].from.gref = 0xffffff0;
	op[3].from.offset = 4093;
	op[4].from.domid = 9999;
	op[5] = (struct pv_gnt_copy){ .from.local = buf[5], .to = { .gref = g[5], .domid = peer, .offset = 8 }, .len = 100 };
	op[6] = (struct pv_gnt_copy){ .from = { .gref = g[0], .domid = peer }, .to = { .gref = g[6], .domid = peer, .offset = 0 }, .len = 4096 };
	assert_int_equal(pv_gnt_copy(hyper, op, 8), 0);
	for (int i = 0; i < 8; i++)
		assert_true(i >= 2 && i <= 4 ? op[i].status < 0 : op[i].status == GNTST_okay);
	assert_int_equal(buf[1][3], 1);
	assert_int_equal(buf[7][0], 7);
	for (int i = 2; i <= 4; i++)
		assert_int_equal(buf[i][0], 0x77);
	call(OP_PEEK, 0, 5 * 1024 + 26, 0);
	assert_int_equal(talk->out[0], 0x77777777);
	call(OP_PEEK, 0, 5 * 1024 + 27, 0);
	assert_int_equal(talk->out[0], 0);
	call(OP_PEEK, 0, 6 * 1024 + 1, 0);
	assert_int_equal(talk->out[0], 0); /* page 0's */
	assert_int_equal(call(OP_UNSHARE, 0, 0, 0), 0);
	assert_true(copy_word(g[0], (uint32_t *)buf, false) < 0);
}

static void revoked_while_mapped(void **state)
{
	uint32_t g, *m, word;

	(void)state;
	assert_int_equal(call(OP_SHARE, 1, true, 0), 0);
	g = talk->out[0];
	call(OP_POKE, 0, 0, 5);
	m = map(&g, 1, true);
	assert_int_equal(call(OP_UNSHARE, 0, 0, 0), 0);
	for (int i = 0; i < 5; i++) { /* the page is not given to anybody else while it is mapped */
		assert_int_equal(call(OP_SHARE, 3, true, 0), 0);
		for (int k = 0; k < 3; k++)
			assert_int_not_equal(talk->out[k], g);
		assert_int_equal(call(OP_UNSHARE, 0, 0, 0), 0);
	}
	assert_int_equal(m[0], 5);
	m[0] = 6;
	assert_int_equal(m[0], 6);
	assert_int_equal(pv_gnt_unmap(hyper, m, 1), 0);
	gone(g);
	assert_true(copy_word(g, &word, false) < 0);
}

static void the_other_way_round(void **state)
{
	uint32_t g;
	volatile uint32_t *p;
	void *addr;

	(void)state;
	assert_int_equal(pv_gnt_share(hyper, peer, 1, true, NULL, &g, &addr), 0);
	p = addr;
	p[0] = 41;
	assert_int_equal(call(OP_COPY, g, 0, 0), GNTST_okay);
	assert_int_equal(talk->out[0], 41);
	assert_int_equal(call(OP_MAP, g, true, 0), 0);
	call(OP_POKE, 1, 9, 42);
	assert_int_equal(p[9], 42);
	assert_int_equal(call(OP_UNMAP, 0, 0, 0), 0);
	assert_int_equal(pv_gnt_unshare(hyper, addr, 1), 0);
	assert_int_not_equal(call(OP_COPY, g, 0, 0), GNTST_okay);
	assert_int_equal(pv_gnt_share(hyper, 77, 1, true, NULL, &g, &addr), 0); /* granted to a third domain */
	assert_int_equal(call(OP_MAP, g, false, 0), -EACCES);
	assert_int_not_equal(call(OP_COPY, g, 0, 0), GNTST_okay);
	assert_int_equal(pv_gnt_unshare(hyper, addr, 1), 0);
}

static void events_both_ways(void **state)
{
	int p = call(OP_ALLOC, 0, 0, 0), q;

	(void)state;
	assert_true(p > 0);
	q = pv_evt_bind(hyper, peer, p);
	assert_true(q > 0);
	assert_int_equal(wait_event(q, WAIT_MS), 0); /* at once */
	assert_true(pv_evt_bind(hyper, peer, p) < 0); /* taken */
	call(OP_NOTIFY, p, 0, 0);
	assert_int_equal(wait_event(q, WAIT_MS), 0);
	pv_evt_notify(hyper, q);
	assert_int_equal(call(OP_WAIT, p, 0, 0), 0);
	assert_int_equal(pv_evt_unbind(hyper, q), 0); /* it waits for us again */
	assert_int_equal(call(OP_NOTIFY, p, 0, 0), 0);
	q = pv_evt_bind(hyper, peer, p);
	assert_true(q > 0);
	assert_int_equal(wait_event(q, WAIT_MS), 0);
	assert_int_equal(call(OP_UNBIND, p, 0, 0), 0);
	p = call(OP_BIND, q, 0, 0); /* and ours, for it */
	assert_true(p > 0);
	assert_int_equal(call(OP_WAIT, p, 0, 0), 0);
	pv_evt_notify(hyper, q);
	assert_int_equal(call(OP_WAIT, p, 0, 0), 0);
	call(OP_UNBIND, p, 0, 0);
	assert_int_equal(pv_evt_unbind(hyper, q), 0);
}

/* Our process maps and dies: the agent hears of it, and the next process finds port and page as before. */
static void notice_when_mapper_is_killed(void **state)
{
	int port = call(OP_ALLOC, 0, 0, 0), domid = hyper->domid;
	uint32_t g;

	(void)state;
	assert_int_equal(call(OP_SHARE, 1, true, 0), 0);
	g = talk->out[0];
	for (int round = 0; round < 3; round++) {
		struct pv_gnt_notice notice = { .offset = 8 };
		struct pv_hyper *h;
		int ready[2], ok = 0;
		pid_t pid;
		void *m;

		call(OP_POKE, 0, 2, 1);
		assert_int_equal(pipe(ready), 0);
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (!pv_hyper_open(hyper->ops->name, domid, &h, NULL, 0)) {
				notice.port = pv_evt_bind(h, peer, port);
				ok = (int)notice.port > 0 && !pv_gnt_map(h, peer, &g, 1, true, &notice, &m);
			}
			if (write(ready[1], &ok, sizeof(ok)) != sizeof(ok))
				_exit(1);
			for (;;)
				pause();
		}
		assert_int_equal(read(ready[0], &ok, sizeof(ok)), sizeof(ok));
		close(ready[0]);
		close(ready[1]);
		assert_int_equal(ok, 1);
		call(OP_PEEK, 0, 2, 0);
		assert_int_equal(talk->out[0], 1);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		assert_int_equal(call(OP_WAIT, port, 0, 0), 0);
		call(OP_PEEK, 0, 2, 0);
		assert_int_equal(talk->out[0], 0);
	}
	call(OP_UNBIND, port, 0, 0);
	assert_int_equal(call(OP_UNSHARE, 0, 0, 0), 0);
}

static void notice_when_sharer_is_killed(void **state)
{
	int port = pv_evt_alloc(hyper, peer);
	volatile uint8_t *m;
	uint32_t g;

	(void)state;
	for (int round = 0; round < 3; round++) {
		assert_int_equal(call(OP_SHARER, port, 0, 0), 0);
		g = talk->out[0];
		m = map(&g, 1, true);
		assert_int_equal(m[8], 1);
		assert_int_equal(wait_event(port, 0), -ETIMEDOUT);
		assert_int_equal(call(OP_SLAY, 0, 0, 0), 0);
		assert_int_equal(wait_event(port, WAIT_MS), 0);
		assert_int_equal(m[8], 0);
		m[9] = 3; /* the page is still there */
		assert_int_equal(pv_gnt_unmap(hyper, (void *)m, 1), 0);
		gone(g);
	}
	assert_int_equal(pv_evt_unbind(hyper, port), 0);
}

/* ---- the worlds ---- */

/* The page and port of the agent, from our noxs pointer: the guest's way, when nobody could tell it before it began. */
static int from_pointer(uint32_t *gref, uint32_t *port)
{
	struct pv_noxs_pointer p;
	int rc = -ENOENT;

	for (int i = 0; i < 6000 && (rc = pv_hyper_pointer(hyper, &p)) == -ENOENT; i++)
		usleep(10000); /* as frontends do */
	if (rc)
		fprintf(stderr, "%s\n", pv_hyper_error(hyper));
	*gref = p.gref;
	*port = p.port;
	return rc;
}

static int run(const char *spec, int domid, uint32_t gref, uint32_t port)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(map_is_the_same_memory),	cmocka_unit_test(map_hundreds),
		cmocka_unit_test(read_only_is_read_only),	cmocka_unit_test(copy_both_ways_in_a_batch),
		cmocka_unit_test(revoked_while_mapped),		cmocka_unit_test(the_other_way_round),
		cmocka_unit_test(events_both_ways),		cmocka_unit_test(notice_when_mapper_is_killed),
		cmocka_unit_test(notice_when_sharer_is_killed),
	};
	char why[200] = "";
	int failed;

	if (pv_hyper_open(spec, domid, &hyper, why, sizeof(why))) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	if (!port && from_pointer(&gref, &port))
		return 1;
	talk = map(&gref, 1, true);
	talk_port = pv_evt_bind(hyper, peer, port);
	if ((int)talk_port < 0) {
		fprintf(stderr, "%s\n", pv_hyper_error(hyper));
		return 1;
	}
	failed = cmocka_run_group_tests_name("pair", tests, NULL, NULL);
	call(OP_END, 0, 0, 0);
	pv_hyper_close(hyper);
	return failed;
}

static int on_loopback(void)
{
	char line[64] = "";
	struct pv_hyper *dom0;
	uint32_t gref, port;
	int failed, fds[2], status;
	pid_t pid;

	lb_up(NULL, NULL);
	dom0 = lb_open(0);
	peer = lb_guest(dom0, 0);
	pv_hyper_close(dom0);
	if (pipe(fds))
		return 1;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		exit(agent_main("loopback", peer, 0, fds[1]));
	}
	if (read(fds[0], line, sizeof(line) - 1) < 0 || sscanf(line, "agent: %u %u", &gref, &port) != 2)
		return 1;
	failed = run("loopback", 0, gref, port);
	waitpid(pid, &status, 0);
	lb_down();
	return failed || status;
}

int main(int argc, char **argv)
{
	if (argc == 1)
		return on_loopback();
	if (argc == 4 && !strcmp(argv[1], "agent"))
		return agent_main(argv[2], -1, atoi(argv[3]), STDOUT_FILENO);
	if ((argc == 4 || argc == 6) && !strcmp(argv[1], "with")) {
		peer = atoi(argv[3]);
		return run(argv[2], -1, argc == 6 ? strtoul(argv[4], NULL, 0) : 0, argc == 6 ? strtoul(argv[5], NULL, 0) : 0);
	}
	fprintf(stderr, "usage: test_hyper_pair [agent SPEC DOMID | with SPEC DOMID [GREF PORT]]\n");
	return 2;
}
