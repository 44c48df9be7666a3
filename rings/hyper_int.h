/* hyper_int.h - private: what hyper.c and the ports behind it (hyper_loopback.h, hyper_xen.h) give each other. */
#ifndef PV_HYPER_INT_H
#define PV_HYPER_INT_H

#include "hyper.h"

enum { HYPER_PAGE = 4096 };

/* Note the words of a failure. Returns err. */
int hyper_fail(struct pv_hyper *h, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* mmap said ENOMEM: of its two meanings, which? Returns -ENOSPC (out of mappings) or -ENOMEM, with words. */
int hyper_no_memory(struct pv_hyper *h, const char *what);

/* The beginning of a file of /proc or /sys, as text. Returns its length, 0 if there is none. */
size_t hyper_text(const char *path, char *buf, size_t len);

/* The number in such a file, -1: none there. */
long hyper_number(const char *path);

int loopback_open(const char *path, int domid, struct pv_hyper **out, char *why, size_t len);
int xen_open(int domid, struct pv_hyper **out, char *why, size_t len);

#endif
