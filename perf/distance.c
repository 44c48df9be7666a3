/* distance.c - how far two CPUs are from each other: nanoseconds in which a cache line goes to the other one and comes back.
 *
 * The CPUs of a virtual machine are threads of its host's, which moves them: from one second to the next they may share a cache, or a
 * memory bus. What two programs do that exchange lines all the time then differs several times over, whoever's they are. */
#include "perf.h"
#include <pthread.h>
#include <stdatomic.h>

enum { LINE = 64, WARM = 100, TRIPS = 2000, SPINS = 1 << 24 /* a CPU that does not come to answer */ };

struct options {
	struct pv_cpus cpus;
	bool once;
};

/* Owner: measure; one line of each thread's. */
struct court {
	_Alignas(2 * LINE) atomic_uint there;
	_Alignas(2 * LINE) atomic_uint back;
	const struct options *o;
};

/* Wait until a line holds n. */
static bool comes(atomic_uint *line, unsigned n)
{
	for (unsigned i = 0; i < SPINS; i++)
		if (atomic_load_explicit(line, memory_order_acquire) == n)
			return true;
	return false;
}

static void *answer(void *arg)
{
	struct court *c = arg;

	perf_pin(&c->o->cpus, 1);
	for (unsigned n = 1; n <= WARM + TRIPS && comes(&c->there, n); n++)
		atomic_store_explicit(&c->back, n, memory_order_release);
	return NULL;
}

static void measure(void *arg)
{
	struct court c = { .o = arg };
	pthread_t other;
	double began = 0;
	bool ok = true;

	if (pthread_create(&other, NULL, answer, &c))
		perf_die("cannot start a thread");
	for (unsigned n = 1; n <= WARM + TRIPS && ok; n++) {
		if (n == WARM + 1)
			began = perf_now();
		atomic_store_explicit(&c.there, n, memory_order_release);
		ok = comes(&c.back, n);
	}
	if (ok)
		printf("{\"ns\":%.0f}\n", (perf_now() - began) / TRIPS * 1e9);
	else
		printf("{\"ns\":null}\n");
	pthread_join(other, NULL);
}

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "cpus", "A,B", "the two CPUs (0,1)", pv_option_cpus, FIELD(cpus) },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "distance",
	.usage = "[--cpus A,B] [--once]",
	.about = "How far two CPUs are from each other: nanoseconds of a cache line's way there and back, as JSON; null where one of them did not come to it.",
	.options = table,
};

int main(int argc, char **argv)
{
	struct options o = { .cpus = { .nr = 2, .cpu = { 0, 1 } } };
	int ret = pv_options_parse(&program, argc, argv, &o);

	if (ret >= 0)
		return ret;
	if (o.cpus.nr != 2)
		return pv_options_wrong(&program, "--cpus wants two");
	perf_pin(&o.cpus, 0);
	perf_serve(o.once, measure, NULL, -1, &o);
	return 0;
}
