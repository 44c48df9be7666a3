/* nodes_tree.h - the XenStore nodes of a guest that pviod itself serves: struct nodes onto the guest's tree.
 *
 * Watches are told by nodes_tree_tell, outside of the calls in which the guest changes something. Thread rule: that of the tree.
 */
#ifndef NODES_TREE_H
#define NODES_TREE_H

#include "nodes.h"
#include "store_tree.h"

/* wake: nodes_tree_tell has somebody to tell. The tree stays the caller's. Returns 0 or -ENOMEM. */
int nodes_tree_new(struct store *tree, void (*wake)(void *ctx), void *ctx, struct nodes **out);
void nodes_tree_free(struct nodes *n); /* NULL is fine; watches that are left are forgotten, a transaction is aborted */
void nodes_tree_changed(struct nodes *n, const char *path, bool all); /* for struct store_ops */
void nodes_tree_tell(struct nodes *n); /* those whose paths have changed since */

#endif
