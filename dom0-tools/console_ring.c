/* console_ring.c - the two rings of bytes in a guest's console page. There is no event index: each side notifies the other whenever
 * it has put or taken something. */
#include "console.h"
#include <errno.h>
#include <pvio/ring.h>
#include <string.h>

void console_ring_init(struct console_ring *r, struct xencons_interface *page)
{
	*r = (struct console_ring){ .page = page, .out_cons = page->out_cons, .in_prod = page->in_prod };
}

int console_ring_take(struct console_ring *r, char buf[sizeof(r->page->out)])
{
	const size_t size = sizeof(r->page->out);
	/* pairs with the barrier between bytes and out_prod in the guest's driver */
	XENCONS_RING_IDX n = pv_index_load(&r->page->out_prod) - r->out_cons;
	size_t at = MASK_XENCONS_IDX(r->out_cons, r->page->out), first = n < size - at ? n : size - at;

	if (n > size)
		return -EPROTO;
	memcpy(buf, r->page->out + at, first);
	memcpy(buf + first, r->page->out, n - first);
	r->out_cons += n;
	/* the guest may overwrite them from here on: pairs with its load of out_cons */
	pv_index_store(&r->page->out_cons, r->out_cons);
	return n;
}

int console_ring_room(const struct console_ring *r)
{
	/* pairs with the guest's store of in_cons: it has read the bytes before it */
	XENCONS_RING_IDX used = r->in_prod - pv_index_load(&r->page->in_cons);

	return used > sizeof(r->page->in) ? -EPROTO : (int)(sizeof(r->page->in) - used);
}

void console_ring_put(struct console_ring *r, const char *buf, unsigned n)
{
	size_t at = MASK_XENCONS_IDX(r->in_prod, r->page->in), first = n < sizeof(r->page->in) - at ? n : sizeof(r->page->in) - at;

	memcpy(r->page->in + at, buf, first);
	memcpy(r->page->in, buf + first, n - first);
	r->in_prod += n;
	/* pairs with the guest's load of in_prod: the bytes are there before it */
	pv_index_store(&r->page->in_prod, r->in_prod);
}
