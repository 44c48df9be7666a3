/* loopback_store.c - a guest's own end of its store page and store port, which the hub made with the domain: what the kernel of a
 * guest drives on Xen, and a process that plays one drives here. */
#include "hyper_loopback.h"
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

int pv_hub_store(struct pv_hyper *h, void **page, uint32_t *port)
{
	struct loopback *lb = (struct loopback *)h;
	void *p = MAP_FAILED;
	int err;

	if (h->ops != &loopback_ops)
		return hyper_fail(h, -ENOTSUP, "%s has no hub: this works on the loopback hypervisor only", h->ops->name);
	if (!lb->own_store) {
		err = lb_call(lb, &(struct hub_req){ .op = HUB_STORE }, NULL, 0, 1);
		if (err)
			return err;
		p = mmap(NULL, HUB_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, lb->fds[0], 0);
		close(lb->fds[0]);
		lb->nfds = 0;
		if (p == MAP_FAILED)
			return hyper_no_memory(&lb->h, "the store page");
		lb->own_store = p;
	}
	err = lb_evt_store(lb);
	if (err < 0)
		return err;
	*page = lb->own_store;
	*port = err;
	return 0;
}
