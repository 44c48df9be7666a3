/* backend_port.c - a backend's end of a guest's port. Apart from backend.c: it needs no pviod. */
#include "backend.h"
#include <errno.h>

int pv_backend_bind(struct pv_hyper *h, uint16_t guest, uint32_t port, bool adopt)
{
	int ret = pv_evt_bind(h, guest, port);

	return adopt && (ret == -EACCES || ret == -EINVAL) ? -EAGAIN : ret;
}
