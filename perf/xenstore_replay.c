/* xenstore_replay.c - what it takes to attach one vif and one vbd through XenStore, asked of a real xenstored.
 *
 * Three processes with a connection each play libxl, dom0's backend drivers and the guest's frontend drivers: the same requests in
 * the same order as libxl 4.17 (libxl_device.c, libxl_nic.c, libxl_disk.c), Linux' xenbus, netback, netfront, blkback and blkfront
 * make, each one a round trip, and real watches tell one process what another did. The requests are the tables of text below:
 *
 *	F, B, L		the device's directory of the frontend, of the backend, and libxl's own; % is the guest's domid
 *	begin, commit	a transaction; what is between them is done again when it ends with EAGAIN
 *
 * Before that, N guests are made to be there already, with the nodes and watches that two connected devices leave behind: each is
 * introduced and has put its watches through its ring.
 *
 * Kinder to XenStore than life is: the hotplug scripts' forks and connections are left out (only what they write is written),
 * nobody else uses xenstored meanwhile, and no thread stands between a reply and its reader as in libxenstore.
 *
 * Prints "ready" when the N guests are there; then each line read from stdin starts one measurement, answered by one line of JSON.
 */
#include "perf.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <xen/io/xs_wire.h>

enum kind { VIF, VBD, KINDS };
enum { STORE_PAGE = 4096, TIMEOUT_MS = 30000, SETTLE_US = 2000, PATH_LEN = 256, FIRST_MEASURED = 20000 };

static const char *const kind_name[KINDS] = { "vif", "vbd" };
static const int kind_devid[KINDS] = { 0, 51712 };
static const char *socket_path, *pages_path;

/* ---- the tables ---- */

static const char *const vif_libxl_add[] = {
	"list /libxl/%/device/vif", "read /libxl/%/type",
	"begin", "read L", "path %", "path 0",
	"rm L", "write L/frontend @F", "write L/backend @B",
	"rm F", "mkdir F", "perm F guest", "write F/backend @B",
	"write F/backend-id 0", "perm F/backend-id guest", "write F/state 1", "perm F/state guest",
	"write F/handle 0", "perm F/handle guest", "write F/mac 00:16:3e:11:22:33", "perm F/mac guest",
	"write F/trusted 1", "perm F/trusted guest", "write F/mtu 1492", "perm F/mtu dom0",
	"rm B", "mkdir B", "perm B dom0", "write B/frontend @F",
	"write B/frontend-id %", "write B/online 1", "write B/state 1", "write B/script /etc/xen/scripts/vif-bridge",
	"write B/mac 00:16:3e:11:22:33", "write B/bridge xenbr0", "write B/handle 0", "write B/type vif", "write B/hotplug-status",
	"write L/frontend-id %", "write L/online 1", "write L/state 1", "write L/script /etc/xen/scripts/vif-bridge",
	"write L/mac 00:16:3e:11:22:33", "write L/bridge xenbr0", "write L/handle 0", "write L/type vif", "write L/hotplug-status",
	"commit", "path 0", NULL
};
/* after the backend reached InitWait: libxl's look-ups for the script, what the script writes, the look-ups for a next one */
static const char *const vif_libxl_hotplug[] = {
	"path 0", "read domid", "path 0", "read B/script", "path 0", "read B/type", "path 0", "read B/gatewaydev", "path 0", "read B/type",
	"write B/hotplug-status connected",
	"path 0", "path 0", "read domid", "path 0", "read B/script", "path 0", "read B/type", NULL
};
static const char *const vif_back_probe[] = {
	"read B/state", "read B/frontend-id", "read B/frontend", "list F", "read B/frontend-id", "read B/frontend", "list F",
	"begin", "write B/feature-sg 1", "write B/feature-gso-tcpv4 1", "write B/feature-gso-tcpv6 1", "write B/feature-ipv6-csum-offload 1",
	"write B/feature-rx-copy 1", "write B/feature-xdp-headroom 1", "write B/feature-rx-flip 0", "write B/feature-multicast-control 1",
	"write B/feature-dynamic-multicast-control 1", "commit",
	"write B/feature-split-event-channels 1", "write B/multi-queue-max-queues 2", "write B/feature-ctrl-ring 1",
	"read B/script", "read B/handle", "watch F/state front", NULL
};
static const char *const vif_back_connect[] = {
	"read F/multi-queue-num-queues", "read B/mac", "read B/rate", "watch B/rate rate",
	"watch F/request-multicast-control mcast", "read F/xdp-headroom",
	"read F/request-rx-copy", "read F/feature-rx-notify", "read F/feature-sg", "read F/feature-gso-tcpv4", "read F/feature-gso-tcpv6",
	"read F/feature-no-csum-offload", "read F/feature-ipv6-csum-offload", "read F/ctrl-ring-ref", "read F/tx-ring-ref",
	"read F/rx-ring-ref", "read F/event-channel-tx", "read F/event-channel-rx", "watch B/hotplug-status hotplug", NULL
};
static const char *const vif_back_forget[] = {
	"unwatch F/state front", "unwatch B/rate rate", "unwatch F/request-multicast-control mcast", NULL
};
static const char *const vif_front_probe[] = {
	"read F/state", "read F/backend-id", "read F/backend", "list B", "read B/state", "read B/state", "watch B/state back", NULL
};
static const char *const vif_front_connect[] = {
	"read B/feature-rx-copy", "read F/trusted", "read B/multi-queue-max-queues", "read B/feature-split-event-channels", "read F/mac",
	"read B/feature-xdp-headroom", "write F/xdp-headroom 0",
	"begin", "list B/multi-queue-max-queues", "write F/multi-queue-num-queues 1", "write F/tx-ring-ref 8", "write F/rx-ring-ref 9",
	"write F/event-channel-tx 10", "write F/event-channel-rx 11", "write F/request-rx-copy 1", "write F/feature-rx-notify 1",
	"write F/feature-sg 1", "write F/feature-gso-tcpv4 1", "write F/feature-gso-tcpv6 1", "write F/feature-ipv6-csum-offload 1", "commit",
	"read B/feature-sg", "read B/feature-ipv6-csum-offload", "read B/feature-gso-tcpv4", "read B/feature-gso-tcpv6", NULL
};

static const char *const vbd_libxl_add[] = {
	"read /libxl/%/type",
	"begin", "read L", "path %", "path 0",
	"rm L", "write L/frontend @F", "write L/backend @B",
	"rm F", "mkdir F", "perm F guest", "write F/backend @B",
	"write F/backend-id 0", "perm F/backend-id guest", "write F/state 1", "perm F/state guest",
	"write F/virtual-device 51712", "perm F/virtual-device guest", "write F/device-type disk", "perm F/device-type guest",
	"write F/trusted 1", "perm F/trusted guest",
	"rm B", "mkdir B", "perm B dom0", "write B/frontend @F",
	"write B/params /dev/vg0/guest-disk", "write B/script /etc/xen/scripts/block", "write B/frontend-id %", "write B/online 1",
	"write B/removable 0", "write B/bootable 1", "write B/state 1", "write B/dev xvda", "write B/type phy", "write B/mode w",
	"write B/device-type disk", "write B/discard-enable 1", "write B/specification xen",
	"write L/params /dev/vg0/guest-disk", "write L/script /etc/xen/scripts/block", "write L/frontend-id %", "write L/online 1",
	"write L/removable 0", "write L/bootable 1", "write L/state 1", "write L/dev xvda", "write L/type phy", "write L/mode w",
	"write L/device-type disk", "write L/discard-enable 1", "write L/specification xen",
	"commit", "path 0", NULL
};
static const char *const vbd_libxl_hotplug[] = {
	"path 0", "read domid", "path 0", "read B/script", "path 0",
	"write B/physical-device fd:3", "write B/hotplug-status connected", "path 0", "path 0", "read domid", NULL
};
static const char *const vbd_back_probe[] = {
	"read B/state", "read B/frontend-id", "read B/frontend", "list F", "read B/frontend-id", "read B/frontend", "list F",
	"write B/feature-max-indirect-segments 256", "write B/multi-queue-max-queues 2", "watch B/physical-device disk",
	"write B/max-ring-page-order 4", "begin", "read B/state", "write B/state 2", "commit", "watch F/state front", NULL
};
static const char *const vbd_back_ring[] = {
	"read F/protocol", "read F/feature-persistent", "read F/multi-queue-num-queues", "read F/event-channel", "read F/ring-page-order",
	"read F/ring-ref", NULL
};
static const char *const vbd_back_connect[] = {
	"begin", "write B/feature-flush-cache 1", "read B/discard-enable", "write B/discard-granularity 4096", "write B/discard-alignment 0",
	"write B/discard-secure 0", "write B/feature-discard 1", "write B/feature-barrier 1", "write B/feature-persistent 1",
	"write B/sectors 20971520", "write B/info 0", "write B/sector-size 512", "write B/physical-sector-size 4096", "commit", NULL
};
static const char *const vbd_back_forget[] = { "unwatch F/state front", "unwatch B/physical-device disk", NULL };
static const char *const vbd_front_probe[] = {
	"read F/state", "read F/backend-id", "read F/backend", "list B", "read F/virtual-device", "watch B/state back", NULL
};
static const char *const vbd_front_ring[] = {
	"read F/trusted", "read B/max-ring-page-order", "read B/multi-queue-max-queues",
	"begin", "write F/ring-ref 8", "write F/event-channel 9", "write F/protocol x86_64-abi", "write F/feature-persistent 1", "commit", NULL
};
static const char *const vbd_front_connect[] = {
	"read B/sectors", "read B/info", "read B/sector-size", "read B/physical-sector-size", "read B/feature-barrier",
	"read B/feature-flush-cache", "read B/feature-discard", "read B/discard-granularity", "read B/discard-alignment",
	"read B/discard-secure", "read B/feature-persistent", "read B/feature-max-indirect-segments", NULL
};

/* What libxl leaves behind of a guest beside its devices. */
static const char *const domain_nodes[] = {
	"begin", "mkdir /local/domain/%", "perm /local/domain/% dom0",
	"write /local/domain/%/name guest%", "write /local/domain/%/domid %", "write /local/domain/%/vm /vm/%",
	"write /local/domain/%/console/port 2", "write /local/domain/%/console/limit 1048576", "write /local/domain/%/console/type xenconsoled",
	"write /local/domain/%/console/ring-ref 1", "write /local/domain/%/console/output pty", "write /local/domain/%/console/tty /dev/pts/1",
	"write /local/domain/%/memory/static-max 131072", "write /local/domain/%/memory/target 131072", "write /local/domain/%/memory/videoram 0",
	"write /local/domain/%/store/port 1", "write /local/domain/%/store/ring-ref 1", "write /local/domain/%/cpu/0/availability online",
	"write /local/domain/%/platform/acpi 1", "write /local/domain/%/control/platform-feature-xs_reset_watches 1",
	"write /local/domain/%/control/platform-feature-multiprocessor-suspend 1", "write /local/domain/%/error", "write /local/domain/%/drivers",
	"write /local/domain/%/attr", "write /local/domain/%/control/shutdown", "perm /local/domain/%/control/shutdown guest",
	"write /local/domain/%/control/sysrq", "perm /local/domain/%/control/sysrq guest", "write /local/domain/%/control/feature-poweroff",
	"write /local/domain/%/control/feature-reboot", "write /local/domain/%/device/suspend/event-channel", "write /local/domain/%/data",
	"perm /local/domain/%/data guest", "perm /local/domain/%/device guest", "perm /local/domain/%/control guest",
	"write /libxl/%/type pvh", "write /libxl/%/dm-version qemu_xen", "write /vm/%/name guest%", "write /vm/%/uuid %",
	"write /vm/%/image/ostype linux", "write /vm/%/image/kernel /boot/vmlinuz", "write /vm/%/image/cmdline console=hvc0",
	"write /vm/%/start_time 1700000000.00", "write /vm/%/rtc/timeoffset 0", "commit", NULL
};
static const char *const domain_remove[] = {
	"rm /local/domain/%", "rm /libxl/%", "rm /vm/%", "rm /local/domain/0/backend/vif/%", "rm /local/domain/0/backend/vbd/%", NULL
};
/* The watches of a guest's kernel on itself, and of both ends on connected devices. */
static const char *const guest_watches[] = {
	"watch /local/domain/%/device devices", "watch /local/domain/%/control/shutdown shutdown", "watch /local/domain/%/memory/target target", NULL
};
static const char *const device_watches_front[] = { "watch B/state back", NULL };
static const char *const *const device_watches_back[KINDS] = {
	(const char *const[]){ "watch F/state front", "watch B/rate rate", "watch F/request-multicast-control mcast", NULL },
	(const char *const[]){ "watch F/state front", "watch B/physical-device disk", NULL },
};

/* ---- a connection: requests and replies on the socket, one at a time; watch events are queued ---- */

struct event {
	struct event *next;
	char token[32];
	char path[PATH_LEN];
};

/* Owner: one process. Lifetime: connect_store to disconnect_store. */
struct store {
	int fd;
	uint32_t requests; /* made so far: round trips */
	uint32_t events; /* watch events got so far */
	uint32_t tx;
	uint16_t domid; /* what % is */
	enum kind kind; /* whose directories F, B and L are */
	struct event *first, **last;
	char reply[XENSTORE_PAYLOAD_MAX + 1];
	uint32_t reply_len;
};

static void connect_store(struct store *s)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	*s = (struct store){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	s->last = &s->first;
	if (snprintf(a.sun_path, sizeof(a.sun_path), "%s", socket_path) >= (int)sizeof(a.sun_path))
		perf_die("--socket %s is too long", socket_path);
	if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&a, sizeof(a)) != 0)
		perf_die("cannot connect to xenstored at %s: %s", socket_path, strerror(errno));
}

static void drop_events(struct store *s)
{
	while (s->first) {
		struct event *e = s->first;

		s->first = e->next;
		free(e);
	}
	s->last = &s->first;
}

static void disconnect_store(struct store *s)
{
	drop_events(s);
	close(s->fd);
}

static void move_bytes(int fd, void *data, size_t n, bool out)
{
	for (size_t done = 0; done < n;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t k;

		if (!out && poll(&p, 1, TIMEOUT_MS) == 0)
			perf_die("xenstored does not answer");
		k = out ? send(fd, (char *)data + done, n - done, MSG_NOSIGNAL) : recv(fd, (char *)data + done, n - done, 0);
		if (k <= 0)
			perf_die("xenstored hung up: %s", k < 0 ? strerror(errno) : "closed");
		done += (size_t)k;
	}
}

/* One message into s->reply. Returns its type. */
static uint32_t receive(struct store *s)
{
	struct xsd_sockmsg h;

	move_bytes(s->fd, &h, sizeof(h), false);
	if (h.len > XENSTORE_PAYLOAD_MAX)
		perf_die("xenstored sent %u bytes", h.len);
	move_bytes(s->fd, s->reply, h.len, false);
	s->reply[h.len] = 0;
	s->reply_len = h.len;
	return h.type;
}

static void copy_text(char *out, size_t room, const char *in)
{
	size_t n = strnlen(in, room - 1);

	memcpy(out, in, n);
	out[n] = 0;
}

static void queue_event(struct store *s)
{
	struct event *e = calloc(1, sizeof(*e));

	if (!e)
		perf_die("out of memory");
	copy_text(e->path, sizeof(e->path), s->reply);
	copy_text(e->token, sizeof(e->token), s->reply + strlen(s->reply) + 1);
	*s->last = e;
	s->last = &e->next;
	s->events++;
}

/* One request and its answer, which is in s->reply. Returns 0 or the error's number. */
static int ask(struct store *s, uint32_t type, const void *payload, size_t len)
{
	struct {
		struct xsd_sockmsg h;
		char payload[XENSTORE_PAYLOAD_MAX];
	} m = { .h = { .type = type, .req_id = ++s->requests, .tx_id = type == XS_WATCH || type == XS_UNWATCH ? 0 : s->tx, .len = (uint32_t)len } };
	uint32_t got;

	memcpy(m.payload, payload, len);
	move_bytes(s->fd, &m, sizeof(m.h) + len, true);
	while ((got = receive(s)) == XS_WATCH_EVENT)
		queue_event(s);
	if (got != XS_ERROR)
		return 0;
	for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++)
		if (strcmp(s->reply, xsd_errors[i].errstring) == 0)
			return xsd_errors[i].errnum;
	return EINVAL;
}

/* The next watch event, owned by the caller. */
static struct event *next_event(struct store *s)
{
	struct event *e;

	while (!s->first) {
		if (receive(s) != XS_WATCH_EVENT)
			perf_die("a reply that nobody asked for");
		queue_event(s);
	}
	e = s->first;
	s->first = e->next;
	if (!s->first)
		s->last = &s->first;
	return e;
}

/* ---- running the tables ---- */

static void expand(const struct store *s, const char *in, char *out, size_t room)
{
	size_t n;
	int k = 0;

	if (*in && strchr("FBL", *in) && (in[1] == '/' || !in[1])) {
		k = *in == 'F' ? snprintf(out, room, "/local/domain/%u/device/%s/%d", s->domid, kind_name[s->kind], kind_devid[s->kind]) :
		    *in == 'B' ? snprintf(out, room, "/local/domain/0/backend/%s/%u/%d", kind_name[s->kind], s->domid, kind_devid[s->kind]) :
				 snprintf(out, room, "/libxl/%u/device/%s/%d", s->domid, kind_name[s->kind], kind_devid[s->kind]);
		in++;
	}
	for (n = (size_t)k; *in && n + 8 < room; in++)
		if (*in == '%')
			n += (size_t)snprintf(out + n, room - n, "%u", s->domid);
		else
			out[n++] = *in;
	out[n] = 0;
}

static const struct verb {
	const char *name;
	uint32_t type;
	enum { PATH, PATH_VALUE, PATH_TOKEN, PERMS, BEGIN, COMMIT } form;
} verbs[] = {
	{ "read", XS_READ, PATH },	    { "list", XS_DIRECTORY, PATH },    { "rm", XS_RM, PATH },
	{ "mkdir", XS_MKDIR, PATH },	    { "path", XS_GET_DOMAIN_PATH, PATH }, { "write", XS_WRITE, PATH_VALUE },
	{ "watch", XS_WATCH, PATH_TOKEN },  { "unwatch", XS_UNWATCH, PATH_TOKEN }, { "perm", XS_SET_PERMS, PERMS },
	{ "begin", XS_TRANSACTION_START, BEGIN }, { "commit", XS_TRANSACTION_END, COMMIT },
};

/* The payload of one line. Returns its length. */
static size_t payload_of(const struct store *s, const struct verb *v, const char *path, const char *arg, char *out)
{
	size_t n = strlen(path) + 1;

	memcpy(out, path, n);
	switch (v->form) {
	case PATH_VALUE:
		memcpy(out + n, arg, strlen(arg));
		return n + strlen(arg);
	case PATH_TOKEN:
		memcpy(out + n, arg, strlen(arg) + 1);
		return n + strlen(arg) + 1;
	case PERMS: { /* owner without a default right, and the other may read */
		bool guest = strcmp(arg, "guest") == 0;

		n += (size_t)sprintf(out + n, "n%u", guest ? s->domid : 0) + 1;
		return n + (size_t)sprintf(out + n, "r%u", guest ? 0 : s->domid) + 1;
	}
	case COMMIT:
		memcpy(out, "T", 2);
		return 2;
	default:
		return n;
	}
}

static const struct verb *parse_line(const struct store *s, const char *line, char *path, char *arg)
{
	char word[12] = "", p[PATH_LEN] = "", a[PATH_LEN] = "";

	sscanf(line, "%11s %255s %255s", word, p, a);
	expand(s, p, path, PATH_LEN);
	expand(s, a[0] == '@' ? a + 1 : a, arg, PATH_LEN);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i].name, word) == 0)
			return &verbs[i];
	perf_die("no such request: %s", line);
}

/* One line. Returns 0 or the error's number; nodes that are not there are the normal case for read, list and rm. */
static int run_line(struct store *s, const char *line)
{
	char path[PATH_LEN], arg[PATH_LEN], payload[2 * PATH_LEN];
	const struct verb *v = parse_line(s, line, path, arg);
	int err = ask(s, v->type, payload, payload_of(s, v, path, arg, payload));

	if (v->form == BEGIN)
		s->tx = (uint32_t)strtoul(s->reply, NULL, 10);
	else if (v->form == COMMIT)
		s->tx = 0;
	if (err != 0 && err != ENOENT && !(err == EAGAIN && v->form == COMMIT) && !(err == EEXIST && v->form == PATH_TOKEN))
		perf_die("xenstored refused \"%s\": %s", line, strerror(err));
	return err;
}

static void run(struct store *s, const char *const *script)
{
	size_t begun = 0;

	for (size_t i = 0; script[i]; i++) {
		if (strcmp(script[i], "begin") == 0)
			begun = i;
		if (run_line(s, script[i]) == EAGAIN)
			i = begun - 1; /* somebody else committed meanwhile: all of it again */
	}
}

/* The number in a node, -1: no such node. */
static int read_number(struct store *s, const char *line)
{
	return run_line(s, line) == 0 ? atoi(s->reply) : -1;
}

/* As xenbus_switch_state: in a transaction, if the node is there. */
static void switch_state(struct store *s, const char *dir, int state)
{
	char get[16], set[16];

	snprintf(get, sizeof(get), "read %s/state", dir);
	snprintf(set, sizeof(set), "write %s/state %d", dir, state);
	run(s, (const char *const[]){ "begin", get, set, "commit", NULL });
}

/* ---- the drivers. XenBus' states; a device is known from its probe until its directory is gone ---- */

struct device {
	bool known, ring, disk, hotplug;
	int state;
};

static int to_main; /* one letter for each thing that happened */

static void tell(char what)
{
	if (write(to_main, &what, 1) != 1)
		_exit(1);
}

/* Which device an event is about: domid and kind of s are set. */
static bool device_of(struct store *s, const char *path, bool backend)
{
	char kind[8] = "";
	unsigned domid = 0;
	int devid = -1;

	if ((backend && sscanf(path, "/local/domain/0/backend/%7[^/]/%u/%d", kind, &domid, &devid) != 3) ||
	    (!backend && sscanf(path, "/local/domain/%u/device/%7[^/]/%d", &domid, kind, &devid) != 3))
		return false;
	s->domid = (uint16_t)domid;
	s->kind = strcmp(kind, kind_name[VIF]) == 0 ? VIF : VBD;
	return true;
}

static bool event_device(struct store *s, const struct event *e)
{
	return device_of(s, e->path, strncmp(e->path, "/local/domain/0/", 16) == 0);
}

static void back_vbd_update(struct store *s, struct device *d)
{
	if (!d->ring || !d->disk || d->state == 4)
		return;
	run(s, vbd_back_connect);
	switch_state(s, "B", d->state = 4);
	run_line(s, "read B/dev");
}

static void back_front_changed(struct store *s, struct device *d)
{
	int front = read_number(s, "read F/state");

	if (s->kind == VBD && front == 3 && !d->ring) {
		run(s, vbd_back_ring);
		d->ring = true;
		back_vbd_update(s, d);
	} else if (s->kind == VIF && front == 1 && d->state == 1) {
		switch_state(s, "B", d->state = 2);
	} else if (s->kind == VIF && front == 4 && d->state == 2 && !d->hotplug) {
		run(s, vif_back_connect);
		d->hotplug = true;
	}
}

static void back_devices_changed(struct store *s, struct device *devs, const struct event *e)
{
	char line[PATH_LEN + 8];
	struct device *d;
	bool there;

	snprintf(line, sizeof(line), "list %s", e->path);
	there = run_line(s, line) == 0; /* as xenbus_dev_changed, for each event */
	if (!device_of(s, e->path, true))
		return;
	d = &devs[s->kind];
	if (there && !d->known) {
		*d = (struct device){ .known = true, .state = s->kind == VIF ? 1 : 2 };
		run(s, s->kind == VIF ? vif_back_probe : vbd_back_probe);
	} else if (!there && d->known && run_line(s, "list B") != 0) {
		run(s, s->kind == VIF ? vif_back_forget : vbd_back_forget);
		d->known = false;
		tell('g');
	}
}

static void back_event(struct store *s, struct device *devs, const struct event *e)
{
	struct device *d;

	if (strcmp(e->token, "backends") == 0) {
		back_devices_changed(s, devs, e);
		return;
	}
	if (!event_device(s, e) || !devs[s->kind].known)
		return;
	d = &devs[s->kind];
	if (strcmp(e->token, "front") == 0) {
		back_front_changed(s, d);
	} else if (strcmp(e->token, "rate") == 0) {
		run_line(s, "read B/rate");
	} else if (strcmp(e->token, "mcast") == 0) {
		run_line(s, "read F/request-multicast-control");
	} else if (strcmp(e->token, "hotplug") == 0) {
		if (run_line(s, "read B/hotplug-status") == 0 && strcmp(s->reply, "connected") == 0 && d->state == 2) {
			switch_state(s, "B", d->state = 4);
			run_line(s, "unwatch B/hotplug-status hotplug");
		}
	} else if (run_line(s, "read B/physical-device") == 0 && !d->disk) {
		run_line(s, "read B/mode");
		run_line(s, "read F/device-type");
		d->disk = true;
		back_vbd_update(s, d);
	}
}

/* Shared with the main process: what each actor has asked for so far. */
struct counts {
	volatile uint32_t requests, events;
};

static void __attribute__((noreturn)) backend(struct counts *c)
{
	struct device devs[KINDS] = { 0 };
	struct store s;

	connect_store(&s);
	run_line(&s, "watch /local/domain/0/backend backends");
	tell('r');
	for (;;) {
		struct event *e = next_event(&s);

		back_event(&s, devs, e);
		free(e);
		c->requests = s.requests;
		c->events = s.events;
	}
}

static void front_back_changed(struct store *s, struct device *d)
{
	int back = read_number(s, "read B/state");

	if (back == 2 && d->state == 1) {
		run(s, s->kind == VIF ? vif_front_connect : vbd_front_ring);
		switch_state(s, "F", d->state = s->kind == VIF ? 4 : 3);
	} else if (back == 4 && s->kind == VIF && !d->ring) {
		d->ring = true;
		tell('c');
	} else if (back == 4 && s->kind == VBD && d->state == 3) {
		run(s, vbd_front_connect);
		switch_state(s, "F", d->state = 4);
		tell('c');
	}
}

static void front_event(struct store *s, struct device *devs, const struct event *e)
{
	char line[PATH_LEN + 8];

	if (strcmp(e->token, "devices") == 0) {
		bool there;

		snprintf(line, sizeof(line), "list %s", e->path);
		there = run_line(s, line) == 0;
		if (!device_of(s, e->path, false) || !there || devs[s->kind].known)
			return;
		devs[s->kind] = (struct device){ .known = true, .state = 1 };
		run(s, s->kind == VIF ? vif_front_probe : vbd_front_probe);
	} else if (strcmp(e->token, "back") == 0 && event_device(s, e)) {
		front_back_changed(s, &devs[s->kind]);
	}
}

/* One guest after another, named by the command pipe; the next command ends the one before. */
static void __attribute__((noreturn)) frontend(struct counts *c, int commands)
{
	struct device devs[KINDS] = { 0 };
	struct store s = { .fd = -1 };
	uint16_t domid;

	for (;;) {
		struct pollfd p[2] = { { .fd = commands, .events = POLLIN }, { .fd = s.fd, .events = POLLIN } };

		if (!s.first)
			poll(p, 2, -1);
		if (p[0].revents) {
			if (read(commands, &domid, sizeof(domid)) != sizeof(domid))
				_exit(0);
			if (s.fd >= 0)
				disconnect_store(&s);
			memset(devs, 0, sizeof(devs));
			s.fd = -1;
			if (domid != 0) {
				connect_store(&s);
				s.domid = domid;
				run(&s, guest_watches);
			}
			tell('r');
		} else {
			struct event *e = next_event(&s);

			front_event(&s, devs, e);
			free(e);
		}
		c->requests = s.requests;
		c->events = s.events;
	}
}

/* ---- N guests that are there already ---- */

static struct xenstore_domain_interface *store_ring(uint16_t domid)
{
	int fd = open(pages_path, O_RDWR | O_CLOEXEC);
	void *p;

	if (fd < 0)
		perf_die("cannot open --pages %s: %s", pages_path, strerror(errno));
	p = mmap(NULL, STORE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)domid * STORE_PAGE);
	close(fd);
	if (p == MAP_FAILED)
		perf_die("cannot map the store page of domain %u: %s", domid, strerror(errno));
	return p;
}

/* Put a script's lines into a guest's ring as that guest would; s tells the domid and kind. */
static void ring_put(const struct store *s, struct xenstore_domain_interface *r, const char *const *script)
{
	char path[PATH_LEN], arg[PATH_LEN], payload[2 * PATH_LEN];

	for (; *script; script++) {
		const struct verb *v = parse_line(s, *script, path, arg);
		struct xsd_sockmsg h = { .type = v->type, .len = (uint32_t)payload_of(s, v, path, arg, payload) };
		uint32_t prod = r->req_prod;

		for (size_t i = 0; i < sizeof(h); i++)
			r->req[MASK_XENSTORE_IDX(prod++)] = ((const char *)&h)[i];
		for (size_t i = 0; i < h.len; i++)
			r->req[MASK_XENSTORE_IDX(prod++)] = payload[i];
		__atomic_store_n(&r->req_prod, prod, __ATOMIC_RELEASE);
	}
}

static void make_domain(struct store *s, uint16_t domid)
{
	s->domid = domid;
	run(s, domain_nodes);
}

/* What the two devices' negotiation has left in the store. */
static void connected_devices(struct store *s)
{
	static const char *const *const steps[KINDS][5] = {
		{ vif_libxl_add, vif_libxl_hotplug, vif_front_connect, NULL },
		{ vbd_libxl_add, vbd_libxl_hotplug, vbd_front_ring, vbd_back_connect, NULL },
	};

	for (s->kind = VIF; s->kind < KINDS; s->kind++) {
		for (int i = 0; steps[s->kind][i]; i++)
			run(s, steps[s->kind][i]);
		run(s, (const char *const[]){ "write B/state 4", "write F/state 4", NULL });
	}
}

static void introduce(struct store *s, long domid)
{
	char intro[64];
	int len = sprintf(intro, "%ld%c%d%c%d%c", domid, 0, 1, 0, 1, 0); /* domid, frame, port: the shim uses the first alone */

	if (ask(s, XS_INTRODUCE, intro, (size_t)len) != 0)
		perf_die("xenstored does not take domain %ld", domid);
}

/* xenstored looks into all rings whenever it turns: keep it turning until it has taken everything. */
static void rings_flush(struct store *s, struct xenstore_domain_interface **rings, long n)
{
	double end = perf_now() + TIMEOUT_MS / 1e3;

	for (long i = 1; i <= n; i++) {
		while (__atomic_load_n(&rings[i]->req_cons, __ATOMIC_ACQUIRE) != rings[i]->req_prod) {
			run_line(s, "read domid");
			if (perf_now() > end)
				perf_die("xenstored takes nothing from the ring of domain %ld", i);
		}
		rings[i]->rsp_cons = __atomic_load_n(&rings[i]->rsp_prod, __ATOMIC_ACQUIRE);
	}
}

static void put_watches(struct store *s, struct xenstore_domain_interface **rings, long n, bool devices)
{
	for (long i = 1; i <= n; i++) {
		s->domid = (uint16_t)i;
		if (!devices)
			ring_put(s, rings[i], guest_watches);
		for (s->kind = VIF; devices && s->kind < KINDS; s->kind++)
			ring_put(s, rings[i], device_watches_front);
	}
	rings_flush(s, rings, n);
}

/* All nodes first, then the watches, then the connections: each makes what comes after it slower. */
static void present_guests(struct store *s, long n)
{
	struct xenstore_domain_interface **rings = calloc((size_t)n + 1, sizeof(*rings));

	if (!rings)
		perf_die("out of memory");
	run_line(s, "write domid 0");
	run_line(s, "write /local/domain/0/domid 0");
	for (long i = 1; i <= n; i++) {
		make_domain(s, (uint16_t)i);
		connected_devices(s);
	}
	for (long i = 1; i <= n; i++) {
		s->domid = (uint16_t)i;
		for (s->kind = VIF; s->kind < KINDS; s->kind++)
			run(s, device_watches_back[s->kind]);
	}
	for (long i = 1; i <= n; i++) {
		introduce(s, i);
		rings[i] = store_ring((uint16_t)i);
	}
	put_watches(s, rings, n, false);
	put_watches(s, rings, n, true);
	for (long i = 1; i <= n; i++)
		munmap(rings[i], STORE_PAGE);
	free(rings);
	drop_events(s);
}

/* ---- measuring ---- */

static void await(int fd, const char *what, int n)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c;

	while (n-- > 0)
		if (poll(&p, 1, TIMEOUT_MS) <= 0 || read(fd, &c, 1) != 1 || c != *what)
			perf_die("a process of the replay did not get as far as \"%s\"", what);
}

/* libxl's side of one device: add, wait for InitWait, hotplug. */
static void toolstack(struct store *s, enum kind kind)
{
	s->kind = kind;
	run(s, kind == VIF ? vif_libxl_add : vbd_libxl_add);
	run_line(s, "watch B/state libxl");
	for (int state = 0; state != 2;) {
		struct event *e = next_event(s);

		if (strcmp(e->token, "libxl") == 0)
			state = read_number(s, "read B/state");
		free(e);
	}
	run_line(s, "unwatch B/state libxl");
	run(s, kind == VIF ? vif_libxl_hotplug : vbd_libxl_hotplug);
}

struct actors {
	struct store *s; /* the toolstack's */
	struct counts *c; /* backend's and frontend's */
	int notes, commands;
};

static void command(const struct actors *a, uint16_t domid)
{
	if (write(a->commands, &domid, sizeof(domid)) != sizeof(domid))
		perf_die("the frontend's process is gone");
	await(a->notes, "ready", 1);
}

static void measure(const struct actors *a, uint16_t domid)
{
	struct store *s = a->s;
	double us[KINDS];
	uint32_t trips[KINDS], events[KINDS];

	make_domain(s, domid);
	command(a, domid);
	usleep(SETTLE_US);
	for (enum kind k = VIF; k < KINDS; k++) {
		uint32_t requests = s->requests + a->c[0].requests + a->c[1].requests;
		uint32_t seen = s->events + a->c[0].events + a->c[1].events;
		double began = perf_now();

		toolstack(s, k);
		await(a->notes, "connected", 1);
		us[k] = (perf_now() - began) * 1e6;
		usleep(SETTLE_US); /* what still trickles in is counted, but not timed */
		trips[k] = s->requests + a->c[0].requests + a->c[1].requests - requests;
		events[k] = s->events + a->c[0].events + a->c[1].events - seen;
	}
	printf("{\"us\":%.1f,\"vif_us\":%.1f,\"vbd_us\":%.1f,\"vif_round_trips\":%u,\"vbd_round_trips\":%u,\"vif_events\":%u,\"vbd_events\":%u}\n",
	       us[VIF] + us[VBD], us[VIF], us[VBD], trips[VIF], trips[VBD], events[VIF], events[VBD]);
	command(a, 0);
	for (s->kind = VIF; s->kind < KINDS; s->kind++)
		run_line(s, "rm B");
	await(a->notes, "gone", KINDS);
	run(s, domain_remove);
	drop_events(s);
}

static pid_t start(void (*body)(struct counts *, int), struct counts *c, int arg)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		perf_die("cannot fork: %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		body(c, arg);
	}
	return pid;
}

static void backend_body(struct counts *c, int unused)
{
	(void)unused;
	backend(c);
}

static void frontend_body(struct counts *c, int commands)
{
	frontend(c, commands);
}

static struct actors actors;
static uint16_t next_domid = FIRST_MEASURED;

static void measure_next(void *unused)
{
	(void)unused;
	measure(&actors, next_domid++);
}

struct options {
	unsigned guests;
	const char *socket, *pages;
	bool once;
};

#define FIELD(f) .field = offsetof(struct options, f)
static const struct pv_option table[] = {
	{ "guests", "N", "guests that are there already (0)", pv_option_number, FIELD(guests), .max = FIRST_MEASURED - 1 },
	{ "socket", "PATH", "xenstored's socket", pv_option_text, FIELD(socket) },
	{ "pages", "FILE", "the store pages of xenstored_shim, page D for domain D", pv_option_text, FIELD(pages) },
	{ "once", NULL, "measure once, now; else once for each line of stdin", NULL, FIELD(once) },
	{ 0 },
};

static const struct pv_program program = {
	.name = "xenstore_replay",
	.usage = "--socket PATH --pages FILE [OPTION...]",
	.about = "Attach one vif and one vbd through a real xenstored, as libxl and Linux do: microseconds, as JSON.",
	.options = table,
};

int main(int argc, char **argv)
{
	static struct store s;
	struct options o = { 0 };
	int notes[2], commands[2], ret = pv_options_parse(&program, argc, argv, &o);
	pid_t back, front;

	if (ret >= 0)
		return ret;
	if (!o.socket || !o.pages)
		return pv_options_wrong(&program, "--socket and --pages are needed");
	socket_path = o.socket;
	pages_path = o.pages;
	actors.s = &s;
	actors.c = mmap(NULL, 2 * sizeof(*actors.c), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (actors.c == MAP_FAILED || pipe(notes) != 0 || pipe(commands) != 0)
		perf_die("cannot share memory and pipes: %s", strerror(errno));
	to_main = notes[1];
	actors.notes = notes[0];
	actors.commands = commands[1];
	connect_store(&s);
	present_guests(&s, o.guests);
	back = start(backend_body, &actors.c[0], 0);
	await(actors.notes, "ready", 1);
	front = start(frontend_body, &actors.c[1], commands[0]);
	perf_serve(o.once, measure_next, NULL, -1, NULL);
	kill(back, SIGKILL);
	kill(front, SIGKILL);
	waitpid(back, NULL, 0);
	waitpid(front, NULL, 0);
	disconnect_store(&s);
	return 0;
}
