/* pvio-dd.c - copy between a vbd and a file or pipe, through blkfront; and a quick measure of a vbd. Options, results. */
#include "dd.h"
#include <errno.h>
#include <pvio/hyper.h>
#include <pvio/message.h>
#include <pvio/options.h>
#include <stdio.h>
#include <string.h>

volatile sig_atomic_t dd_interrupted;

static void on_signal(int sig)
{
	dd_interrupted = sig;
}

/* ---- options ---- */

static int parse_vbd(const struct pv_option *row, const char *text, void *field)
{
	struct dd_options *o = (struct dd_options *)((char *)field - row->field);

	o->vbd = text;
	return pv_devid_of(PV_NOXS_VBD, text, &o->devid);
}

/* 0 would be "not given"; a request's length has 32 bits. */
static int parse_bs(const struct pv_option *row, const char *text, void *field)
{
	uint64_t *bs = field;

	return pv_option_size(row, text, bs) || *bs == 0 || *bs > UINT32_MAX ? -EINVAL : 0;
}

/* OFFSET,LEN */
static int parse_discard(const struct pv_option *row, const char *text, void *field)
{
	struct dd_options *o = (struct dd_options *)((char *)field - row->field);
	const char *comma = strchr(text, ',');
	char first[32];

	if (!comma || (size_t)(comma - text) >= sizeof(first))
		return -EINVAL;
	memcpy(first, text, (size_t)(comma - text));
	first[comma - text] = 0;
	if (pv_option_size(row, first, &o->discard.offset) || pv_option_size(row, comma + 1, &o->discard.len))
		return -EINVAL;
	return o->discard.len ? 0 : -EINVAL;
}

#define AT(member) offsetof(struct dd_options, member)

static const char *const kinds[] = { [BENCH_NONE] = "none", "read", "write", "randread", "randwrite", NULL };
static const char *const statuses[] = { "none", "progress", NULL };

static const struct pv_option options[] = {
	{ "domid", "N", "the guest to be (on Xen: who we are)", pv_option_domid, AT(domid) },
	{ "vbd", "NAME", "the device: xvda, xvdb .. or its number", parse_vbd, AT(vbd) },
	{ "hypervisor", "SPEC", "xen, loopback, loopback:SOCKET; default: $PVIO_HYPERVISOR, else the host's", pv_option_text, AT(hypervisor) },
	{ "wait", "SECONDS", "wait for the device to be announced (0)", pv_option_seconds, AT(wait_ms) },
	{ "if", "FILE", "write this file into the device; -: standard input", pv_option_text, AT(in), .operand = true },
	{ "of", "FILE", "read the device into this file; -: standard output", pv_option_text, AT(out), .operand = true },
	{ "bs", "BYTES", "size of a block, and of a request if the device allows (1M; bench: 4k)", parse_bs, AT(bs), .operand = true },
	{ "count", "N", "blocks to copy (all)", pv_option_size, AT(count), .operand = true },
	{ "skip", "N", "blocks to skip in what is read", pv_option_size, AT(skip), .operand = true },
	{ "seek", "N", "blocks to skip in what is written", pv_option_size, AT(seek), .operand = true },
	{ "iodepth", "N", "requests in flight (32)", pv_option_number, AT(iodepth), 1, 4096, .operand = true },
	{ "status", "KIND", "progress: a line each second; none", pv_option_name, AT(status), .names = statuses, .operand = true },
	{ "bs", "BYTES", "as bs=", parse_bs, AT(bs) },
	{ "iodepth", "N", "as iodepth=", pv_option_number, AT(iodepth), 1, 4096 },
	{ "status", "KIND", "as status=", pv_option_name, AT(status), .names = statuses },
	{ "queues", "N", "queues to use, at most (1)", pv_option_number, AT(queues), 1, PV_NOXS_QUEUES_MAX },
	{ "flush", NULL, "at the end, have the backend flush to stable storage", NULL, AT(flush) },
	{ "discard", "OFFSET,LEN", "discard these bytes of the device, before anything else", parse_discard, AT(discard) },
	{ "bench", "KIND", "measure: randread, read; randwrite, write destroy the contents", pv_option_name, AT(bench), .names = kinds },
	{ "seconds", "SECONDS", "how long to measure (2)", pv_option_seconds, AT(seconds_ms) },
	{ "json", NULL, "print the result as JSON on standard output (with of=-: standard error)", NULL, AT(json) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "pvio-dd",
	.usage = "--domid N --vbd xvda if=FILE|of=FILE [bs=1M] [count=N] [skip=N] [seek=N] [OPTION...]\n"
		 "       pvio-dd --domid N --vbd xvda --bench randread|randwrite|read|write [--bs 4k] [--iodepth 32] [--seconds 2]",
	.about = "Copy between a guest's paravirtual disk and a file or pipe, asynchronously; or measure the disk.",
	.options = options,
};

/* ---- results ---- */

static void report(struct dd *d)
{
	const struct dd_options *o = d->o;
	double s = (double)(dd_now_ns() - d->start_ns) / 1e9, mb_s = s > 0 ? (double)d->bytes / 1e6 / s : 0;
	double latency = d->ios ? (double)d->latency_ns / 1e3 / (double)d->ios : 0;
	FILE *to = o->out && !strcmp(o->out, "-") ? stderr : stdout;

	if (o->status)
		fputc('\n', stderr);
	if (o->json && o->bench)
		fprintf(to, "{\"domid\":%d,\"vbd\":\"%s\",\"bench\":\"%s\",\"bs\":%u,\"iodepth\":%u,\"queues\":%u,\"seconds\":%.3f,\"ios\":%llu,"
			"\"iops\":%.1f,\"mb_s\":%.2f,\"latency_us\":%.2f}\n", o->domid, o->vbd, kinds[o->bench], d->chunk_len, d->depth,
			pv_blkfront_queues(d->f), s, (unsigned long long)d->ios, s > 0 ? (double)d->ios / s : 0, mb_s, latency);
	else if (o->json)
		fprintf(to, "{\"domid\":%d,\"vbd\":\"%s\",\"op\":\"%s\",\"bytes\":%llu,\"seconds\":%.6f,\"mb_s\":%.2f}\n", o->domid, o->vbd,
			o->out ? "read" : o->in ? "write" : o->flush ? "flush" : "discard", (unsigned long long)d->bytes, s, mb_s);
	else if (o->bench)
		fprintf(stderr, "%s of %u bytes, %u in flight, %u queues: %.0f IOPS, %.1f MB/s, mean latency %.1f us\n", kinds[o->bench], d->chunk_len,
			d->depth, pv_blkfront_queues(d->f), s > 0 ? (double)d->ios / s : 0, mb_s, latency);
	else if (o->in || o->out)
		fprintf(stderr, "%llu bytes (%.1f MB) copied, %.3f s, %.1f MB/s\n", (unsigned long long)d->bytes, (double)d->bytes / 1e6, s, mb_s);
}

static int discard(struct dd *d)
{
	int rc = dd_single(d, PV_BLKFRONT_DISCARD, d->o->discard.offset, d->o->discard.len);

	if (rc < 0 && (!*d->why || rc == -EOPNOTSUPP || rc == -EINVAL))
		dd_fail(d, rc, "%s: discard: %s", d->o->vbd, rc == -EOPNOTSUPP ? "its backend offers none" :
		     rc == -EINVAL ? "the range is outside of the device or not in whole sectors" : strerror(-rc));
	return rc;
}

static int flush(struct dd *d)
{
	int rc;

	if (!(pv_blkfront_features(d->f) & PV_VBD_FLUSH)) {
		fprintf(stderr, "pvio-dd: %s has no flush: its backend writes through\n", d->o->vbd);
		return 0;
	}
	rc = dd_single(d, PV_BLKFRONT_FLUSH, 0, 0);
	if (rc < 0 && !*d->why)
		dd_fail(d, rc, "%s: flush: %s", d->o->vbd, strerror(-rc));
	return rc;
}

static int run(struct dd *d)
{
	const struct dd_options *o = d->o;
	int rc = dd_open_device(d);

	if (rc >= 0)
		rc = dd_make_chunks(d);
	if (rc == 0 && (o->in || o->out))
		rc = dd_open_file(d);
	if (rc == 0 && (o->in || o->out))
		rc = dd_plan(d);
	if (rc == 0 && o->discard.len)
		rc = discard(d);
	d->start_ns = dd_now_ns();
	d->told_ms = d->start_ns / 1000000;
	if (rc == 0 && o->bench)
		rc = dd_bench(d);
	if (rc == 0 && (o->in || o->out))
		rc = dd_copy(d);
	if (rc == 0 && o->flush)
		rc = flush(d);
	if (d->f && (rc == 0 || d->bytes))
		report(d);
	return rc;
}

static const char *wrong(const struct dd_options *o)
{
	if (!o->vbd)
		return "--vbd is missing: which device?";
	if (o->in && o->out)
		return "give if= or of=, not both";
	if (!o->in && !o->out && !o->bench && !o->flush && !o->discard.len)
		return "nothing to do: give if=, of=, --bench, --flush or --discard";
	if (o->bench && (o->in || o->out))
		return "--bench copies nothing: leave out if= and of=";
	if (pv_hyper_needs_domid(o->hypervisor) && o->domid < 0)
		return "--domid is missing: which guest? (the loopback hypervisor must be told)";
	if (o->count != DD_ALL && o->count > UINT64_MAX / o->bs)
		return "count is too large";
	return NULL;
}

int main(int argc, char **argv)
{
	struct dd_options o = { .domid = -1, .iodepth = 32, .queues = 1, .seconds_ms = 2000, .count = DD_ALL };
	struct dd d = { .o = &o, .file = -1 };
	struct sigaction sa = { .sa_handler = on_signal };
	int rc;

	rc = pv_options_parse(&program, argc, argv, &o);
	if (rc >= 0)
		return rc;
	if (!o.bs)
		o.bs = o.bench ? 4096 : 1 << 20;
	if (wrong(&o))
		return pv_options_wrong(&program, "%s", wrong(&o));
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	rc = run(&d);
	if (rc < 0)
		fprintf(stderr, "pvio-dd: %s\n", *d.why ? d.why : strerror(-rc));
	pv_blkfront_close(d.f, CLOSE_MS);
	free(d.chunk);
	if (d.file > STDERR_FILENO && close(d.file) < 0 && rc == 0) {
		fprintf(stderr, "pvio-dd: %s: %s\n", o.in ? o.in : o.out, strerror(errno));
		rc = -errno;
	}
	return rc < 0 ? 1 : 0;
}
