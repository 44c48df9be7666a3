/* pair.c - a vif and a VF as one network interface.
 *
 * Theory of operation. One path is in use: packets are sent by it alone. To turn to the other (dom0 says so, the VF came or went) nothing is
 * sent until what the old path took has left it, so that nothing overtakes; a path that is gone, or stuck, is not waited for, and what it had is
 * counted. Then a broadcast by the new path teaches the switches where our address is, and dom0 is told, a moment later: what was on its
 * way to the old path is to arrive before that is taken from us.
 *
 * Both paths are received from at all times, for there is hardware that gives a VF what is for its address, whoever sent last. Three things
 * would come twice: what is sent to a group reaches both paths (the first of two equal ones counts), and what we broadcast comes back by the other
 * (its source is our address). What is for our address alone a switch gives to one path; or to both, until it has learned where we are.
 *
 * Order: what was on its way to the path that was left is to be received before what comes by the new one. The broadcast tells when that is so: the
 * switch that learns from it where we are gives it to the other path too, behind all that it gave it before. Until it has come back there (it
 * bears the number of the turn) the new path is not received from, or until that takes too long, for there are NICs that give nobody what he sent.
 */
#include <errno.h>
#include <pvio/front.h>
#include <pvio/pair.h>
#include <stdlib.h>
#include <string.h>

enum {
	DRAIN_MS = 100,
	FENCE_VIF_MS = 100, /* behind the vif is a process, which may have to wait for its turn ... */
	FENCE_VF_MS = 5, /* ... and behind the VF is none */
	SETTLE_MS = 20, /* from the broadcast to telling dom0, if it does not come back */
	ANNOUNCES = 3, ANNOUNCE_MS = 100, /* broadcasts, for they can be lost, and how far apart */
	COPY_MS = 500, /* two equal packets of two paths are one, if they are not further apart; ARP asks again after a second */
	RECENT = 32,
	BURST = 64, /* packets looked at at once */
	TURNS = 8, /* bursts of nothing but copies, before the caller has its turn */
	ETH_LEN = 14, RARP_LEN = 60, RARP_TURN = 42, /* in its padding: the number of the turn */
};

enum path { VIF, VF };

static enum path other(enum path path)
{
	return path == VIF ? VF : VIF;
}

/* A packet to a group that one path brought. */
struct recent {
	uint64_t hash, until; /* ms; 0: none */
	enum path path;
};

/* Owner: the caller of pv_netpair_open; one thread. */
struct pv_netpair {
	struct pv_netfront *vif;
	struct pv_netpair_config config;
	struct pv_netpair_path vf;
	bool there; /* the VF */
	enum path used;
	bool draining; /* what it has is to leave it, for the other is to be used */
	uint64_t drain_until; /* ms, as all of these */
	uint64_t fence_until; /* the used path is not received from; 0: it is */
	uint32_t turns;
	uint64_t announce_at;
	unsigned announces; /* still to be sent */
	uint64_t say_at;
	enum pv_vif_pair said;
	struct recent recent[RECENT];
	unsigned next_recent;
	struct pv_netpair_stats stats;
};

static bool connected(const struct pv_netpair *p)
{
	return pv_netfront_state(p->vif) == XenbusStateConnected;
}

/* ---- turning from one path to the other ---- */

static unsigned unsent(struct pv_netpair *p, enum path path)
{
	if (path == VIF)
		return pv_netfront_unsent(p->vif);
	return p->vf.unsent ? p->vf.unsent(p->vf.ctx) : 0;
}

static int path_send(struct pv_netpair *p, enum path path, unsigned queue, const struct pv_netfront_packet *packet, unsigned n)
{
	return path == VIF ? pv_netfront_send(p->vif, queue, packet, n) : p->vf.send(p->vf.ctx, queue, packet, n);
}

/* A request of reverse ARP for our own address, which nobody answers: as after a migration, it needs no IP address. */
static void announce(struct pv_netpair *p, uint64_t now)
{
	static const uint8_t head[] = { 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3 };
	const uint8_t *mac = pv_netfront_offer(p->vif)->mac;
	uint8_t frame[RARP_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const struct pv_netfront_packet packet = { .data = frame, .len = sizeof(frame) };

	if (!p->announces || now < p->announce_at)
		return;
	memcpy(frame + 6, mac, 6);
	memcpy(frame + 12, head, sizeof(head));
	memcpy(frame + 22, mac, 6);
	memcpy(frame + 32, mac, 6);
	memcpy(frame + RARP_TURN, &p->turns, sizeof(p->turns));
	p->announce_at = now + ANNOUNCE_MS;
	if (path_send(p, p->used, 0, &packet, 1) != 1)
		return; /* no room, or no path for now: later */
	p->announces--;
	p->stats.announced++;
}

/* How long what is on its way by a path that is left may take. */
static unsigned fence_ms(const struct pv_netpair *p, enum path path)
{
	if (path == VIF ? !connected(p) : !p->there)
		return 0;
	if (p->config.fence_ms)
		return p->config.fence_ms;
	return path == VIF ? FENCE_VIF_MS : FENCE_VF_MS;
}

static void turn_to(struct pv_netpair *p, enum path path)
{
	uint64_t now = front_now_ms();
	unsigned ms = fence_ms(p, p->used);

	p->used = path;
	p->draining = false;
	++*(path == VF ? &p->stats.to_vf : &p->stats.to_vif);
	p->turns++;
	p->fence_until = ms ? now + ms : 0;
	p->announces = ANNOUNCES;
	p->announce_at = now;
	p->say_at = now + SETTLE_MS;
	announce(p, now);
}

static enum path wanted(const struct pv_netpair *p)
{
	if (!p->there)
		return VIF;
	if (pv_netfront_offer(p->vif)->pair == PV_VIF_USE_VF)
		return VF;
	return connected(p) ? VIF : p->used; /* it is to be left, but not for nothing */
}

static void steer(struct pv_netpair *p)
{
	enum path path = wanted(p);
	unsigned left;

	if (path == p->used) {
		p->draining = false;
		return;
	}
	if (!p->draining)
		p->drain_until = front_now_ms() + p->config.drain_ms;
	p->draining = true;
	left = unsent(p, p->used);
	if (left && front_now_ms() < p->drain_until)
		return;
	p->stats.tx_lost_stuck += left;
	turn_to(p, path);
}

static void vf_gone(struct pv_netpair *p)
{
	unsigned left = unsent(p, VF);

	p->there = false;
	p->fence_until = 0; /* nothing comes by it any more, and nobody waits for it */
	if (p->used == VF) {
		p->stats.tx_lost_gone += left;
		turn_to(p, VIF);
	}
	steer(p);
}

void pv_netpair_vf(struct pv_netpair *p, const struct pv_netpair_path *path)
{
	if (p->there)
		vf_gone(p);
	if (!path)
		return;
	p->vf = *path;
	p->there = true;
	steer(p);
}

/* Dom0 hears what we use when it is so for a moment. */
static void say(struct pv_netpair *p, uint64_t now)
{
	enum pv_vif_pair pair = p->used == VF ? PV_VIF_USE_VF : PV_VIF_USE_VIF;

	if (pv_netfront_offer(p->vif)->pair == PV_VIF_ALONE || p->said == pair || p->draining || now < p->say_at)
		return;
	p->said = pair;
	pv_netfront_say_pair(p->vif, pair);
}

int pv_netpair_work(struct pv_netpair *p)
{
	int rc = pv_netfront_work(p->vif);
	bool draining = p->draining, fence = p->fence_until;
	uint64_t now;

	if (rc < 0)
		return rc;
	steer(p);
	now = front_now_ms();
	announce(p, now);
	say(p, now);
	if (now >= p->fence_until)
		p->fence_until = 0;
	return rc | (draining && !p->draining) | (fence && !p->fence_until);
}

static int sooner(int ms, uint64_t at, uint64_t now)
{
	int left = at <= now ? 1 : (int)(at - now);

	return ms < 0 || left < ms ? left : ms;
}

int pv_netpair_timeout(const struct pv_netpair *p)
{
	enum pv_vif_pair pair = p->used == VF ? PV_VIF_USE_VF : PV_VIF_USE_VIF;
	uint64_t now = front_now_ms();
	int ms = -1;

	if (p->draining)
		return 1;
	if (p->announces)
		ms = sooner(ms, p->announce_at, now);
	if (p->fence_until)
		ms = sooner(ms, p->fence_until, now);
	if (pv_netfront_offer(p->vif)->pair != PV_VIF_ALONE && p->said != pair)
		ms = sooner(ms, p->say_at, now);
	return ms;
}

/* ---- sending ---- */

int pv_netpair_send(struct pv_netpair *p, unsigned queue, const struct pv_netfront_packet *packet, unsigned n)
{
	int rc;

	if (p->draining)
		steer(p);
	if (p->draining)
		return 0;
	rc = path_send(p, p->used, queue, packet, n);
	if (p->used == VIF || rc >= 0 || rc == -EINVAL)
		return rc;
	vf_gone(p);
	return pv_netfront_send(p->vif, queue, packet, n);
}

/* ---- what came twice ---- */

/* Where the checksum of a UDP packet is, which one path may have left blank; 0: it is none. Others are not sent to groups without theirs. */
static uint32_t checksum_at(const uint8_t *frame, uint32_t len)
{
	uint32_t at = 0;

	if (len >= 34 && frame[12] == 8 && frame[13] == 0 && frame[23] == 17)
		at = 14 + (frame[14] & 15) * 4 + 6;
	else if (len >= 54 && frame[12] == 0x86 && frame[13] == 0xdd && frame[20] == 17)
		at = 54 + 6;
	return at + 2 <= len ? at : 0;
}

static uint64_t hash_bytes(uint64_t hash, const uint8_t *at, uint32_t len)
{
	for (; len; at += 8, len -= len < 8 ? len : 8) {
		uint64_t word = 0;

		memcpy(&word, at, len < 8 ? len : 8);
		hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 29;
	}
	return hash;
}

static uint64_t hash_frame(const uint8_t *frame, uint32_t len)
{
	uint32_t blank = checksum_at(frame, len);

	if (!blank)
		return hash_bytes(len, frame, len);
	return hash_bytes(hash_bytes(len, frame, blank), frame + blank + 2, len - blank - 2);
}

/* Has the other path brought the same? It is forgotten then: of three equal ones the third is another packet. Else it is remembered. */
static bool is_copy(struct pv_netpair *p, enum path path, const struct pv_netfront_packet *packet)
{
	uint64_t hash = hash_frame(packet->data, packet->len), now = front_now_ms();
	struct recent *r;

	for (r = p->recent; r < p->recent + RECENT; r++) {
		if (r->hash != hash || r->path == path || r->until < now)
			continue;
		r->until = 0;
		return true;
	}
	p->recent[p->next_recent] = (struct recent){ .hash = hash, .until = now + COPY_MS, .path = path };
	p->next_recent = (p->next_recent + 1) % RECENT;
	return false;
}

/* Our broadcast of this turn, by the path that was left: all that was before it has come. */
static void lift_fence(struct pv_netpair *p, enum path path, const struct pv_netfront_packet *packet)
{
	const uint8_t *frame = packet->data;

	if (path == p->used || packet->len < RARP_LEN || frame[12] != 0x80 || frame[13] != 0x35 || memcmp(frame + RARP_TURN, &p->turns, sizeof(p->turns)))
		return;
	p->fence_until = 0;
	p->say_at = 0;
}

static bool is_news(struct pv_netpair *p, enum path path, const struct pv_netfront_packet *packet)
{
	const uint8_t *frame = packet->data;

	if (packet->len < ETH_LEN)
		return true;
	if (memcmp(frame + 6, pv_netfront_offer(p->vif)->mac, 6) == 0) {
		p->stats.rx_own++;
		lift_fence(p, path, packet);
		return false;
	}
	if (frame[0] & 1 && is_copy(p, path, packet)) {
		p->stats.rx_copies++;
		return false;
	}
	p->stats.rx_late += path != p->used;
	return true;
}

/* ---- receiving ---- */

static int path_recv(struct pv_netpair *p, enum path path, unsigned queue, struct pv_netfront_packet *packet, unsigned n)
{
	int rc;

	if (path == VIF)
		return pv_netfront_recv(p->vif, queue, packet, n);
	if (!p->there)
		return 0;
	rc = p->vf.recv(p->vf.ctx, queue, packet, n);
	if (rc >= 0 || rc == -EAGAIN)
		return rc;
	vf_gone(p);
	return 0;
}

/* The packets that are news come to the front; the others get their room back. Returns how many are. */
static int sort_out(struct pv_netpair *p, enum path path, struct pv_netfront_packet *packet, const uint32_t *room, int n)
{
	int kept = 0;

	for (int i = 0; i < n; i++) {
		struct pv_netfront_packet this = packet[i];

		if (!is_news(p, path, &this)) {
			packet[i].len = room[i];
			continue;
		}
		packet[i] = packet[kept]; /* a dropped one, or itself */
		packet[kept++] = this;
	}
	return kept;
}

/* Packets of one path. Returns as pv_netfront_recv. */
static int take(struct pv_netpair *p, enum path path, unsigned queue, struct pv_netfront_packet *packet, unsigned n)
{
	uint32_t room[BURST];

	if (n > BURST)
		n = BURST;
	for (unsigned turn = 0; turn < TURNS; turn++) {
		int rc;

		for (unsigned i = 0; i < n; i++)
			room[i] = packet[i].len;
		rc = path_recv(p, path, queue, packet, n);
		if (rc > 0)
			rc = sort_out(p, path, packet, room, rc);
		else
			return rc;
		if (rc > 0)
			return rc;
	}
	return -EAGAIN;
}

int pv_netpair_recv(struct pv_netpair *p, unsigned queue, struct pv_netfront_packet *packet, unsigned n)
{
	int rc;

	if (!p->there && pv_netfront_offer(p->vif)->pair == PV_VIF_ALONE)
		return pv_netfront_recv(p->vif, queue, packet, n);
	rc = take(p, other(p->used), queue, packet, n);
	if (rc || p->fence_until)
		return rc;
	return take(p, p->used, queue, packet, n);
}

/* ---- life ---- */

int pv_netpair_open(struct pv_netfront *vif, const struct pv_netpair_config *c, struct pv_netpair **out)
{
	struct pv_netpair *p = calloc(1, sizeof(*p));

	*out = NULL;
	if (!p)
		return -ENOMEM;
	p->vif = vif;
	if (c)
		p->config = *c;
	if (!p->config.drain_ms)
		p->config.drain_ms = DRAIN_MS;
	*out = p;
	return 0;
}

void pv_netpair_close(struct pv_netpair *p)
{
	free(p);
}

bool pv_netpair_has_vf(const struct pv_netpair *p)
{
	return p->there;
}

bool pv_netpair_uses_vf(const struct pv_netpair *p)
{
	return p->used == VF;
}

void pv_netpair_stats(const struct pv_netpair *p, struct pv_netpair_stats *out)
{
	*out = p->stats;
}
