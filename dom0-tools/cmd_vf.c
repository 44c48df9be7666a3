/* cmd_vf.c - pvio vf list, show: the SR-IOV functions of this machine. */
#include "../sriov/sriov.h"
#include "pvio.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int vf_machine(struct pvio *p, struct vf_sys *s)
{
	const char *root = getenv("PVIO_VF_ROOT");
	int rc = vf_sys_open(s, root);

	if (rc == 0 && !vf_sys_has(s, "/sys"))
		rc = -ENOENT;
	return rc < 0 ? say_failed(p, "%s%s/sys: %s", root ? "PVIO_VF_ROOT: " : "", root ? root : "", strerror(-rc)) : EXIT_DONE;
}

/* ---- a row a function ---- */

static bool is_pf(struct json_object *row)
{
	return *text_of(row, "numvfs");
}

static void address_text(struct json_object *row, char *buf, size_t len)
{
	snprintf(buf, len, "%s%s", is_pf(row) ? "" : "  ", text_of(row, is_pf(row) ? "pf" : "vf"));
}

static void what_text(struct json_object *row, char *buf, size_t len)
{
	if (is_pf(row))
		snprintf(buf, len, "PF, %s of %s VFs", text_of(row, "numvfs"), text_of(row, "totalvfs"));
	else
		snprintf(buf, len, "VF %s", text_of(row, "index"));
}

static void name_text(struct json_object *row, char *buf, size_t len)
{
	const char *port = text_of(row, "port");

	snprintf(buf, len, "%s%s%s%s", text_of(row, "netdev"), text_of(row, "nvme"), *port ? ", port " : "", port);
}

/* Append those of the settings under key that are in `keys` and not so in `but`. */
static void add_settings(struct json_object *row, const char *key, unsigned keys, const struct vf_settings *but, const char *before, char *buf, size_t len)
{
	struct json_object *o = NULL;
	struct vf_settings v = { 0 };

	if (!json_object_object_get_ex(row, key, &o) || vf_settings_from_json(&v, o, NULL) < 0)
		return;
	for (int k = 0; k < VF_KEYS; k++) {
		size_t n = strlen(buf);
		char value[32];

		vf_settings_text(&v, k, value, sizeof(value));
		if (!(keys & 1u << k) || !*value || vf_settings_equal(&v, but, k))
			continue;
		snprintf(buf + n, len - n, "%s%s%s=%s", n ? " " : "", before, vf_key_name(k), value);
		before = "";
	}
}

/* Of a PF its link; of a VF what one that nobody has is not like, and what it should be and is not. */
static void settings_text(struct json_object *row, char *buf, size_t len)
{
	const char *speed = text_of(row, "speed");
	struct json_object *differs = NULL;
	struct vf_settings usual;
	unsigned keys = 0;

	snprintf(buf, len, "%s%s%s%s", text_of(row, "link"), *speed ? ", " : "", speed, *speed ? " Mbit/s" : "");
	vf_settings_default(&usual, VF_ALL_KEYS);
	add_settings(row, "settings", VF_ALL_KEYS, &usual, "", buf, len);
	json_object_object_get_ex(row, "differs", &differs);
	for (size_t i = 0; differs && i < json_object_array_length(differs); i++)
		keys |= 1u << vf_key_find(json_object_get_string(json_object_array_get_idx(differs, i)));
	add_settings(row, "wanted", keys, &(struct vf_settings){ 0 }, "should be ", buf, len);
}

/* PFs, each with its VFs behind it, and what was somebody's and is gone, in one array. */
static struct json_object *rows_of(const struct vf_inventory *inv)
{
	struct json_object *rows = json_object_new_array();

	for (unsigned i = 0; i < inv->npfs; i++) {
		struct json_object *pf = vf_json_pf(&inv->pf[i]);

		json_object_array_add(rows, pf);
		for (unsigned k = 0; k < inv->pf[i].nvfs; k++)
			json_object_array_add(rows, vf_json_vf(&inv->pf[i], &inv->pf[i].vf[k]));
	}
	for (unsigned i = 0; i < inv->ngone; i++) {
		struct json_object *row = vf_json_record(&inv->gone[i]);
		char by[VF_ATTR_MAX];

		snprintf(by, sizeof(by), "%s%sit is not there now", inv->gone[i].owner, *inv->gone[i].owner ? ", but " : "");
		json_object_object_del(row, "driver"); /* the one it had */
		json_object_object_del(row, "settings");
		json_object_object_add(row, "used_by", json_object_new_string(by));
		json_object_array_add(rows, row);
	}
	return rows;
}

static int look(struct pvio *p, unsigned flags, struct vf_inventory *inv)
{
	struct vf_why why;
	struct vf_sys s;
	int rc = vf_machine(p, &s);

	if (rc != EXIT_DONE)
		return rc;
	if (vf_inventory(&s, flags, inv, &why) < 0) {
		vf_inventory_free(inv);
		rc = say_failed(p, "%s", why.text);
	}
	vf_sys_close(&s);
	return rc;
}

int cmd_vf_list(struct pvio *p)
{
	static const struct column columns[] = {
		{ "ADDRESS", NULL, false, address_text }, { "WHAT", NULL, false, what_text }, { "DRIVER", "driver", false, NULL },
		{ "NAME", NULL, false, name_text }, { "NUMA", "numa", true, NULL }, { "GROUP", "iommu_group", true, NULL },
		{ "POOL", "pool", false, NULL }, { "LINK or SETTINGS", NULL, false, settings_text }, { "STATE", "state", false, NULL },
		{ "USED BY", "used_by", false, NULL },
	};
	struct vf_inventory inv;
	struct json_object *rows;
	int rc = look(p, VF_INV_USERS, &inv);

	if (rc != EXIT_DONE)
		return rc;
	if (p->json) {
		print_json(vf_json_inventory(&inv));
	} else {
		rows = rows_of(&inv);
		print_table(rows, columns, sizeof(columns) / sizeof(columns[0]), "no PCI function here can have virtual functions (SR-IOV)");
		json_object_put(rows);
	}
	vf_inventory_free(&inv);
	return EXIT_DONE;
}

/* One function, with the members of its IOMMU group. NULL after a message. */
static struct json_object *find_one(struct pvio *p, const struct vf_inventory *inv)
{
	struct vf_group *group;
	struct json_object *o;
	struct vf_why why, vf_why;
	struct vf_pf *pf;
	struct vf *vf;
	int rc = vf_match_pf(inv, p->args[0], &pf, &why), group_nr;

	if (rc == 0) {
		o = vf_json_pf(pf);
		group_nr = pf->dev.group;
	} else if (rc != -EEXIST && vf_match_vf(inv, p->args[0], &vf, &pf, &vf_why) == 0) {
		o = vf_json_vf(pf, vf);
		group_nr = vf->dev.group;
	} else {
		say_failed(p, "%s", rc == -EEXIST ? why.text : strchr(p->args[0], '/') ? vf_why.text :
			   "no PF or VF is called so by its address, netdev, VENDOR:DEVICE or port; `pvio vf list` has them all");
		return NULL;
	}
	group = vf_find_group(inv, group_nr);
	if (group)
		json_object_object_add(o, "group", vf_json_group(group));
	return o;
}

int cmd_vf_show(struct pvio *p)
{
	struct vf_inventory inv;
	struct json_object *o;
	int rc = look(p, VF_INV_USERS | (opt_value(p, "--probe") ? VF_INV_PROBE : 0), &inv);

	if (rc != EXIT_DONE)
		return rc;
	o = find_one(p, &inv);
	vf_inventory_free(&inv);
	if (!o)
		return EXIT_FAILED;
	if (p->json)
		return print_json(o);
	print_tree(o, 0);
	json_object_put(o);
	return EXIT_DONE;
}
