/* fuzz.h - for the fuzzers: what must hold, and a reader of the input. */
#ifndef PV_FUZZ_H
#define PV_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* A finding that no sanitizer would see. */
#define MUST(what) do { \
		if (!(what)) { \
			fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #what); \
			abort(); \
		} \
	} while (0)

struct input {
	const uint8_t *at;
	size_t left;
};

/* The next n bytes of the input to out, zeros where it has ended. */
static inline void take_bytes(struct input *in, void *out, size_t n)
{
	size_t have = n < in->left ? n : in->left;

	memset(out, 0, n);
	if (have)
		memcpy(out, in->at, have);
	in->at += have;
	in->left -= have;
}

static inline uint8_t take8(struct input *in)
{
	uint8_t v;

	take_bytes(in, &v, sizeof(v));
	return v;
}

static inline uint16_t take16(struct input *in)
{
	uint16_t v;

	take_bytes(in, &v, sizeof(v));
	return v;
}

static inline uint32_t take32(struct input *in)
{
	uint32_t v;

	take_bytes(in, &v, sizeof(v));
	return v;
}

/* n bytes in memory of exactly that size, so that a sanitizer sees who reads beyond. The caller's to free. */
static inline void *exact(const void *data, size_t n)
{
	void *p = malloc(n ? n : 1);

	MUST(p);
	if (n)
		memcpy(p, data, n);
	return p;
}

#endif
