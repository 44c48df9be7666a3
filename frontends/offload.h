/* offload.h - checksums left to others, and large TCP packets: between the kernel's TAP (virtio_net_hdr) and Xen's rings.
 *
 * The kernel's header tells where a checksum is, Xen's flags only that there is one. Pure. Internal to pvio-tap.
 */
#ifndef PV_FRONT_OFFLOAD_H
#define PV_FRONT_OFFLOAD_H

#include <linux/virtio_net.h>
#include <pvio/netfront.h>

/* A frame and its header, as the kernel gave them, as a packet for a device with the agreed PV_VIF_* features. A checksum that
 * the device does not take blank is completed in the frame (the kernel has one switch for IPv4 and IPv6). False: the frame
 * cannot be sent. */
bool offload_to_packet(uint8_t *frame, unsigned len, const struct virtio_net_hdr *h, uint32_t agreed, struct pv_netfront_packet *p);

/* The header for a received packet. Where a checksum is blank the pseudo header's sum, which the kernel expects there, is
 * written into the frame, whatever was in it. A frame that is not what its flags say passes without them. */
struct virtio_net_hdr offload_to_header(uint8_t *frame, const struct pv_netfront_packet *p);

#endif
