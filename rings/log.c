/* log.c - see log.h. */
#include "log.h"
#include "text.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1024, BURST = 10 };
static const uint64_t line_ns = 1000000000; /* what a line costs a peer */

const char *const pv_log_names[] = { "err", "warn", "info", "debug", NULL };
static const char *name = "pvio"; /* both set before threads start */
static enum pv_log_level shown = PV_LOG_INFO;

void pv_log_open(const char *program, enum pv_log_level level)
{
	name = program;
	shown = level;
}

enum pv_log_level pv_log_shown(void)
{
	return shown;
}

static void put(enum pv_log_level level, unsigned dropped, const char *fmt, va_list ap)
{
	static const char *const prefix[] = { "error: ", "warning: ", "", "debug: " };
	char line[LINE_MAX_BYTES];
	int n = snprintf(line, sizeof(line), "%s: %s", name, prefix[level]);

	vsnprintf(line + n, sizeof(line) - (size_t)n - 48, fmt, ap);
	pv_text_clean(line); /* a peer's words must not look like lines of ours */
	n = (int)strlen(line);
	if (dropped)
		n += snprintf(line + n, sizeof(line) - (size_t)n, " (and %u lines like it before)", dropped);
	line[n] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n + 1) < 0)
		return; /* nobody to tell */
}

void pv_log(enum pv_log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > shown)
		return;
	va_start(ap, fmt);
	put(level, 0, fmt, ap);
	va_end(ap);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void pv_log_about(struct pv_log_peer *peer, enum pv_log_level level, const char *fmt, ...)
{
	uint64_t now = now_ns();
	va_list ap;

	if (level > shown)
		return;
	if (peer->full_at < now)
		peer->full_at = now;
	if (peer->full_at - now > (BURST - 1) * line_ns) {
		peer->dropped++;
		return;
	}
	peer->full_at += line_ns;
	va_start(ap, fmt);
	put(level, peer->dropped, fmt, ap);
	va_end(ap);
	peer->dropped = 0;
}

int pv_why(char *why, size_t len, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (why && len)
		vsnprintf(why, len, fmt, ap);
	va_end(ap);
	return err;
}
