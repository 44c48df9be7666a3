/* nbd_server.h - an NBD server in a thread of the test: a disk in memory, served to one client at a time, as well or as badly as a test wants. */
#ifndef NBD_SERVER_H
#define NBD_SERVER_H

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SERVER_BYTES = 4 << 20 };
enum { NBD_HAS_FLAGS = 1, NBD_READ_ONLY = 2, NBD_FLUSH = 4, NBD_FUA = 8, NBD_TRIM = 32 }; /* what the export says that it can */
enum { NBD_READ, NBD_WRITE, NBD_DISC, NBD_FLUSH_CMD, NBD_TRIM_CMD, NBD_CMDS };

/* All but `listener`: set by the test at any time. */
static struct nbd_server {
	uint8_t disk[SERVER_BYTES];
	uint16_t flags;
	uint64_t bytes; /* that it says it has */
	uint32_t block_min, block_max; /* 0: says nothing */
	bool hung; /* takes commands and answers none */
	bool garbage; /* answers with something else */
	unsigned half; /* so many replies from now, it sends half of one and goes */
	uint32_t error[NBD_CMDS]; /* NBD's number for a command */
	unsigned count[NBD_CMDS], fua, clients; /* what came */
	char path[100];
	int listener, client;
	pthread_t thread;
} server;

static inline bool server_move(int fd, void *buf, size_t len, bool out)
{
	for (char *at = buf; len;) {
		ssize_t n = out ? send(fd, at, len, MSG_NOSIGNAL) : recv(fd, at, len, 0);

		if (n <= 0)
			return false;
		at += n;
		len -= n;
	}
	return true;
}

static inline bool server_option_reply(int fd, uint32_t option, uint32_t type, void *data, uint32_t len)
{
	struct { uint64_t magic; uint32_t option, type, len; } __attribute__((packed)) r = { htobe64(0x3e889045565a9), htobe32(option), htobe32(type),
										      htobe32(len) };

	return server_move(fd, &r, sizeof(r), true) && server_move(fd, data, len, true);
}

/* NBD_OPT_GO: what the export is. */
static inline bool server_export(int fd)
{
	struct { uint16_t type; uint64_t bytes; uint16_t flags; } __attribute__((packed)) e = { 0, htobe64(server.bytes),
											htobe16(server.flags | NBD_HAS_FLAGS) };
	uint32_t preferred = server.block_min > 4096 ? server.block_min : 4096;
	struct { uint16_t type; uint32_t min, preferred, max; } __attribute__((packed)) b = { htobe16(3), htobe32(server.block_min), htobe32(preferred),
											      htobe32(server.block_max) };

	return server_option_reply(fd, 7, 3, &e, sizeof(e)) && (!server.block_min || server_option_reply(fd, 7, 3, &b, sizeof(b))) &&
	       server_option_reply(fd, 7, 1, NULL, 0);
}

static inline bool server_greet(int fd)
{
	struct { uint64_t magic, version; uint16_t flags; } __attribute__((packed)) hello = { htobe64(0x4e42444d41474943), htobe64(0x49484156454f5054),
											      htobe16(3) };
	struct { uint64_t magic; uint32_t option, len; } __attribute__((packed)) o;
	char data[4096];
	uint32_t flags;

	if (!server_move(fd, &hello, sizeof(hello), true) || !server_move(fd, &flags, sizeof(flags), false))
		return false;
	while (server_move(fd, &o, sizeof(o), false) && be32toh(o.len) <= sizeof(data) && server_move(fd, data, be32toh(o.len), false)) {
		if (be32toh(o.option) == 7)
			return server_export(fd);
		if (!server_option_reply(fd, be32toh(o.option), 0x80000001, NULL, 0)) /* unsupported */
			return false;
	}
	return false;
}

static inline bool server_command(int fd)
{
	struct { uint32_t magic; uint16_t flags, type; uint64_t cookie, offset; uint32_t len; } __attribute__((packed)) c;
	struct { uint32_t magic, error; uint64_t cookie; } __attribute__((packed)) r = { htobe32(0x67446698) };
	static uint8_t data[SERVER_BYTES];
	unsigned type;
	uint64_t at;

	if (!server_move(fd, &c, sizeof(c), false))
		return false;
	type = be16toh(c.type);
	at = be64toh(c.offset);
	c.len = be32toh(c.len);
	if (type == NBD_DISC || type >= NBD_CMDS || at > SERVER_BYTES || c.len > SERVER_BYTES - at)
		return false;
	if (type == NBD_WRITE && !server_move(fd, data, c.len, false))
		return false;
	__atomic_add_fetch(&server.count[type], 1, __ATOMIC_RELAXED);
	server.fua += be16toh(c.flags) & 1;
	while (server.hung) {
		char peek;

		if (recv(fd, &peek, 1, MSG_PEEK | MSG_DONTWAIT) == 0) /* the client has had enough */
			return false;
		usleep(1000);
	}
	r.error = htobe32(server.error[type]);
	r.cookie = c.cookie;
	if (!r.error && type == NBD_WRITE)
		memcpy(server.disk + at, data, c.len);
	if (!r.error && type == NBD_TRIM_CMD)
		memset(server.disk + at, 0, c.len);
	if (server.garbage)
		r.magic = 0;
	if (server.half && --server.half == 0) {
		server_move(fd, &r, sizeof(r) / 2, true);
		return false;
	}
	return server_move(fd, &r, sizeof(r), true) && (r.error || type != NBD_READ || server_move(fd, server.disk + at, c.len, true));
}

static void *server_body(void *arg)
{
	(void)arg;
	for (;;) {
		int fd = accept(server.listener, NULL, NULL);

		if (fd < 0)
			return NULL;
		__atomic_store_n(&server.client, fd, __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&server.clients, 1, __ATOMIC_RELAXED);
		if (server_greet(fd))
			while (server_command(fd))
				;
		__atomic_store_n(&server.client, -1, __ATOMIC_SEQ_CST);
		close(fd);
	}
}

/* Listen at path; the disk stays as it is. Returns 0 or -1. */
static inline int server_start(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(server.path, sizeof(server.path), "%s", path);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	unlink(path);
	server.client = -1;
	server.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(server.listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(server.listener, 8) < 0)
		return -1;
	return pthread_create(&server.thread, NULL, server_body, NULL) ? -1 : 0;
}

/* As if it was killed: its connections end, and nobody listens. */
static inline void server_stop(void)
{
	int fd;

	unlink(server.path);
	shutdown(server.listener, SHUT_RDWR);
	fd = __atomic_load_n(&server.client, __ATOMIC_SEQ_CST);
	if (fd >= 0)
		shutdown(fd, SHUT_RDWR);
	server.hung = false;
	pthread_join(server.thread, NULL);
	close(server.listener);
}

#endif
