/* pool.c - see pool.h. */
#include "pool.h"
#include <errno.h>
#include <stdlib.h>

static void push(struct pool *p, int page, int order)
{
	struct pool_page *e = &p->page[page];

	e->order = (int8_t)order;
	e->prev = -1;
	e->next = p->head[order];
	if (e->next >= 0)
		p->page[e->next].prev = (int16_t)page;
	p->head[order] = (int16_t)page;
}

static void pull(struct pool *p, int page)
{
	struct pool_page *e = &p->page[page];

	if (e->prev >= 0)
		p->page[e->prev].next = e->next;
	else
		p->head[e->order] = e->next;
	if (e->next >= 0)
		p->page[e->next].prev = e->prev;
	e->order = -1;
}

/* Give back one aligned block, joined with its buddy while that is free. */
static void give_block(struct pool *p, int page, int order)
{
	while (order < POOL_ORDERS - 1) {
		int buddy = page ^ (1 << order);

		if (buddy + (1 << order) > (int)p->pages || p->page[buddy].order != order)
			break;
		pull(p, buddy);
		page &= ~(1 << order);
		order++;
	}
	push(p, page, order);
}

void front_pool_give(struct pool *p, unsigned first, unsigned n)
{
	p->free += n;
	while (n) {
		int order = first ? __builtin_ctz(first) : POOL_ORDERS - 1, fits = 31 - __builtin_clz(n);

		if (order > fits)
			order = fits;
		give_block(p, (int)first, order);
		first += 1u << order;
		n -= 1u << order;
	}
}

int front_pool_take(struct pool *p, unsigned n)
{
	int want, order, page;

	if (n == 0 || n > p->free)
		return -ENOSPC;
	want = n == 1 ? 0 : 32 - __builtin_clz(n - 1);
	for (order = want; order < POOL_ORDERS && p->head[order] < 0; order++)
		;
	if (order >= POOL_ORDERS)
		return -ENOSPC;
	page = p->head[order];
	pull(p, page);
	p->free -= 1u << order;
	front_pool_give(p, (unsigned)page + n, (1u << order) - n);
	return page;
}

int front_pool_new(struct pool *p, unsigned pages)
{
	*p = (struct pool){ .pages = pages };
	if (pages == 0 || pages > POOL_PAGES_MAX)
		return -EINVAL;
	p->page = calloc(pages, sizeof(*p->page));
	if (!p->page)
		return -ENOMEM;
	for (unsigned i = 0; i < pages; i++)
		p->page[i].order = -1;
	for (int i = 0; i < POOL_ORDERS; i++)
		p->head[i] = -1;
	front_pool_give(p, 0, pages);
	return 0;
}

void front_pool_free(struct pool *p)
{
	free(p->page);
	p->page = NULL;
}
