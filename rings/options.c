/* options.c - see options.h. */
#include "options.h"
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xen/xen.h>

int pv_options_wrong(const struct pv_program *p, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s: %s; %s --help tells more\n", p->name, line, p->name);
	return 2;
}

static int help(const struct pv_program *p)
{
	char left[64];

	printf("usage: %s %s\n\n%s\n\n", p->name, p->usage, p->about);
	for (const struct pv_option *o = p->options; o->name; o++) {
		snprintf(left, sizeof(left), "%s%s%s%s", o->operand ? "" : "--", o->name, o->operand ? "=" : o->value ? " " : "", o->value ? o->value : "");
		printf("  %-24s %s\n", left, o->help);
	}
	printf("  %-24s %s\n  %-24s %s\n", "--help", "this text", "--version", "the version");
	if (p->more_help)
		p->more_help();
	return 0;
}

static const struct pv_option *find(const struct pv_option *o, const char *name, size_t len, bool operands_only)
{
	for (; o->name; o++)
		if ((o->operand || !operands_only) && strlen(o->name) == len && !memcmp(o->name, name, len))
			return o;
	return NULL;
}

/* One word: its row, and its value if that is in the same word. */
static const struct pv_option *row_of(const struct pv_program *p, const char *word, const char **value)
{
	bool dashes = !strncmp(word, "--", 2);
	const char *name = word + (dashes ? 2 : 0), *equals = strchr(name, '=');

	*value = equals ? equals + 1 : NULL;
	if (!dashes && !equals)
		return NULL;
	return find(p->options, name, equals ? (size_t)(equals - name) : strlen(name), !dashes);
}

int pv_options_parse(const struct pv_program *p, int argc, char **argv, void *fields)
{
	for (int i = 1; i < argc; i++) {
		const struct pv_option *o;
		const char *value;
		int ret;

		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return help(p);
		if (!strcmp(argv[i], "--version"))
			return printf("%s %s\n", p->name, PVIO_VERSION) < 0;
		o = row_of(p, argv[i], &value);
		if (!o)
			return pv_options_wrong(p, "'%s' is not an option", argv[i]);
		if (!o->value) {
			if (value)
				return pv_options_wrong(p, "--%s takes no value", o->name);
			*(bool *)((char *)fields + o->field) = true;
			continue;
		}
		if (!value && i + 1 < argc)
			value = argv[++i];
		if (!value)
			return pv_options_wrong(p, "--%s needs a value (%s)", o->name, o->value);
		ret = o->parse(o, value, (char *)fields + o->field);
		if (ret == -ENXIO)
			return pv_options_wrong(p, "--%s %s: this machine has %ld CPUs, and numbers them from 0", o->name, value,
						sysconf(_SC_NPROCESSORS_CONF));
		if (ret < 0)
			return pv_options_wrong(p, "%s%s: '%s' is not a usable %s", o->operand ? "" : "--", o->name, value, o->value);
	}
	return -1;
}

/* A decimal number from the start of text; *end is what follows. */
static int number(const char *text, uint64_t *out, const char **end)
{
	char *e;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*out = strtoull(text, &e, 10);
	*end = e;
	return errno ? -EINVAL : 0;
}

int pv_option_text(const struct pv_option *o, const char *text, void *field)
{
	(void)o;
	*(const char **)field = text;
	return *text ? 0 : -EINVAL;
}

int pv_option_number(const struct pv_option *o, const char *text, void *field)
{
	const char *end;
	uint64_t n;

	if (number(text, &n, &end) || *end || n < o->min || n > o->max)
		return -EINVAL;
	*(unsigned *)field = (unsigned)n;
	return 0;
}

int pv_option_domid(const struct pv_option *o, const char *text, void *field)
{
	const char *end;
	uint64_t n;

	(void)o;
	if (number(text, &n, &end) || *end || n >= DOMID_FIRST_RESERVED)
		return -EINVAL;
	*(int *)field = (int)n;
	return 0;
}

int pv_option_name(const struct pv_option *o, const char *text, void *field)
{
	for (unsigned i = 0; o->names[i]; i++)
		if (!strcmp(text, o->names[i])) {
			*(unsigned *)field = i;
			return 0;
		}
	return -EINVAL;
}

int pv_option_size(const struct pv_option *o, const char *text, void *field)
{
	static const struct {
		const char *name;
		uint64_t bytes;
	} unit[] = {
		{ "", 1 }, { "k", 1 << 10 }, { "K", 1 << 10 }, { "M", 1 << 20 }, { "G", 1 << 30 }, { "T", 1ull << 40 },
		{ "kB", 1000 }, { "MB", 1000000 }, { "GB", 1000000000 }, { "KiB", 1 << 10 }, { "MiB", 1 << 20 }, { "GiB", 1 << 30 },
	};
	const char *end;
	uint64_t n;

	(void)o;
	if (number(text, &n, &end))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(unit) / sizeof(unit[0]); i++)
		if (!strcmp(end, unit[i].name))
			return __builtin_mul_overflow(n, unit[i].bytes, (uint64_t *)field) ? -EINVAL : 0;
	return -EINVAL;
}

int pv_option_seconds(const struct pv_option *o, const char *text, void *field)
{
	char *end;
	double seconds;

	(void)o;
	if (*text < '0' || *text > '9')
		return -EINVAL;
	seconds = strtod(text, &end);
	if (*end || seconds > INT_MAX / 1000)
		return -EINVAL;
	*(int *)field = (int)(seconds * 1000);
	return 0;
}

int pv_option_cpus(const struct pv_option *o, const char *text, void *field)
{
	struct pv_cpus *cpus = field;
	const char *end;
	uint64_t first, last, have = sysconf(_SC_NPROCESSORS_CONF);

	(void)o;
	*cpus = (struct pv_cpus){ 0 };
	for (;; text = end + 1) {
		if (number(text, &first, &end))
			return -EINVAL;
		last = first;
		if (*end == '-' && number(end + 1, &last, &end))
			return -EINVAL;
		if (last < first || last - first >= PV_CPUS_MAX - cpus->nr)
			return -EINVAL;
		if (last >= have)
			return -ENXIO;
		while (first <= last)
			cpus->cpu[cpus->nr++] = (int)first++;
		if (*end != ',')
			return *end ? -EINVAL : 0;
	}
}
