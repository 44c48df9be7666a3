/* capture.h - packets of a vif, copied to who asked for them, as a pcapng file. */
#ifndef NETBACK_CAPTURE_H
#define NETBACK_CAPTURE_H

#include <json-c/json.h>
#include <poll.h>
#include <rte_mbuf.h>
#include <stddef.h>
#include <stdint.h>

struct netback;
struct nb_worker;
struct vif;

/* ---- pcapng.c: blocks of a file with one interface; pure ---- */
enum { PCAPNG_NAME_MAX = 100, PCAPNG_ROOM = 512 /* bytes that any block takes at most, beside its packet's */ };

/* As the guest sees it, whose interface it is. */
enum pcapng_direction { PCAPNG_INBOUND = 1, PCAPNG_OUTBOUND = 2 };

struct pcapng_totals {
	uint64_t begin_ns, end_ns; /* since 1970 */
	uint64_t written, dropped; /* packets */
};

/* Each returns the bytes that it put into buf, which has PCAPNG_ROOM, and cap more for a packet. */
size_t pcapng_begin(uint8_t *buf, const char *name, const uint8_t mac[6], uint32_t snaplen);
/* len: the packet's own; cap: of it, what is in data. */
size_t pcapng_packet(uint8_t *buf, uint64_t ns, enum pcapng_direction direction, uint32_t len, const void *data, uint32_t cap);
size_t pcapng_end(uint8_t *buf, const struct pcapng_totals *t);

/* ---- capture.c ---- */
enum { CAPTURES_MAX = 16, CAPTURE_MS = 10 /* how often capture_work is to be called while there are any */ };

/* Control thread. "capture" of ask.c: {path, name, snaplen?, count?, direction?}. */
struct json_object *capture_ask(struct vif *vif, struct json_object *params, int *error, char *why, size_t len);
struct json_object *capture_report(const struct vif *vif); /* NULL: it is not captured */
unsigned capture_poll(const struct netback *nb, struct pollfd fds[CAPTURES_MAX]); /* when else to call capture_work. How many */
void capture_work(struct netback *nb);
void capture_leave(struct vif *vif); /* the vif goes away; no worker has it any more */
void capture_end_all(struct netback *nb);

/* Any worker: m came from the vif's guest (outbound), or is on its way to it. */
void capture_packet(struct nb_worker *w, struct vif *vif, const struct rte_mbuf *m, enum pcapng_direction direction);

#endif
