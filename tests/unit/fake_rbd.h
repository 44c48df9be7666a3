/* fake_rbd.h - what a test sets and sees of fake_rbd.c. */
#ifndef FAKE_RBD_H
#define FAKE_RBD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { FAKE_BYTES = 4 << 20 };
#define FAKE_ADDRESS "192.0.2.1:0/77"

struct fake_rbd {
	uint8_t disk[FAKE_BYTES];
	uint64_t bytes; /* size of the image */
	int connect, lock, io; /* what these calls return, and I/O ends with: 0 or -errno */
	bool hold; /* I/O does not end until the next one that may */
	_Atomic bool open_held, close_held; /* these calls, the first of an image called "away", wait until it is not set any more */
	_Atomic unsigned opened; /* images open now */
	unsigned locked, flushes, discards; /* calls */
	_Atomic bool cached; /* librbd would answer what it has not written */
	char pool[64], image[64], snapshot[64], conf[64], id[64], broken[64]; /* the last: whose lock was broken */
};

#endif
