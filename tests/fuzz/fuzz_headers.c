/* fuzz_headers.c - a packet's bytes (the first of the input: how many of them can be read) into headers_parse, and what it says into
 * anti-spoofing and into the answer to a rejected packet. */
#include "fuzz.h"
#include "netback/antispoof.h"
#include "netback/reject.h"

static void check_answer(const uint8_t *p, uint32_t have, const struct headers *h)
{
	uint8_t *answer = malloc(REJECT_MAX);
	uint32_t n = reject_answer(p, have, h, answer);
	struct headers back;

	MUST(n <= REJECT_MAX && !(n && h->error));
	if (n) { /* it is sound, from whom was addressed to the sender, and gets no answer itself unless it is asked for */
		headers_parse(answer, n, n, &back);
		MUST(!back.error && back.kind == h->kind && back.end == n);
		MUST(!memcmp(back.key.addr[1], h->key.addr[0], 16) && !memcmp(back.key.mac[1], h->key.mac[0], 6));
		MUST(!reject_answer(answer, n, &back, answer));
	}
	free(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct antispoof own = { .mac = { 2, 0, 0, 0, 0, 1 } };
	struct headers h;
	uint32_t len = size ? (uint32_t)size - 1 : 0, have;
	uint8_t *p;

	if (!len || len > 65535)
		return 0;
	have = data[0] & 0x80 ? len : (uint32_t)(data[0] * 8 < len ? data[0] * 8 : len);
	p = exact(data + 1, have);
	headers_parse(p, have, len, &h);
	MUST(h.kind < HEADERS_KINDS);
	if (!h.error) {
		MUST(h.l3 <= have && h.l4 <= have && h.end <= len && (!h.l4 || (h.l4 > h.l3 && h.l4 <= h.end)));
		MUST(!(h.key.flags & HEADERS_FRAGMENT) || !(h.key.flags & (HEADERS_L4 | HEADERS_SYN)));
	}
	check_answer(p, have, &h);
	for (int i = 0; i < 2; i++) {
		bool may = antispoof_ok(&own, p, have, &h);

		MUST(!may || (!h.error && !memcmp(h.key.mac[0], own.mac, 6)));
		MUST(antispoof_parse("10.0.0.1,2001:db8::/64", &own) == 0);
	}
	free(p);
	return 0;
}
