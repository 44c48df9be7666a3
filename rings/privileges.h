/* privileges.h - give up what root may do and a program does not need.
 *
 * Xen's devices (/dev/xen/evtchn, gntdev, gntalloc, privcmd) ask for permission on the file when they are opened, and nothing of
 * what pvio does with them needs a capability. Internal to pvio's programs; not installed.
 */
#ifndef PV_PRIVILEGES_H
#define PV_PRIVILEGES_H

/* Keep these capabilities only (CAP_..., ended by -1), for good: nothing that is executed later has more either, set-user-id or not.
 * Of the calling thread and of those that it starts later, so call it before any. Returns 0 or -errno. */
int pv_privileges_keep(const int *caps);

#endif
