/* fuzz_noxs.c - the pages of the handshake as the other side wrote them: byte 0 says which, and what was offered. */
#include "fuzz.h"
#include <errno.h>
#include <pvio/noxs.h>

static _Alignas(4096) uint8_t page[4096];

static void choice(struct input *in)
{
	struct pv_noxs_offer offer = { .magic = PV_NOXS_MAGIC, .version = PV_NOXS_VERSION, .generation = 7, .type = take8(in) % 5 };
	struct pv_noxs_choice c;
	const char *why = NULL;
	int ret;

	if (offer.type == PV_NOXS_VIF)
		offer.vif = (struct pv_noxs_vif_offer){ .queues_max = take8(in) % 17, .features = take32(in) };
	if (offer.type == PV_NOXS_VBD)
		offer.vbd = (struct pv_noxs_vbd_offer){ .queues_max = take8(in) % 17, .features = take32(in), .ring_order_max = take8(in) % 5 };
	take_bytes(in, page + 2048, 2048);
	pv_noxs_choice_read((struct pv_noxs_control_page *)page, &c);
	ret = pv_noxs_choice_check(&c, &offer, &why);
	MUST(ret == 0 || (ret == -EPROTO && why && *why));
	if (ret == 0 && (c.state == XenbusStateInitialised || c.state == XenbusStateConnected)) {
		MUST(c.generation == 7 && c.queues >= 1 && c.queues <= PV_NOXS_QUEUES_MAX);
		if (offer.type == PV_NOXS_VIF)
			MUST(c.queues <= offer.vif.queues_max && !(c.features & ~offer.vif.features));
		if (offer.type == PV_NOXS_VBD)
			MUST(c.queues <= offer.vbd.queues_max && c.ring_order <= offer.vbd.ring_order_max);
	}
}

static void offer(struct input *in)
{
	enum pv_noxs_type type = (enum pv_noxs_type)(take8(in) % 6);
	struct pv_noxs_offer o;
	int ret;

	take_bytes(in, page, 2048);
	ret = pv_noxs_offer_read((struct pv_noxs_control_page *)page, type, &o);
	MUST(ret == 0 || ret == -EAGAIN || ret == -EPROTO);
	if (ret == 0 && o.state == XenbusStateInitWait && type == PV_NOXS_VIF)
		MUST(o.vif.queues_max >= 1 && o.vif.queues_max <= PV_NOXS_QUEUES_MAX);
}

static void device_page(struct input *in)
{
	struct pv_noxs_device_page out;

	take_bytes(in, page, sizeof(page));
	if (pv_noxs_device_read((struct pv_noxs_device_page *)page, &out))
		return;
	for (unsigned type = 0; type < 7; type++) {
		int slot = pv_noxs_device_find(&out, (enum pv_noxs_type)type, 0);

		MUST(slot == -ENOENT || (slot >= 0 && slot < PV_NOXS_ENTRIES));
	}
}

static void pointer(struct input *in)
{
	char *text = exact(in->at, in->left), *line = strndup((const char *)in->at, in->left);
	struct pv_noxs_pointer p, again;
	char back[PV_NOXS_POINTER_TEXT];
	int n;

	MUST(line);
	if (!pv_noxs_pointer_parse(text, in->left, &p)) {
		n = pv_noxs_pointer_format(&p, back, sizeof(back));
		MUST(n > 0 && !pv_noxs_pointer_parse(back, (size_t)n, &again) && !memcmp(&p, &again, sizeof(p)));
	}
	pv_noxs_hint_parse(line, &p);
	take_bytes(in, page, sizeof(page));
	pv_noxs_pointer_read(page, &p);
	free(text);
	free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };

	if (!size)
		return 0;
	memset(page, 0, sizeof(page));
	switch (take8(&in) % 4) {
	case 0: choice(&in); break;
	case 1: offer(&in); break;
	case 2: device_page(&in); break;
	default: pointer(&in);
	}
	return 0;
}
