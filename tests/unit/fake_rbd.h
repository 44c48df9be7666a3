/* fake_rbd.h - what a test sets and sees of fake_rbd.c. */
#ifndef FAKE_RBD_H
#define FAKE_RBD_H

#include <stdbool.h>
#include <stdint.h>

enum { FAKE_BYTES = 4 << 20 };

struct fake_rbd {
	uint8_t disk[FAKE_BYTES];
	uint64_t bytes; /* size of the image */
	int connect, lock, io; /* what these calls return, and I/O ends with: 0 or -errno */
	bool hold; /* I/O does not end until the next one that may */
	bool cached; /* librbd would answer what it has not written */
	unsigned opened, locked, flushes, discards; /* images open now; calls */
	char pool[64], image[64], snapshot[64], conf[64], id[64];
};

#endif
