/* store_page.c - XenStore's wire protocol in the ring at the head of a guest's store page.
 *
 * A message is copied out of the ring once, in as many pieces as it comes in, and answered when it is whole. Our indices are
 * private and never read back; the guest's are believed as differences of at most the ring's size.
 */
#include "store_page.h"
#include <errno.h>
#include <pvio/ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/xs_wire.h>

enum { FEATURES = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR };

/* Owner: whoever made it. */
struct store_page {
	struct xenstore_domain_interface *page; /* the guest writes here too */
	struct store *tree;
	struct store_page_ops ops;
	void *ctx;
	uint32_t req_cons, rsp_prod; /* ours */
	bool broken, moved /* an index of ours, since the last notify */;
	const char *why;
	struct store_page_stats stats;
	/* the request that comes, and how many bytes of it have */
	uint32_t have;
	struct xsd_sockmsg head;
	char body[XENSTORE_PAYLOAD_MAX + 1]; /* with a 0 behind it */
	/* the message that goes; nothing of it waits: sent == len */
	uint32_t sent, len;
	struct { struct xsd_sockmsg head; char body[XENSTORE_PAYLOAD_MAX]; } out;
};

static int misdeed(struct store_page *sp, uint32_t error, const char *why)
{
	sp->broken = true;
	sp->why = why;
	sp->have = sp->sent = sp->len = 0;
	sp->stats.violations++;
	store_reset(sp->tree);
	__atomic_store_n(&sp->page->error, error, __ATOMIC_RELEASE);
	sp->moved = true; /* (so that the guest learns of it) */
	return -EPROTO;
}

/* ---- bytes ---- */

static uint32_t smallest(uint32_t a, uint32_t b, uint32_t c)
{
	a = a < b ? a : b;
	return a < c ? a : c;
}

/* Our index of one of the two rings has moved, after the bytes; pairs with the guest's barrier between index and bytes. */
static void move(struct store_page *sp, uint32_t *index, uint32_t now)
{
	pv_index_store(index, now);
	sp->moved = true;
}

/* Send what waits. Returns 1: all is sent; 0: the ring is full; -EPROTO. */
static int flush(struct store_page *sp)
{
	while (sp->sent < sp->len) {
		uint32_t at = MASK_XENSTORE_IDX(sp->rsp_prod), used = sp->rsp_prod - pv_index_load(&sp->page->rsp_cons), n;

		if (used > XENSTORE_RING_SIZE)
			return misdeed(sp, XENSTORE_ERROR_RINGIDX, "its index of the responses lies");
		n = smallest(XENSTORE_RING_SIZE - used, XENSTORE_RING_SIZE - at, sp->len - sp->sent);
		if (n == 0)
			return 0;
		memcpy(sp->page->rsp + at, (char *)&sp->out + sp->sent, n);
		sp->sent += n;
		sp->rsp_prod += n;
		move(sp, &sp->page->rsp_prod, sp->rsp_prod);
	}
	return 1;
}

/* Take up to `want` bytes. Returns how many, or -EPROTO. */
static int take(struct store_page *sp, void *to, uint32_t want)
{
	uint32_t at = MASK_XENSTORE_IDX(sp->req_cons), ready = pv_index_load(&sp->page->req_prod) - sp->req_cons, n;

	if (ready > XENSTORE_RING_SIZE)
		return misdeed(sp, XENSTORE_ERROR_RINGIDX, "its index of the requests lies");
	n = smallest(ready, XENSTORE_RING_SIZE - at, want);
	if (n == 0)
		return 0;
	memcpy(to, sp->page->req + at, n);
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* the copy is what is looked at, not the page once more */
	sp->req_cons += n;
	move(sp, &sp->page->req_cons, sp->req_cons);
	return n;
}

/* Take what has come of a request. Returns 1: it is whole; 0: not yet; -EPROTO. */
static int take_request(struct store_page *sp)
{
	const uint32_t head = sizeof(sp->head);
	int n = 1;

	while (n > 0 && sp->have < head) {
		n = take(sp, (char *)&sp->head + sp->have, head - sp->have);
		sp->have += n > 0 ? n : 0;
	}
	if (sp->have < head)
		return n;
	if (sp->head.len > XENSTORE_PAYLOAD_MAX)
		return misdeed(sp, XENSTORE_ERROR_PROTO, "it sends a request longer than any may be");
	while (n > 0 && sp->have < head + sp->head.len) {
		n = take(sp, sp->body + sp->have - head, head + sp->head.len - sp->have);
		sp->have += n > 0 ? n : 0;
	}
	return n < 0 ? n : sp->have == head + sp->head.len;
}

/* ---- answers ---- */

static void message(struct store_page *sp, uint32_t type, uint32_t req_id, uint32_t tx_id, uint32_t len)
{
	sp->out.head = (struct xsd_sockmsg){ .type = type, .req_id = req_id, .tx_id = tx_id, .len = len };
	sp->sent = 0;
	sp->len = sizeof(sp->out.head) + len;
}

static int reply(struct store_page *sp, const void *bytes, size_t len)
{
	if (len > XENSTORE_PAYLOAD_MAX)
		return -E2BIG;
	memcpy(sp->out.body, bytes, len);
	message(sp, sp->head.type, sp->head.req_id, sp->head.tx_id, len);
	return 0;
}

static int reply_text(struct store_page *sp, const char *text)
{
	return reply(sp, text, strlen(text) + 1);
}

static const char *error_name(int err)
{
	for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(*xsd_errors); i++)
		if (xsd_errors[i].errnum == -err)
			return xsd_errors[i].errstring;
	return "EINVAL";
}

static void reply_error(struct store_page *sp, int err)
{
	sp->stats.errors++;
	reply_text(sp, error_name(err));
	sp->out.head.type = XS_ERROR;
}

/* ---- requests: what each has in its body, which is checked here, and what the tree says to it ---- */

/* The body is exactly `n` strings, each with its 0. */
static bool is_strings(const struct store_page *sp, unsigned n)
{
	uint32_t at = 0;

	for (unsigned i = 0; i < n; i++) {
		at += strnlen(sp->body + at, sp->head.len - at) + 1;
		if (at > sp->head.len)
			return false;
	}
	return at == sp->head.len;
}

static const char *second(const struct store_page *sp)
{
	return sp->body + strlen(sp->body) + 1;
}

static int do_read(struct store_page *sp, struct store_as as)
{
	const char *value;
	size_t len;
	int err = is_strings(sp, 1) ? store_read(sp->tree, as, sp->body, &value, &len) : -EINVAL;

	return err ? err : reply(sp, value, len);
}

static int do_directory(struct store_page *sp, struct store_as as)
{
	uint64_t generation;
	char *list;
	size_t len;
	int err = is_strings(sp, 1) ? store_list(sp->tree, as, sp->body, &list, &len, &generation) : -EINVAL;

	if (err)
		return err;
	err = reply(sp, list, len);
	free(list);
	return err;
}

/* The node's generation, then as many whole names from the offset on as fit, then an empty one if these are all. */
static int do_directory_part(struct store_page *sp, struct store_as as)
{
	uint64_t generation;
	size_t len, at, n;
	char *list;
	int err = is_strings(sp, 2) ? store_list(sp->tree, as, sp->body, &list, &len, &generation) : -EINVAL;

	if (err)
		return err;
	at = strtoul(second(sp), NULL, 10);
	n = snprintf(sp->out.body, sizeof(sp->out.body), "%llu", (unsigned long long)generation) + 1;
	while (at < len) {
		size_t name = strlen(list + at) + 1;

		if (n + name + 1 > sizeof(sp->out.body))
			break;
		memcpy(sp->out.body + n, list + at, name);
		n += name;
		at += name;
	}
	if (at >= len)
		sp->out.body[n++] = '\0';
	free(list);
	message(sp, sp->head.type, sp->head.req_id, sp->head.tx_id, n);
	return 0;
}

static int do_write(struct store_page *sp, struct store_as as)
{
	size_t path = strnlen(sp->body, sp->head.len) + 1;

	return path > sp->head.len ? -EINVAL : store_write(sp->tree, as, sp->body, sp->body + path, sp->head.len - path);
}

static int do_mkdir(struct store_page *sp, struct store_as as)
{
	return is_strings(sp, 1) ? store_mkdir(sp->tree, as, sp->body) : -EINVAL;
}

static int do_rm(struct store_page *sp, struct store_as as)
{
	return is_strings(sp, 1) ? store_rm(sp->tree, as, sp->body) : -EINVAL;
}

static const char modes[] = "nrwb"; /* by STORE_READ | STORE_WRITE */

static int do_get_perms(struct store_page *sp, struct store_as as)
{
	struct store_perms perms;
	char text[STORE_PERMS_MAX * 8];
	size_t n = 0;
	int err = is_strings(sp, 1) ? store_get_perms(sp->tree, as, sp->body, &perms) : -EINVAL;

	if (err)
		return err;
	for (unsigned i = 0; i < perms.n; i++)
		n += snprintf(text + n, sizeof(text) - n, "%c%u", modes[perms.p[i].mode], perms.p[i].domid) + 1;
	return reply(sp, text, n);
}

/* A letter and a domain's number. */
static int parse_perm(const char *text, struct store_perm *out)
{
	const char *mode = *text ? strchr(modes, *text) : NULL;
	unsigned long domid;
	char *end;

	if (!mode || text[1] < '0' || text[1] > '9')
		return -EINVAL;
	domid = strtoul(text + 1, &end, 10);
	if (*end || domid > UINT16_MAX)
		return -EINVAL;
	*out = (struct store_perm){ .domid = domid, .mode = mode - modes };
	return 0;
}

static int do_set_perms(struct store_page *sp, struct store_as as)
{
	struct store_perms perms = { 0 };
	const char *p, *end = sp->body + sp->head.len;

	if (sp->head.len == 0 || end[-1] != '\0')
		return -EINVAL;
	for (p = second(sp); p < end; p += strlen(p) + 1) {
		if (perms.n == STORE_PERMS_MAX)
			return -ENOSPC;
		if (parse_perm(p, &perms.p[perms.n++]) < 0)
			return -EINVAL;
	}
	return store_set_perms(sp->tree, as, sp->body, &perms);
}

static int do_watch(struct store_page *sp, struct store_as as)
{
	(void)as;
	return is_strings(sp, 2) ? store_watch(sp->tree, sp->body, second(sp)) : -EINVAL;
}

static int do_unwatch(struct store_page *sp, struct store_as as)
{
	(void)as;
	return is_strings(sp, 2) ? store_unwatch(sp->tree, sp->body, second(sp)) : -EINVAL;
}

static int do_reset_watches(struct store_page *sp, struct store_as as)
{
	(void)as;
	store_reset(sp->tree);
	return 0;
}

static int do_transaction_start(struct store_page *sp, struct store_as as)
{
	char text[16];
	uint32_t tx;
	int err = store_tx_start(sp->tree, as, &tx);

	if (err)
		return err;
	snprintf(text, sizeof(text), "%u", tx);
	return reply_text(sp, text);
}

static int do_transaction_end(struct store_page *sp, struct store_as as)
{
	if (!is_strings(sp, 1) || (strcmp(sp->body, "T") != 0 && strcmp(sp->body, "F") != 0))
		return -EINVAL;
	return store_tx_end(sp->tree, as, sp->body[0] == 'T');
}

static int do_get_domain_path(struct store_page *sp, struct store_as as)
{
	struct store_perm p;
	char text[XENSTORE_PAYLOAD_MAX + 2] = "n";

	(void)as;
	if (!is_strings(sp, 1))
		return -EINVAL;
	strcpy(text + 1, sp->body);
	if (parse_perm(text, &p) < 0)
		return -EINVAL;
	snprintf(text, sizeof(text), "/local/domain/%u", p.domid);
	return reply_text(sp, text);
}

/* What is for toolstacks is refused to a guest; whether there is such a domain, too (XSA-115). */
static int refuse(struct store_page *sp, struct store_as as)
{
	(void)sp;
	(void)as;
	return -EACCES;
}

static int (*const requests[XS_TYPE_COUNT])(struct store_page *sp, struct store_as as) = {
	[XS_CONTROL] = refuse,
	[XS_DIRECTORY] = do_directory,
	[XS_READ] = do_read,
	[XS_GET_PERMS] = do_get_perms,
	[XS_WATCH] = do_watch,
	[XS_UNWATCH] = do_unwatch,
	[XS_TRANSACTION_START] = do_transaction_start,
	[XS_TRANSACTION_END] = do_transaction_end,
	[XS_INTRODUCE] = refuse,
	[XS_RELEASE] = refuse,
	[XS_GET_DOMAIN_PATH] = do_get_domain_path,
	[XS_WRITE] = do_write,
	[XS_MKDIR] = do_mkdir,
	[XS_RM] = do_rm,
	[XS_SET_PERMS] = do_set_perms,
	[XS_IS_DOMAIN_INTRODUCED] = refuse,
	[XS_RESUME] = refuse,
	[XS_SET_TARGET] = refuse,
	[XS_RESET_WATCHES] = do_reset_watches,
	[XS_DIRECTORY_PART] = do_directory_part,
};

static void answer(struct store_page *sp)
{
	int err = -ENOSYS;

	sp->have = 0;
	sp->body[sp->head.len] = '\0';
	sp->stats.requests++;
	if (sp->head.type < XS_TYPE_COUNT && requests[sp->head.type])
		err = requests[sp->head.type](sp, (struct store_as){ .domid = store_domid(sp->tree), .tx = sp->head.tx_id });
	if (err < 0)
		reply_error(sp, err);
	else if (sp->len == sp->sent)
		reply_text(sp, "OK");
}

/* ---- turns ---- */

static bool next_event(struct store_page *sp)
{
	size_t n = store_event_take(sp->tree, sp->out.body);

	if (n == 0)
		return false;
	sp->stats.events++;
	message(sp, XS_WATCH_EVENT, 0, 0, n);
	return true;
}

static int serve(struct store_page *sp, unsigned budget)
{
	unsigned events = STORE_EVENTS_TURN;

	for (;;) {
		int rc = flush(sp);

		if (rc <= 0)
			return rc;
		if (events == 0)
			return 1;
		if (next_event(sp)) {
			events--;
			continue;
		}
		rc = take_request(sp);
		if (rc <= 0)
			return rc;
		if (budget == 0 || !sp->ops.admit(sp->ctx, sp->head.len))
			return 1;
		budget--;
		answer(sp);
	}
}

/* The guest asked for it: nothing of the old connection is left, and both rings are empty. */
static void reconnect(struct store_page *sp)
{
	struct xenstore_domain_interface *page = sp->page;

	store_reset(sp->tree);
	sp->have = sp->sent = sp->len = 0;
	sp->req_cons = sp->rsp_prod = 0;
	sp->broken = false;
	sp->stats.reconnections++;
	page->req_cons = page->req_prod = page->rsp_cons = page->rsp_prod = 0;
	page->error = XENSTORE_ERROR_NONE;
	page->server_features = FEATURES;
	move(sp, &page->connection, XENSTORE_CONNECTED); /* the guest looks at nothing else before it sees this */
}

int store_page_work(struct store_page *sp, unsigned budget)
{
	int rc = 0;

	if (pv_index_load(&sp->page->connection) == XENSTORE_RECONNECT)
		reconnect(sp);
	if (!sp->broken)
		rc = serve(sp, budget);
	if (sp->moved) {
		sp->moved = false;
		sp->ops.notify(sp->ctx);
	}
	return rc;
}

const char *store_page_why(const struct store_page *sp)
{
	return sp->why;
}

const struct store_page_stats *store_page_stats(const struct store_page *sp)
{
	return &sp->stats;
}

int store_page_new(void *page, struct store *tree, const struct store_page_ops *ops, void *ctx, struct store_page **out)
{
	struct store_page *sp = calloc(1, sizeof(*sp));

	*out = sp;
	if (!sp)
		return -ENOMEM;
	sp->page = page;
	sp->tree = tree;
	sp->ops = *ops;
	sp->ctx = ctx;
	sp->why = "";
	sp->req_cons = pv_index_load(&sp->page->req_cons);
	sp->rsp_prod = pv_index_load(&sp->page->rsp_prod);
	sp->page->error = XENSTORE_ERROR_NONE;
	__atomic_store_n(&sp->page->server_features, FEATURES, __ATOMIC_RELEASE);
	return 0;
}

void store_page_free(struct store_page *sp)
{
	free(sp);
}
