/* packet_port.h - a network device of Linux as a path of packets: by an AF_PACKET socket, with blank checksums and large segments as they are.
 *
 * The device is taken: it is brought up, the kernel's IPv6 leaves it alone, and nobody else should use it. Internal to pvio-tap.
 * Thread rule: one thread.
 */
#ifndef PV_PACKET_PORT_H
#define PV_PACKET_PORT_H

#include <pvio/pair.h>

struct packet_port;

/* The device of that name, in our network namespace. Returns 0; -ENODEV: there is none; -ENETDOWN: it is down or has no carrier; -EADDRNOTAVAIL: its
 * address is another; -errno; with one line in why. */
int packet_port_open(const char *name, const uint8_t mac[6], struct packet_port **out, char *why, size_t len);
void packet_port_close(struct packet_port *p); /* NULL is fine */

int packet_port_fd(const struct packet_port *p); /* readable: something to receive */
bool packet_port_works(const struct packet_port *p); /* it is still there, up, and has a carrier */
struct pv_netpair_path packet_port_path(struct packet_port *p); /* it receives on queue 0 */
uint64_t packet_port_dropped(struct packet_port *p); /* packets that could not be passed on, or that the kernel had no room for */

/* A socket that is readable when a network device of this namespace came, went or changed. Returns it or -errno. */
int packet_port_watch(void);
void packet_port_watched(int fd); /* it was readable */

#endif
