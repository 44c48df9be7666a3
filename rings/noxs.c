/* noxs.c - accessors of the noxs pages for both ends. libc only.
 *
 * Theory of operation. A page is shared with a peer that may write (control page) or that reads while we write (all), so every
 * word of it is loaded and stored with one atomic access: never torn, never read twice by the compiler, and visible to TSan.
 * The sequence locks use no fences: data words are stored with release and loaded with acquire instead, which costs nothing on
 * x86. A reader who saw any new data word thereby sees the guard that was changed before it, and retries.
 */
#include "noxs.h"
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the pages are little-endian");

enum {
	RETRIES = 64, /* snapshots tried before -EAGAIN: a writer needs less than a microsecond unless it was preempted */
	STATE_WORD = offsetof(struct pv_noxs_offer, state) / 4,
	HALF_WORDS = sizeof(struct pv_noxs_offer) / 4,
	MTU_MIN = 68, /* IPv4's */
	MTU_MAX = 65535 - 14, /* a netif packet has at most 64 KiB - 1, with its Ethernet header */
	INDIRECT_MAX = 4096, /* 8 pages of 512 segments, all that the ring can carry */
	RING_ORDER_MAX = 4,
	VBD_FEATURES = PV_VBD_PERSISTENT * 2 - 1,
	VDISK_FLAGS = 7, /* VDISK_CDROM, _REMOVABLE, _READONLY */
	ERRNO_MAX = 4095,
};

_Static_assert(offsetof(struct pv_noxs_choice, state) == offsetof(struct pv_noxs_offer, state), "both halves begin alike");

static uint32_t load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void store(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static void load_words(void *to, const void *page, size_t from, size_t until)
{
	for (size_t i = from; i < until; i++)
		((uint32_t *)to)[i] = load((const uint32_t *)page + i);
}

static void store_words(void *page, const void *from, size_t begin, size_t until)
{
	for (size_t i = begin; i < until; i++)
		store((uint32_t *)page + i, ((const uint32_t *)from)[i]);
}

/* A number that a peer wrote, as a state: what XenBus does not know is Unknown. */
static enum xenbus_state state_of(uint32_t word)
{
	return word <= XenbusStateReconfigured ? (enum xenbus_state)word : XenbusStateUnknown;
}

/* ---- pointer ---- */

static struct pv_noxs_pointer *pointer_at(const void *store_page)
{
	return (struct pv_noxs_pointer *)((uintptr_t)store_page + PV_NOXS_POINTER_OFFSET);
}

void pv_noxs_pointer_write(void *store_page, const struct pv_noxs_pointer *p)
{
	struct pv_noxs_pointer *at = pointer_at(store_page);

	/* Generation, then the rest, inside magic 0 .. magic: pairs with the loads in pv_noxs_pointer_read. */
	store(&at->magic, 0);
	store(&at->generation, p->generation);
	store(&at->version, p->version);
	store(&at->gref, p->gref);
	store(&at->port, p->port);
	store(&at->magic, p->magic);
}

int pv_noxs_pointer_read(const void *store_page, struct pv_noxs_pointer *out)
{
	const struct pv_noxs_pointer *at = pointer_at(store_page);

	for (int i = 0; i < RETRIES; i++) {
		/* Generation first. If it is new, then magic is 0 or everything is new; if it is old and something behind it is
		 * new, then it has changed when it is looked at again. Pairs with the stores in pv_noxs_pointer_write. */
		out->generation = load(&at->generation);
		out->magic = load(&at->magic);
		if (out->magic != PV_NOXS_MAGIC)
			continue;
		out->version = load(&at->version);
		out->gref = load(&at->gref);
		out->port = load(&at->port);
		if (load(&at->magic) == out->magic && load(&at->generation) == out->generation)
			return out->version == PV_NOXS_VERSION ? 0 : -EPROTO;
	}
	return -ENOENT;
}

int pv_noxs_pointer_format(const struct pv_noxs_pointer *p, char *buf, size_t len)
{
	int n = snprintf(buf, len, "%u %u %u %u", p->version, p->generation, p->gref, p->port);

	return (size_t)n < len ? n : -ENOSPC;
}

/* Decimal numbers up to UINT32_MAX without sign or leading zeros, `sep` between them, from text to exactly end. */
static bool parse_numbers(const char *text, const char *end, char sep, uint32_t *out, int n)
{
	for (int i = 0; i < n; i++) {
		const char *first = text;
		uint64_t value = 0;

		while (text < end && *text >= '0' && *text <= '9' && value <= UINT32_MAX)
			value = value * 10 + (*text++ - '0');
		if (text == first || value > UINT32_MAX || (*first == '0' && text > first + 1))
			return false;
		if (i < n - 1 && (text == end || *text++ != sep))
			return false;
		out[i] = value;
	}
	return text == end;
}

int pv_noxs_pointer_parse(const char *text, size_t len, struct pv_noxs_pointer *out)
{
	uint32_t n[4];

	if (len == 0)
		return -ENOENT;
	if (!parse_numbers(text, text + len, ' ', n, 4) || n[0] != PV_NOXS_VERSION)
		return -EPROTO;
	*out = (struct pv_noxs_pointer){ PV_NOXS_MAGIC, n[0], n[1], n[2], n[3] };
	return 0;
}

int pv_noxs_hint_parse(const char *cmdline, struct pv_noxs_pointer *out)
{
	uint32_t n[2];

	for (const char *word = cmdline; *word; word += strcspn(word, " \t\n")) {
		word += strspn(word, " \t\n");
		if (strncmp(word, "noxs=", 5))
			continue;
		word += 5;
		if (!parse_numbers(word, word + strcspn(word, " \t\n"), ',', n, 2))
			return -EPROTO;
		*out = (struct pv_noxs_pointer){ PV_NOXS_MAGIC, PV_NOXS_VERSION, 0, n[0], n[1] };
		return 0;
	}
	return -ENOENT;
}

/* ---- device page ---- */

void pv_noxs_device_init(struct pv_noxs_device_page *page, uint16_t domid)
{
	const struct pv_noxs_device_page begin = { .version = PV_NOXS_VERSION, .domid = domid };

	store_words(page, &begin, 0, sizeof(*page) / 4);
	store(&page->magic, PV_NOXS_MAGIC); /* last: pairs with the load of the first word in pv_noxs_device_read */
}

/* Generation becomes odd before the first and even after the last data word: pairs with the two loads in pv_noxs_device_read.
 * Reading generation back is sound, for the guest has the page read-only. */
static void device_begin(struct pv_noxs_device_page *page)
{
	store(&page->generation, load(&page->generation) + 1);
}

static void device_end(struct pv_noxs_device_page *page)
{
	store(&page->generation, load(&page->generation) + 1);
}

void pv_noxs_device_write(struct pv_noxs_device_page *page, unsigned slot, const struct pv_noxs_entry *e)
{
	device_begin(page);
	store_words(&page->entries[slot], e, 0, sizeof(*e) / 4);
	device_end(page);
}

void pv_noxs_device_link(struct pv_noxs_device_page *page, uint32_t next_gref)
{
	device_begin(page);
	store(&page->next_gref, next_gref);
	device_end(page);
}

int pv_noxs_device_read(const struct pv_noxs_device_page *page, struct pv_noxs_device_page *out)
{
	for (int i = 0; i < RETRIES; i++) {
		uint32_t generation = load(&page->generation); /* pairs with device_end */

		if (generation & 1)
			continue;
		load_words(out, page, 0, sizeof(*page) / 4);
		if (load(&page->generation) != generation) /* pairs with device_begin, through any new word */
			continue;
		out->generation = generation;
		return out->magic == PV_NOXS_MAGIC && out->version == PV_NOXS_VERSION ? 0 : -EPROTO;
	}
	return -EAGAIN;
}

int pv_noxs_device_find(const struct pv_noxs_device_page *snapshot, enum pv_noxs_type type, uint32_t devid)
{
	for (int slot = 0; slot < PV_NOXS_ENTRIES; slot++)
		if (snapshot->entries[slot].type == type && snapshot->entries[slot].devid == devid)
			return slot; /* not stopped by holes: entries in use may follow them */
	return -ENOENT;
}

/* ---- control page: the offer ---- */

/* All of a half but its state, then its state: pairs with whoever loads the state and then the rest. */
static void half_write(void *half, const void *from)
{
	store_words(half, from, 0, STATE_WORD);
	store_words(half, from, STATE_WORD + 1, HALF_WORDS);
	store((uint32_t *)half + STATE_WORD, ((const uint32_t *)from)[STATE_WORD]);
}

void pv_noxs_offer_write(struct pv_noxs_control_page *page, const struct pv_noxs_offer *offer)
{
	/* A new offer: nobody may take the words of two offers for one. Pairs with the loads in offer_snapshot. An offer that
	 * changes in another state (a new size or MTU of a connected device) keeps its state; an event follows. */
	if (offer->state == XenbusStateInitWait)
		store(&page->offer.state, XenbusStateInitialising);
	half_write(&page->offer, offer);
}

void pv_noxs_backend_state(struct pv_noxs_control_page *page, enum xenbus_state state, int error)
{
	store((uint32_t *)&page->offer.error, (uint32_t)error);
	store(&page->offer.state, state); /* pairs with pv_noxs_backend_state_read and offer_snapshot */
}

enum xenbus_state pv_noxs_backend_state_read(const struct pv_noxs_control_page *page)
{
	return state_of(load(&page->offer.state)); /* pairs with pv_noxs_backend_state and pv_noxs_offer_write */
}

/* The offer as one generation and state. As with the pointer: a new generation is seen with state Initialising or complete,
 * and an old generation or state with new words behind it has changed when looked at again. */
static int offer_snapshot(const struct pv_noxs_control_page *page, struct pv_noxs_offer *out)
{
	for (int i = 0; i < RETRIES; i++) {
		uint32_t generation = load(&page->offer.generation), state = load(&page->offer.state);

		if (state == XenbusStateInitialising)
			continue;
		load_words(out, page, 0, STATE_WORD);
		load_words(out, page, STATE_WORD + 1, HALF_WORDS);
		if (load(&page->offer.state) != state || load(&page->offer.generation) != generation)
			continue;
		out->generation = generation;
		out->state = state_of(state);
		return 0;
	}
	return -EAGAIN;
}

static void clip16(uint16_t *value, uint16_t max)
{
	if (*value > max)
		*value = max;
}

static int vif_check(struct pv_noxs_vif_offer *v)
{
	if (v->mtu < MTU_MIN || v->queues_max == 0 || v->mac[0] & 1)
		return -EPROTO;
	if (v->mtu > MTU_MAX)
		v->mtu = MTU_MAX;
	clip16(&v->queues_max, PV_NOXS_QUEUES_MAX);
	v->features &= PV_VIF_FEATURES;
	v->carrier = v->carrier != 0;
	v->untrusted = v->untrusted != 0;
	if (v->pair > PV_VIF_USE_VF)
		v->pair = PV_VIF_ALONE;
	return 0;
}

static int vbd_check(struct pv_noxs_vbd_offer *v)
{
	if ((v->sector_size != 512 && v->sector_size != 4096) || v->queues_max == 0)
		return -EPROTO;
	if (v->sectors > INT64_MAX / 512 || v->sectors % (v->sector_size / 512))
		return -EPROTO;
	if (v->physical_sector_size == 0)
		v->physical_sector_size = v->sector_size;
	if (v->physical_sector_size < v->sector_size || v->physical_sector_size & (v->physical_sector_size - 1))
		return -EPROTO;
	if (v->discard_granularity % 512 || v->discard_alignment % 512)
		return -EPROTO;
	clip16(&v->queues_max, PV_NOXS_QUEUES_MAX);
	clip16(&v->ring_order_max, RING_ORDER_MAX);
	if (v->indirect_max > INDIRECT_MAX)
		v->indirect_max = INDIRECT_MAX;
	v->features &= VBD_FEATURES;
	v->info &= VDISK_FLAGS;
	return 0;
}

int pv_noxs_offer_read(const struct pv_noxs_control_page *page, enum pv_noxs_type type, struct pv_noxs_offer *out)
{
	int ret = offer_snapshot(page, out);

	if (ret < 0)
		return ret;
	if (out->magic != PV_NOXS_MAGIC || out->version != PV_NOXS_VERSION || out->type != type)
		return -EPROTO;
	if (out->error > 0 || out->error < -ERRNO_MAX)
		out->error = -EIO;
	if (out->state != XenbusStateInitWait && out->state != XenbusStateInitialised && out->state != XenbusStateConnected) {
		memset(out->bytes, 0, sizeof(out->bytes)); /* nothing is offered now */
		return 0;
	}
	switch (type) {
	case PV_NOXS_VIF:
		return vif_check(&out->vif);
	case PV_NOXS_VBD:
		return vbd_check(&out->vbd);
	case PV_NOXS_VF:
		return out->vf.functions >= 1 && out->vf.functions <= PV_NOXS_VFS_MAX ? 0 : -EPROTO;
	case PV_NOXS_PIPE:
		return out->pipe.version == PV_NOXS_PIPE_VERSION ? 0 : -EPROTO;
	default:
		return -EPROTO;
	}
}

/* ---- control page: the choice ---- */

void pv_noxs_choice_write(struct pv_noxs_control_page *page, const struct pv_noxs_choice *choice)
{
	/* As with an offer: a choice of a new generation is never seen with the state of an older one. Pairs with the loads in
	 * pv_noxs_choice_read. */
	store(&page->choice.state, XenbusStateInitialising);
	half_write(&page->choice, choice);
}

void pv_noxs_choice_change(struct pv_noxs_control_page *page, uint32_t features, uint32_t headroom)
{
	store(&page->choice.headroom, headroom); /* each word says something by itself, and the last is followed by an event */
	store(&page->choice.features, features);
}

void pv_noxs_choice_pair(struct pv_noxs_control_page *page, enum pv_vif_pair pair)
{
	store(&page->choice.pair, pair);
}

void pv_noxs_frontend_state(struct pv_noxs_control_page *page, enum xenbus_state state)
{
	store(&page->choice.state, state); /* pairs with pv_noxs_choice_read */
}

void pv_noxs_choice_read(const struct pv_noxs_control_page *page, struct pv_noxs_choice *out)
{
	uint32_t generation = load(&page->choice.generation);

	/* Generation, then state: whoever sees a new generation sees Initialising or everything. Pairs with pv_noxs_choice_write
	 * and pv_noxs_frontend_state. */
	out->state = load(&page->choice.state);
	load_words(out, &page->choice, 0, STATE_WORD);
	load_words(out, &page->choice, STATE_WORD + 1, HALF_WORDS);
	if (out->generation != generation)
		out->state = XenbusStateUnknown; /* being written: no answer yet, its event follows */
}

static const char *vif_choice_fault(const struct pv_noxs_choice *c, const struct pv_noxs_vif_offer *v)
{
	if (c->queues < 1 || c->queues > v->queues_max || c->queues > PV_NOXS_QUEUES_MAX)
		return "queues outside of what was offered";
	if (c->features & ~v->features)
		return "features that were not offered";
	for (unsigned i = 0; i < c->queues; i++)
		if (c->vif[i].tx_port == 0 || c->vif[i].rx_port == 0)
			return "a queue without a port";
	if (c->features & PV_VIF_CTRL_RING && c->ctrl_port == 0)
		return "a control ring without a port";
	if (c->features & PV_VIF_HEADROOM && c->headroom > PV_NOXS_HEADROOM_MAX)
		return "a headroom above 2048 bytes";
	return NULL;
}

static const char *vbd_choice_fault(const struct pv_noxs_choice *c, const struct pv_noxs_vbd_offer *v)
{
	if (c->queues < 1 || c->queues > v->queues_max || c->queues > PV_NOXS_QUEUES_MAX)
		return "queues outside of what was offered";
	if (c->features & ~v->features)
		return "features that were not offered";
	if (c->ring_order > v->ring_order_max || c->ring_order > RING_ORDER_MAX)
		return "ring order above what was offered";
	if (c->abi > PV_VBD_ABI_X86_64)
		return "unknown block ABI";
	for (unsigned i = 0; i < c->queues; i++)
		if (c->vbd[i].port == 0)
			return "a queue without a port";
	return NULL;
}

/* Of a device with one page and one port, and nothing to choose. */
static const char *single_choice_fault(const struct pv_noxs_choice *c, uint32_t port)
{
	if (c->queues != 1)
		return "a device of this type has one queue";
	if (c->features)
		return "features that were not offered";
	return port == 0 ? "a queue without a port" : NULL;
}

int pv_noxs_choice_check(const struct pv_noxs_choice *choice, const struct pv_noxs_offer *offer, const char **why)
{
	if (choice->magic != PV_NOXS_MAGIC)
		*why = "no magic";
	else if (choice->version != PV_NOXS_VERSION)
		*why = "unknown version";
	else if (choice->generation != offer->generation)
		*why = "generation is not that of the offer";
	else if (choice->state != XenbusStateInitialised && choice->state != XenbusStateConnected)
		*why = "state is neither Initialised nor Connected";
	else if (offer->type == PV_NOXS_VIF)
		*why = vif_choice_fault(choice, &offer->vif);
	else if (offer->type == PV_NOXS_VBD)
		*why = vbd_choice_fault(choice, &offer->vbd);
	else if (offer->type == PV_NOXS_PIPE)
		*why = single_choice_fault(choice, choice->pipe[0].port);
	else if (offer->type == PV_NOXS_VF)
		*why = single_choice_fault(choice, choice->vf[0].port);
	else
		*why = "a device of this type has no rings to connect";
	return *why ? -EPROTO : 0;
}
