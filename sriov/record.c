/* record.c - what survives this process: JSON files, each replaced as a whole, and locks that the kernel takes back from the dead.
 *
 * A lock is a file of its own, for a rename would leave the old lock on a file that nobody sees any more. It is never removed:
 * two processes could hold locks of one name on two files.
 */
#include "sriov.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILE_MAX = 1 << 20, LOCK_STEP_MS = 5 };

/* ---- files ---- */

static int state_path(struct vf_sys *s, char path[VF_PATH_MAX], const char *name, const char *suffix)
{
	return snprintf(path, VF_PATH_MAX, "%s/%s%s", s->state, name, suffix) < VF_PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* The state directory and those above it, of which a fresh machine has /var/lib. */
static int make_dirs(struct vf_sys *s)
{
	char path[VF_PATH_MAX];

	if (access(s->state, F_OK) == 0)
		return 0;
	snprintf(path, sizeof(path), "%s", s->state);
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int vf_file_read(struct vf_sys *s, const char *name, struct json_object **out)
{
	char path[VF_PATH_MAX];
	struct stat st;
	int rc = state_path(s, path, name, ""), fd;

	*out = NULL;
	if (rc < 0)
		return rc;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && st.st_size <= FILE_MAX)
		*out = json_object_from_fd(fd);
	close(fd);
	if (json_object_is_type(*out, json_type_object))
		return 0;
	json_object_put(*out);
	*out = NULL;
	return -EBADMSG;
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0)
			return -errno;
		text += n;
		len -= n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* A rename or a removal is on the disk when the directory is. */
static int sync_dir(struct vf_sys *s)
{
	int fd = open(s->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

int vf_file_write(struct vf_sys *s, const char *name, struct json_object *o)
{
	const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
	char path[VF_PATH_MAX], temp[VF_PATH_MAX];
	int rc = state_path(s, path, name, ""), fd;

	rc = rc < 0 ? rc : state_path(s, temp, name, ".new");
	rc = rc < 0 ? rc : make_dirs(s);
	if (rc < 0)
		return rc;
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = write_all(fd, text, strlen(text));
	close(fd);
	if (rc == 0 && rename(temp, path) < 0)
		rc = -errno;
	if (rc < 0) {
		unlink(temp);
		return rc;
	}
	rc = sync_dir(s);
	vf_sys_changed(s);
	return rc;
}

int vf_file_remove(struct vf_sys *s, const char *name)
{
	char path[VF_PATH_MAX];
	int rc = state_path(s, path, name, "");

	if (rc < 0)
		return rc;
	if (unlink(path) < 0)
		return errno == ENOENT ? 0 : -errno;
	rc = sync_dir(s);
	vf_sys_changed(s);
	return rc;
}

int vf_lock(struct vf_sys *s, const char *name, unsigned wait_ms)
{
	const struct timespec step = { .tv_nsec = LOCK_STEP_MS * 1000000 };
	char path[VF_PATH_MAX], pid[16];
	int rc = state_path(s, path, name, ".lock"), fd;

	rc = rc < 0 ? rc : make_dirs(s);
	if (rc < 0)
		return rc;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	for (unsigned waited = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited += LOCK_STEP_MS) {
		rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
		if (rc != -EBUSY || waited >= wait_ms) {
			close(fd);
			return rc;
		}
		nanosleep(&step, NULL);
	}
	/* for the message of who waits in vain; the lock itself is the kernel's */
	if (ftruncate(fd, 0) == 0 && pwrite(fd, pid, snprintf(pid, sizeof(pid), "%d\n", getpid()), 0) < 0)
		pid[0] = '\0';
	return fd;
}

/* ---- a VF's record as JSON ---- */

static const char *const state_names[] = {
	"free", "claiming", "claimed", "assigning", "assigned", "detaching", "releasing", "quarantined",
};

const char *vf_state_name(enum vf_state state)
{
	return state_names[state];
}

/* The fields that are text, by the name they have in the file. */
static const struct {
	const char *name;
	size_t at, len;
} texts[] = {
#define TEXT(field) { #field, offsetof(struct vf_record, field), sizeof(((struct vf_record *)0)->field) }
	TEXT(step), TEXT(owner), TEXT(pool), TEXT(driver), TEXT(driver_before), TEXT(override_before), TEXT(why), TEXT(boot),
#undef TEXT
};

enum { NR_TEXTS = sizeof(texts) / sizeof(texts[0]), NR_STATES = sizeof(state_names) / sizeof(state_names[0]) };

struct json_object *vf_json_record(const struct vf_record *r)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "vf", json_object_new_string(vf_text(r->vf).s));
	json_object_object_add(o, "pf", json_object_new_string(vf_text(r->pf).s));
	json_object_object_add(o, "index", json_object_new_int64(r->index));
	json_object_object_add(o, "state", json_object_new_string(vf_state_name(r->state)));
	for (int i = 0; i < NR_TEXTS; i++)
		if (((const char *)r)[texts[i].at])
			json_object_object_add(o, texts[i].name, json_object_new_string((const char *)r + texts[i].at));
	if (r->domid >= 0)
		json_object_object_add(o, "domid", json_object_new_int(r->domid));
	json_object_object_add(o, "settings", vf_settings_json(&r->settings));
	json_object_object_add(o, "since", json_object_new_int64(r->since));
	if (r->more)
		json_object_object_add(o, "more", json_object_get(r->more));
	return o;
}

static const char *text_in(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

static int64_t number_in(struct json_object *o, const char *key, int64_t none)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : none;
}

/* 0, or -EBADMSG: this is none, or one of another VF. */
static int record_from_json(struct vf_record *r, struct json_object *o)
{
	struct json_object *v;
	struct vf_bdf named;
	int state = 0;

	while (state < NR_STATES && strcmp(state_names[state], text_in(o, "state")))
		state++;
	if (state == NR_STATES || vf_bdf_parse(text_in(o, "vf"), &named) < 0 || !vf_bdf_equal(named, r->vf) ||
	    vf_bdf_parse(text_in(o, "pf"), &r->pf) < 0)
		return -EBADMSG;
	if (json_object_object_get_ex(o, "settings", &v) && vf_settings_from_json(&r->settings, v, NULL) < 0)
		return -EBADMSG;
	r->state = state;
	r->index = number_in(o, "index", 0);
	r->domid = number_in(o, "domid", -1);
	r->since = number_in(o, "since", 0);
	for (int i = 0; i < NR_TEXTS; i++)
		snprintf((char *)r + texts[i].at, texts[i].len, "%s", text_in(o, texts[i].name));
	if (json_object_object_get_ex(o, "more", &v) && v)
		r->more = json_object_get(v);
	return 0;
}

/* ---- a VF's record ---- */

static void record_name(char name[VF_NAME_MAX], struct vf_bdf vf, const char *suffix)
{
	snprintf(name, VF_NAME_MAX, "vf-%s%s", vf_text(vf).s, suffix);
}

int vf_record_read(struct vf_sys *s, struct vf_bdf vf, struct vf_record *out)
{
	char name[VF_NAME_MAX];
	struct json_object *o;
	int rc;

	*out = (struct vf_record){ .vf = vf, .domid = -1, .lock = -1 };
	record_name(name, vf, ".json");
	rc = vf_file_read(s, name, &o);
	if (rc < 0)
		return rc;
	rc = record_from_json(out, o);
	json_object_put(o);
	if (rc < 0)
		vf_record_close(out);
	return rc;
}

/* Which PF makes this VF, and as which: a VF that has no record yet. */
static void find_origin(struct vf_sys *s, struct vf_record *r)
{
	char text[VF_NAME_MAX];

	if (vf_pci_link(s, r->vf, "physfn", text, sizeof(text)) < 0 || vf_bdf_parse(text, &r->pf) < 0)
		return;
	for (unsigned i = 0; i < UINT16_MAX; i++) {
		char attr[16];

		snprintf(attr, sizeof(attr), "virtfn%u", i);
		if (vf_pci_link(s, r->pf, attr, text, sizeof(text)) < 0)
			return;
		if (strcmp(text, vf_text(r->vf).s) == 0) {
			r->index = i;
			return;
		}
	}
}

int vf_record_open(struct vf_sys *s, struct vf_bdf vf, unsigned wait_ms, struct vf_record *out, struct vf_why *why)
{
	char name[VF_NAME_MAX], path[VF_PATH_MAX], pid[32];
	int lock, rc;

	*out = (struct vf_record){ .vf = vf, .domid = -1, .lock = -1 };
	record_name(name, vf, "");
	lock = vf_lock(s, name, wait_ms);
	if (lock == -EBUSY) {
		state_path(s, path, name, ".lock");
		rc = vf_sys_read(s, pid, sizeof(pid), "%s", path + strlen(s->root));
		return vf_fail(why, -EBUSY, "VF %s: another process (pid %s) works on it; try again when it is done", vf_text(vf).s, rc > 0 ? pid : "?");
	}
	if (lock < 0)
		return vf_fail(why, lock, "VF %s: cannot take its lock in %s: %s", vf_text(vf).s, s->state, strerror(-lock));
	rc = vf_record_read(s, vf, out);
	out->lock = lock;
	if (rc == -ENOENT) {
		find_origin(s, out);
		return 0;
	}
	if (rc < 0) {
		vf_record_close(out);
		return vf_fail(why, rc, "VF %s: cannot read who has it: %s/%s.json: %s; if it is damaged, remove it when nobody has the VF",
			       vf_text(vf).s, s->state, name, rc == -EBADMSG ? "no record" : strerror(-rc));
	}
	return 0;
}

int vf_record_save(struct vf_sys *s, struct vf_record *r)
{
	char name[VF_NAME_MAX];
	struct json_object *o;
	struct vf_record was;
	int rc;

	if (r->lock < 0)
		return -EPERM;
	record_name(name, r->vf, ".json");
	if (r->state == VF_FREE)
		return vf_file_remove(s, name);
	rc = vf_record_read(s, r->vf, &was);
	if (rc < 0 || was.state != r->state)
		r->since = time(NULL);
	vf_record_close(&was);
	vf_sys_read(s, r->boot, sizeof(r->boot), "/proc/sys/kernel/random/boot_id");
	o = vf_json_record(r);
	rc = vf_file_write(s, name, o);
	json_object_put(o);
	return rc;
}

int vf_record_step(struct vf_sys *s, struct vf_record *r, enum vf_state state, const char *step)
{
	r->state = state;
	snprintf(r->step, sizeof(r->step), "%s", step ? step : "");
	return vf_record_save(s, r);
}

void vf_record_close(struct vf_record *r)
{
	if (r->lock >= 0)
		close(r->lock);
	r->lock = -1;
	json_object_put(r->more);
	r->more = NULL;
}

bool vf_record_stale(struct vf_sys *s, const struct vf_record *r)
{
	char boot[sizeof(r->boot)];

	return vf_sys_read(s, boot, sizeof(boot), "/proc/sys/kernel/random/boot_id") > 0 && strcmp(boot, r->boot) != 0;
}

/* ---- all records ---- */

/* "vf-0000:01:10.0.json" */
static bool record_bdf(const char *name, struct vf_bdf *out)
{
	char text[VF_BDF_TEXT];

	if (strncmp(name, "vf-", 3) || strlen(name) != 3 + sizeof(text) - 1 + 5 || strcmp(name + 3 + sizeof(text) - 1, ".json"))
		return false;
	snprintf(text, sizeof(text), "%s", name + 3);
	return vf_bdf_parse(text, out) == 0;
}

int vf_record_list(struct vf_sys *s, struct vf_bdf **out)
{
	struct vf_names names;
	int n = vf_sys_names(s, &names, "%s", s->state + strlen(s->root)), found = 0;

	*out = NULL;
	if (n == -ENOENT)
		return 0;
	if (n < 0)
		return n;
	*out = calloc(n ? n : 1, sizeof(**out));
	for (int i = 0; *out && i < n; i++)
		found += record_bdf(names.name[i], &(*out)[found]);
	vf_names_free(&names);
	return *out ? found : -ENOMEM;
}

/* One that somebody works on is none of ours: he lives. */
static int recover_one(struct vf_sys *s, struct vf_bdf vf, vf_undo *undo, void *arg, struct vf_why *why)
{
	struct vf_record r;
	int rc = vf_record_open(s, vf, 0, &r, why);

	if (rc < 0)
		return rc == -EBUSY ? 0 : rc;
	if (vf_state_under_way(r.state)) {
		rc = undo(s, &r, arg, why);
		rc = rc < 0 ? rc : 1;
	}
	vf_record_close(&r);
	return rc;
}

int vf_recover(struct vf_sys *s, vf_undo *undo, void *arg, struct vf_why *why)
{
	struct vf_bdf *vf;
	int n = vf_record_list(s, &vf), done = 0, failed = 0;

	if (n < 0)
		return vf_fail(why, n, "cannot read the records in %s: %s", s->state, strerror(-n));
	for (int i = 0; i < n; i++) {
		int rc = recover_one(s, vf[i], undo, arg, failed ? NULL : why);

		done += rc > 0;
		failed = failed ? failed : rc < 0 ? rc : 0;
	}
	free(vf);
	return failed ? failed : done;
}
