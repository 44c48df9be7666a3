/* test_take_once.c - XSA-155: what the peer can rewrite is read once, by the code that the compiler made of it.
 *
 * How often is byte B of a slot read? The slot is put across two pages so that B is the first byte of the second one, which is
 * closed (PROT_NONE). Each instruction that reads B faults at exactly that address; the handler counts it, opens the page and
 * steps over that one instruction; the trap behind it closes the page again. Done for each byte, this counts the reads of
 * each. A take whose copy is then checked and used, all inlined together, is where compilers have dropped the copy and read
 * the slot again. take_once.sh builds this with each compiler and level of optimization. */
#include <pvio/blk.h>
#include <pvio/net.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <cmocka.h>

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

enum { TRAP_FLAG = 0x100 };

static uint8_t *pages, *closed; /* two pages; the second of them */
static struct pv_ring ring;
static volatile unsigned reads; /* of the first byte of `closed` */

static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	const uint8_t *at = info->si_addr;

	if (at < closed || at >= closed + PV_PAGE_SIZE) {
		signal(sig, SIG_DFL); /* not ours: let it end the program */
		return;
	}
	reads += at == closed;
	mprotect(closed, PV_PAGE_SIZE, PROT_READ | PROT_WRITE);
	uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_step(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	uc->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
	mprotect(closed, PV_PAGE_SIZE, PROT_NONE);
}

/* The handlers are set here because cmocka sets its own for each test. */
static void watch(void)
{
	struct sigaction sa = { .sa_flags = SA_SIGINFO };

	sa.sa_sigaction = on_fault;
	sigaction(SIGSEGV, &sa, NULL);
	sa.sa_sigaction = on_step;
	sigaction(SIGTRAP, &sa, NULL);
	reads = 0;
	assert_int_equal(mprotect(closed, PV_PAGE_SIZE, PROT_NONE), 0);
}

static unsigned watched(void)
{
	assert_int_equal(mprotect(closed, PV_PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
	return reads;
}

static int setup(void **state)
{
	(void)state;
	pages = mmap(NULL, 2 * PV_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	closed = pages + PV_PAGE_SIZE;
	return pages == MAP_FAILED ? -1 : 0;
}

/* The watch itself must see a second read, whatever its size, or all that follows proves nothing. */
static void a_second_read_is_seen(void **state)
{
	static const struct { int offset; unsigned reads; } words[] = { { -8, 0 }, { -7, 2 }, { -1, 2 }, { 0, 2 }, { 1, 0 } };

	(void)state;
	for (unsigned i = 0; i < sizeof(words) / sizeof(*words); i++) {
		const volatile uint64_t *word = (const volatile void *)(closed + words[i].offset);

		watch();
		(void)*word;
		(void)closed[100];
		(void)*word;
		assert_int_equal(watched(), words[i].reads);
	}
}

/* ---- each take: alone, and with its copy checked and used as a driver does. The slot holds bytes 1, 2, 3 ..., and what tells how long it is */

#define TAKE(name, type, take) \
	static __attribute__((noinline)) void take_##name(void *copy) \
	{ \
		take(&ring, (type *)copy); \
	} \
	static __attribute__((noinline)) unsigned use_##name(void)

TAKE(net_tx, union pv_net_tx_slot, pv_net_tx_take)
{
	union pv_net_tx_slot slot;
	unsigned sum = 0;

	pv_net_tx_take(&ring, &slot);
	switch (slot.req.flags & (NETTXF_csum_blank | NETTXF_more_data)) {
	case NETTXF_csum_blank:
		sum = slot.req.id;
		break;
	case NETTXF_csum_blank | NETTXF_more_data:
		sum = slot.req.gref;
	}
	if (slot.req.offset + slot.req.size > PV_PAGE_SIZE || slot.req.flags & NETTXF_extra_info)
		sum += slot.req.size;
	return sum + slot.req.flags;
}

TAKE(net_rx, struct netif_rx_request, pv_net_rx_take)
{
	struct netif_rx_request req;

	pv_net_rx_take(&ring, &req);
	return req.id > 5 && req.id < 1000 ? req.gref + req.id : req.gref;
}

TAKE(net_tx_rsp, struct netif_tx_response, pv_net_tx_take_rsp)
{
	struct netif_tx_response rsp;

	pv_net_tx_take_rsp(&ring, &rsp);
	return rsp.id < 1000 && rsp.status != NETIF_RSP_NULL ? rsp.id : 1;
}

TAKE(net_rx_rsp, union pv_net_rx_slot, pv_net_rx_take_rsp)
{
	union pv_net_rx_slot slot;
	unsigned len = 1;

	pv_net_rx_take_rsp(&ring, &slot);
	if (slot.rsp.status >= 0 && slot.rsp.offset + slot.rsp.status <= PV_PAGE_SIZE)
		len = (unsigned)slot.rsp.status;
	return slot.rsp.flags & NETRXF_extra_info ? len + slot.extra.type : len + slot.rsp.id;
}

TAKE(blk, union pv_blk_raw, pv_blk_take)
{
	union pv_blk_raw raw;
	struct pv_blk_req req;
	unsigned sum = 0;

	pv_blk_take(&ring, &raw);
	switch (raw.native.operation) {
	case BLKIF_OP_WRITE:
		sum = raw.native.nr_segments;
		break;
	case BLKIF_OP_INDIRECT:
		sum = raw.native_indirect.nr_segments;
	}
	pv_blk_decode(&raw, ring.slot_size == PV_BLK_SLOT_MAX ? PV_VBD_ABI_X86_64 : PV_VBD_ABI_X86_32, &req);
	return sum + req.op + raw.native.operation;
}

TAKE(blk_rsp, struct blkif_response, pv_blk_take_rsp)
{
	struct blkif_response rsp;

	pv_blk_take_rsp(&ring, &rsp);
	if (rsp.operation > BLKIF_OP_INDIRECT && rsp.status != BLKIF_RSP_OKAY)
		return rsp.operation;
	return rsp.id < 32 ? (unsigned)rsp.id : 1;
}

static const struct take {
	const char *name;
	void (*take)(void *copy);
	unsigned (*use)(void);
	uint32_t slot_size;
	uint8_t head[2]; /* its first bytes, if not 0 */
} takes[] = {
	{ "net tx request", take_net_tx, use_net_tx, PV_NET_TX_SLOT },
	{ "net rx request", take_net_rx, use_net_rx, PV_NET_RX_SLOT },
	{ "net tx answer", take_net_tx_rsp, use_net_tx_rsp, PV_NET_TX_SLOT },
	{ "net rx answer", take_net_rx_rsp, use_net_rx_rsp, PV_NET_RX_SLOT },
	{ "blk request", take_blk, use_blk, PV_BLK_SLOT_MAX, { BLKIF_OP_WRITE, 11 } },
	{ "blk request, of one segment", take_blk, use_blk, PV_BLK_SLOT_MAX, { BLKIF_OP_WRITE, 1 } },
	{ "blk request, of too many", take_blk, use_blk, PV_BLK_SLOT_MAX, { BLKIF_OP_WRITE, 255 } },
	{ "blk discard", take_blk, use_blk, PV_BLK_SLOT_MAX, { BLKIF_OP_DISCARD, 1 } },
	{ "blk indirect request", take_blk, use_blk, PV_BLK_SLOT_MAX, { BLKIF_OP_INDIRECT, 1 } },
	{ "blk request, x86_32", take_blk, use_blk, sizeof(struct pv_blk_x86_32_request) },
	{ "blk answer", take_blk_rsp, use_blk_rsp, PV_BLK_SLOT_MAX },
};

static void put_slot_so_that_a_byte_is_watched(const struct take *t, bool back, unsigned byte)
{
	static struct pv_any_sring header; /* elsewhere, so that only slots are watched */

	ring = (struct pv_ring){ .shared = &header, .slots = closed - byte, .nr = 16, .slot_size = t->slot_size, .back = back };
	for (unsigned i = 0; i < t->slot_size; i++)
		ring.slots[i] = i < sizeof(t->head) && t->head[0] ? t->head[i] : (uint8_t)(i + 1);
}

static void take_reads_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(takes) / sizeof(*takes); i++)
		for (unsigned byte = 0; byte < takes[i].slot_size; byte++)
			for (unsigned back = 0; back < 2; back++) {
				uint64_t copy[PV_BLK_SLOT_MAX / 8];
				unsigned alone, used;

				put_slot_so_that_a_byte_is_watched(&takes[i], back, byte);
				watch();
				takes[i].take(copy);
				alone = watched();
				if (alone) /* a byte of the copy; the answers are shorter than their slots */
					assert_int_equal(((uint8_t *)copy)[byte], ring.slots[byte]);
				ring.cons = 0;
				watch();
				assert_int_not_equal(takes[i].use(), 0);
				used = watched();
				/* twice is no harm in a copy by overlapping words: the latter overwrites the former */
				if (used > 1 && used > alone)
					fail_msg("%s: byte %u is read %u times", takes[i].name, byte, used);
			}
}

static void blk_decode_segs_reads_once(void **state)
{
	enum { SEGS = 20 };
	struct pv_blk_seg segs[SEGS];

	(void)state;
	for (unsigned byte = 0; byte < SEGS * sizeof(struct blkif_request_segment); byte++) {
		uint8_t *page = closed - byte;

		for (unsigned i = 0; i < SEGS * sizeof(struct blkif_request_segment); i++)
			page[i] = (uint8_t)i;
		watch();
		pv_blk_decode_segs(page, SEGS, segs);
		assert_int_equal(watched(), 1);
		assert_int_equal(segs[SEGS - 1].last, SEGS * 8 - 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_second_read_is_seen),
		cmocka_unit_test(take_reads_once),
		cmocka_unit_test(blk_decode_segs_reads_once),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}

#else

int main(void)
{
	puts("SKIP need=x86-64: it counts the reads of shipped x86-64 code, and instrumented code is not that");
	return 77;
}

#endif
