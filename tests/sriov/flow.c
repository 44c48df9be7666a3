/* flow.c - numbered packets there and back: flow echo ADDRESS PORT, flow send ADDRESS PORT PROGRESS.
 *
 * The sender has at most WINDOW numbers on the way; when nothing comes back for PATIENCE_MS those are given up, and it sends one at a time until one does.
 * A line is added to the file PROGRESS for each STEP that came back. On SIGTERM each says in one line of JSON what it saw: how many, how many twice, how
 * many after a later one; the sender also how many it sent, and how many never came back. It waits LAST_MS for what is on the way before: a busy machine stops
 * now and then.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WINDOW = 16, PATIENCE_MS = 100, LAST_MS = 5000, STEP = 50, NUMBERS = 1 << 24, DIGITS = 10, LONGEST = DIGITS + 1300 };

struct seen {
	bool number[NUMBERS];
	long last;
	unsigned came, twice, late;
};

static volatile sig_atomic_t ended;
static struct seen seen = { .last = -1 };

static void on_term(int sig)
{
	(void)sig;
	ended = 1;
}

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "flow: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void add(long n)
{
	if (seen.number[n])
		seen.twice++;
	else
		seen.came++;
	seen.late += n < seen.last;
	seen.number[n] = true;
	if (n > seen.last)
		seen.last = n;
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) != 0; /* a signal may have come instead: then nothing is there to take */
}

/* Returns the number of the next packet, with its length and sender, or -1: it is none of ours. */
static long take(int fd, char *packet, ssize_t *len, struct sockaddr_in *from)
{
	socklen_t size = sizeof(*from);
	long n = 0;

	*len = recvfrom(fd, packet, LONGEST, MSG_DONTWAIT, (struct sockaddr *)from, &size);
	if (*len < DIGITS)
		return -1;
	for (int i = 0; i < DIGITS; i++)
		n = n * 10 + packet[i] - '0';
	return n >= 0 && n < NUMBERS ? n : -1;
}

static void echo(int fd)
{
	char packet[LONGEST];
	struct sockaddr_in from;
	ssize_t len;

	while (!ended) {
		long n = readable(fd, PATIENCE_MS) ? take(fd, packet, &len, &from) : -1;

		if (n < 0)
			continue;
		add(n);
		sendto(fd, packet, (size_t)len, 0, (struct sockaddr *)&from, sizeof(from)); /* what does not leave is lost, and counted by the sender */
	}
}

static void send_one(int fd, long n)
{
	char packet[LONGEST + 1];
	int len = DIGITS + (int)(n % (LONGEST - DIGITS));

	memset(packet, 'x', sizeof(packet));
	snprintf(packet, sizeof(packet), "%0*ld", DIGITS, n);
	packet[DIGITS] = 'x';
	send(fd, packet, (size_t)len, 0); /* as above */
}

/* Returns how many were sent. */
static long flow(int fd, FILE *progress)
{
	char packet[LONGEST];
	struct sockaddr_in from;
	long sent = 0, given_up = 0; /* numbers below that are waited for no more */
	unsigned waiting = 0, room = 1;
	ssize_t len;

	while (!ended || seen.came < sent) {
		long n;

		for (; waiting < room && !ended && sent < NUMBERS; waiting++)
			send_one(fd, sent++);
		if (!readable(fd, ended ? LAST_MS : PATIENCE_MS)) {
			if (ended)
				break;
			waiting = 0;
			given_up = sent;
			room = 1;
			continue;
		}
		n = take(fd, packet, &len, &from);
		if (n < 0)
			continue;
		if (n >= given_up && !seen.number[n] && waiting)
			waiting--;
		add(n);
		room = WINDOW;
		if (n % STEP == 0)
			fprintf(progress, "%ld\n", n);
	}
	return sent;
}

static int open_socket(const char *address, const char *port, bool listens)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = inet_addr(address) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || (listens ? bind : connect)(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die(address);
	return fd;
}

int main(int argc, char **argv)
{
	bool sends = argc == 5 && strcmp(argv[1], "send") == 0;
	struct sigaction term = { .sa_handler = on_term };
	FILE *progress = sends ? fopen(argv[4], "we") : NULL;
	long sent = 0;
	int fd;

	if (!sends && (argc != 4 || strcmp(argv[1], "echo"))) {
		fprintf(stderr, "usage: flow echo ADDRESS PORT | send ADDRESS PORT PROGRESS\n");
		return 2;
	}
	if (sends && !progress)
		die(argv[4]);
	sigaction(SIGTERM, &term, NULL);
	fd = open_socket(argv[2], argv[3], !sends);
	if (sends) {
		setvbuf(progress, NULL, _IOLBF, 0);
		sent = flow(fd, progress);
	} else {
		echo(fd);
	}
	printf("{\"came\": %u, \"twice\": %u, \"late\": %u", seen.came, seen.twice, seen.late);
	if (sends)
		printf(", \"sent\": %ld, \"lost\": %ld", sent, sent - seen.came);
	puts("}");
	return 0;
}
