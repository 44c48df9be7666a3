/* guest_store.h - XenStore for a guest that pviod itself serves: its tree, its ring, and when it is their turn.
 *
 *	guest ==== ring in the store page ==== store_page.c ---- store_tree.c ---- nodes_tree.c ---- dialect_store.c
 *	                 port -------- guest_store.c: turns, budgets
 */
#ifndef GUEST_STORE_H
#define GUEST_STORE_H

#include <stddef.h>

struct guest;
struct guest_store;
struct json_object;
struct pv_noxs_pointer;
struct pviod;

/* Make the tree that a toolstack gives each guest, with its noxs pointer in it, and serve it in the guest's store page, which
 * is mapped, and through its store port. g->nodes is the tree from then on. Returns 0, or -errno with `why`. */
int guest_store_open(struct guest *g, const struct pv_noxs_pointer *pointer, char *why, size_t len);
void guest_store_close(struct guest *g); /* not open: nothing */

void guest_stores_drain(struct pviod *d); /* give turns to those that have something to do */
void guest_stores_tick(struct pviod *d); /* to those whose time has come */
struct json_object *guest_store_report(const struct guest_store *gs); /* what it uses, and counters */

#endif
