/* ctrl_parse.c - one request of a control ring: is it legal, and what does it take? Pure. Statuses are those that netif.h names for
 * each type, and Linux' netback where netif.h leaves a choice. */
#include "ctrl.h"

enum {
	OK = XEN_NETIF_CTRL_STATUS_SUCCESS,
	UNSUPPORTED = XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED,
	INVALID = XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER,
	OVERFLOW = XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW,
};

static void answer(struct ctrl_plan *out, uint32_t status, uint32_t data)
{
	out->kind = CTRL_ANSWER;
	out->status = status;
	out->data = status == OK ? data : 0;
}

static void plan_key(const struct xen_netif_ctrl_request *req, struct ctrl_plan *out)
{
	if (req->data[1] > HASH_KEY_MAX) {
		answer(out, OVERFLOW, 0);
		return;
	}
	out->kind = CTRL_HASH;
	out->gref = req->data[0];
	out->bytes = (uint16_t)req->data[1];
}

static void plan_mapping(const struct xen_netif_ctrl_request *req, const struct hash *now, struct ctrl_plan *out)
{
	uint64_t end = (uint64_t)req->data[1] + req->data[2]; /* each may be anything */

	if (end > HASH_MAPPING_MAX || end > now->size) {
		answer(out, end > HASH_MAPPING_MAX ? OVERFLOW : INVALID, 0);
		return;
	}
	out->kind = CTRL_HASH;
	out->gref = req->data[0];
	out->bytes = (uint16_t)(req->data[1] * sizeof(uint32_t));
}

static void plan_list(const struct xen_netif_ctrl_request *req, unsigned queues, struct ctrl_plan *out)
{
	if (req->data[0] >= queues || req->data[2] > CTRL_LIST_MAX) {
		answer(out, INVALID, 0);
		return;
	}
	out->kind = req->type == XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING ? CTRL_STATIC_ADD : CTRL_STATIC_DEL;
	out->queue = (uint16_t)req->data[0];
	out->count = (uint16_t)req->data[2];
	out->gref = req->data[1];
	out->bytes = (uint16_t)(out->count * sizeof(struct xen_netif_gref));
}

void ctrl_parse(const struct xen_netif_ctrl_request *req, const struct hash *now, unsigned queues, struct ctrl_plan *out)
{
	*out = (struct ctrl_plan){ .kind = CTRL_HASH };
	switch (req->type) {
	case XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS:
		answer(out, now->algorithm ? OK : UNSUPPORTED, HASH_TYPES);
		break;
	case XEN_NETIF_CTRL_TYPE_SET_HASH_KEY:
		plan_key(req, out);
		break;
	case XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE:
		answer(out, OK, HASH_MAPPING_MAX);
		break;
	case XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING:
		plan_mapping(req, now, out);
		break;
	case XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS:
	case XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE:
	case XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM:
		break; /* hash_request looks at the numbers */
	case XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE:
		answer(out, req->data[0] < queues ? OK : INVALID, STATIC_MAX);
		break;
	case XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING:
	case XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING:
		plan_list(req, queues, out);
		break;
	default:
		answer(out, UNSUPPORTED, 0);
	}
}
