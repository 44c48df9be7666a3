/* log.c - lines to stderr, one write each. */
#include "blkback.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = { "err", "warn", "info", "debug" };
static enum blklog_level shown = BLKLOG_INFO; /* set before the threads start */

int blklog_set(const char *level)
{
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(level, names[i]))
			continue;
		shown = i;
		return 0;
	}
	return -EINVAL;
}

void blklog(enum blklog_level level, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (level > shown)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "pvio-blkback: %s: %s\n", names[level], line);
}
