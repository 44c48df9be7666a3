/* log.c - one line an event, to stderr. A peer that causes lines has a budget; what it lost is said with its next line. */
#include "pviod.h"
#include <stdarg.h>
#include <stdio.h>

static const struct limit log_limit = { .burst = 10, .rate = 1 };

static void put(const char *fmt, va_list ap)
{
	char line[512];

	vsnprintf(line, sizeof(line), fmt, ap);
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?'; /* a peer's words must not look like lines of ours */
	fprintf(stderr, "pviod: %s\n", line);
}

void log_line(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(fmt, ap);
	va_end(ap);
}

void log_about(struct log_peer *p, uint64_t now, const char *fmt, ...)
{
	va_list ap;

	if (!bucket_take(&p->bucket, &log_limit, now)) {
		p->dropped++;
		return;
	}
	va_start(ap, fmt);
	put(fmt, ap);
	va_end(ap);
	if (p->dropped)
		log_line("(%u more lines like the one above were not written)", p->dropped);
	p->dropped = 0;
}
