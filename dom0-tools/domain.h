/* domain.h - domains of Xen, built, watched and ended by libxenctrl and libxenguest alone: no xenstored, no libxl.
 *
 *	domain_build: create -> load -> memory -> image -> boot	(domain.c; a PVH guest's memory map and tables: domain_pvh.c)
 *
 * Thread rule: domain_build runs on any thread, and nothing here is shared between threads. It may take seconds; destroying a
 * large domain as well: pviod calls these two off its loop. A struct domctl belongs to one thread.
 * Results are 0 or -errno with a line in `why` that names what failed. Nothing here prints.
 */
#ifndef PV_DOMAIN_H
#define PV_DOMAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DOMAIN_VCPUS_MAX = 128, DOMAIN_MEMORY_MAX = 1 << 23 /* MiB */ };

struct domain_spec {
	bool pvh; /* else PV */
	const char *kernel; /* a path: bzImage or ELF */
	const char *ramdisk, *cmdline; /* NULL: none */
	unsigned memory; /* MiB */
	unsigned vcpus;
	bool passthrough; /* PV: PCI devices can be assigned to it */
	uint16_t domid; /* 0: whichever is free */
	bool wish; /* domid: another, if that is not free soon */
	uint8_t uuid[16]; /* all 0: a random one */
};

enum domain_step { DOMAIN_CREATE, DOMAIN_LOAD, DOMAIN_MEMORY, DOMAIN_IMAGE, DOMAIN_BOOT, DOMAIN_STEPS };

struct domain_made {
	uint16_t domid;
	uint8_t uuid[16];
	uint32_t store_port, console_port; /* the guest's, unbound, waiting for domain 0 */
	double ms[DOMAIN_STEPS]; /* how long each step took */
};

/* Build a domain and leave it paused, with the store page (grant GNTTAB_RESERVED_XENSTORE) and the console page
 * (GNTTAB_RESERVED_CONSOLE) granted to domain 0. A failure leaves nothing behind. Returns 0 or -errno with `why`: -EINVAL a
 * wrong spec, -EEXIST the domid is taken, -ENOMEM Xen has not that much memory, -ENOEXEC no kernel that Xen can start,
 * -EOPNOTSUPP this host runs no such guests, those of domctl_open, and others. */
int domain_build(const struct domain_spec *spec, struct domain_made *out, char *why, size_t len);
const char *domain_step_name(enum domain_step step);

/* ---- control ---- */

struct domctl; /* a handle for Xen's control calls */

/* -ENOENT, -EACCES: no /dev/xen/privcmd for us. *out is NULL on failure. */
int domctl_open(struct domctl **out, char *why, size_t len);
void domctl_close(struct domctl *c); /* NULL is fine */

int domain_pause(struct domctl *c, uint16_t domid);
int domain_unpause(struct domctl *c, uint16_t domid);
int domain_destroy(struct domctl *c, uint16_t domid); /* 0 as well if there is none */

enum domain_state { DOMAIN_RUNNING, DOMAIN_BLOCKED, DOMAIN_PAUSED, DOMAIN_SHUTDOWN, DOMAIN_DYING, DOMAIN_STATES };

struct domain_info {
	uint16_t domid;
	uint8_t uuid[16];
	enum domain_state state;
	unsigned reason; /* of DOMAIN_SHUTDOWN: SHUTDOWN_* of Xen's sched.h */
	bool hvm; /* PVH or HVM, else PV */
	uint64_t memory; /* KiB that it has */
	unsigned vcpus; /* that it has, online or not */
	uint64_t cpu_ns;
};

/* How domain domid does. Returns 0; -ESRCH: there is none; other -errno. */
int domain_look(struct domctl *c, uint16_t domid, struct domain_info *out);
/* Call each(arg, info) for every domain but 0, in ascending order, many of them a hypercall or two. Returns 0 or -errno. */
int domain_each(struct domctl *c, void (*each)(void *arg, const struct domain_info *info), void *arg);
enum { DOMAIN_UUID_TEXT = 37 };
void domain_uuid_text(const uint8_t uuid[16], char text[DOMAIN_UUID_TEXT]); /* pure */
const char *domain_state_name(enum domain_state state);
const char *domain_reason_name(unsigned reason);

struct xen_domctl_getdomaininfo;
void domain_info_from(const struct xen_domctl_getdomaininfo *from, struct domain_info *to); /* pure */

/* ---- domain_pv.c: a PV guest's memory map, if it has one. Pure. ---- */

/* A PV guest without one has all its memory in one piece from 0 up, and where PCI devices' registers are no room for them. hole: where the
 * host's memory ends below 4 GiB, and its devices may begin. What has no place below it follows from 4 GiB up. */
enum { PV_MAP_MAX = 2 };
struct e820entry;
uint64_t pv_memory_hole(const struct e820entry *host, unsigned n); /* 0: there is none that we see */
unsigned pv_memory_map(uint64_t bytes, uint64_t hole, struct e820entry *map); /* PV_MAP_MAX have room; returns how many there are */

/* ---- domain_pvh.c: what a PVH guest finds in its memory beside its kernel. Pure. ---- */

/* Guest-physical memory: RAM from 0 up, a hole below 4 GiB with our ACPI tables at its start, the special pages of
 * libxenguest and the LAPIC in it, and above 4 GiB the RAM that had no place below the hole. */
enum { PVH_ACPI_BYTES = 4096, PVH_MAP_MAX = 4 };
#define PVH_HOLE_START 0xfc000000ull
#define PVH_HOLE_END 0x100000000ull
#define PVH_LAPIC 0xfee00000u

struct pvh_memory {
	uint64_t low_end; /* RAM is 0 .. low_end ... */
	uint64_t high_end; /* ... and PVH_HOLE_END .. high_end; 0: none */
};

void pvh_memory_layout(uint64_t bytes, struct pvh_memory *m);

unsigned pvh_memory_map(const struct pvh_memory *m, struct e820entry *map); /* PVH_MAP_MAX entries have room; returns how many there are */

/* The least ACPI that Linux needs (RSDP, XSDT, FADT with HW_REDUCED, an empty DSDT, MADT) into page[PVH_ACPI_BYTES], for the
 * guest-physical address base; the RSDP is at its start. Without the MADT, Linux never takes Xen's timer and hangs. */
void pvh_acpi_tables(uint8_t *page, uint64_t base, unsigned vcpus);

#endif
