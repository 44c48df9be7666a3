/* show.c - the inventory as JSON. */
#include "sriov.h"
#include <stdio.h>
#include <string.h>

static void add_text(struct json_object *o, const char *key, const char *text)
{
	if (*text)
		json_object_object_add(o, key, json_object_new_string(text));
}

static void add_number(struct json_object *o, const char *key, int64_t n)
{
	json_object_object_add(o, key, json_object_new_int64(n));
}

static void add_dev(struct json_object *o, const char *key, const struct vf_dev *d)
{
	char id[16];

	add_text(o, key, vf_text(d->bdf).s);
	snprintf(id, sizeof(id), "%04x:%04x", d->vendor, d->device);
	add_text(o, "id", id);
	snprintf(id, sizeof(id), "%06x", d->class);
	add_text(o, "class", id);
	add_text(o, "driver", d->driver);
	add_text(o, "driver_override", d->override);
	add_text(o, "netdev", d->netdev);
	add_text(o, "nvme", d->nvme);
	if (d->numa >= 0)
		add_number(o, "numa", d->numa);
	if (d->group >= 0)
		add_number(o, "iommu_group", d->group);
	add_text(o, "reset", d->reset);
}

static struct json_object *stats_json(const struct vf_stats *st)
{
	struct json_object *o = json_object_new_object();
	const struct { const char *name; uint64_t n; } all[] = {
		{ "rx_packets", st->rx_packets }, { "tx_packets", st->tx_packets }, { "rx_bytes", st->rx_bytes }, { "tx_bytes", st->tx_bytes },
		{ "broadcast", st->broadcast }, { "multicast", st->multicast }, { "rx_dropped", st->rx_dropped }, { "tx_dropped", st->tx_dropped },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		json_object_object_add(o, all[i].name, json_object_new_uint64(all[i].n));
	return o;
}

/* What it shall be, declared and by its owner, and which of that it is not. */
static void add_wanted(struct json_object *o, const struct vf *vf)
{
	struct vf_settings wanted = vf->declared;
	struct json_object *differs;
	unsigned keys;

	if (vf->record.state >= VF_CLAIMING && vf->record.state <= VF_DETACHING)
		vf_settings_merge(&wanted, &vf->record.settings);
	if (!wanted.set)
		return;
	json_object_object_add(o, "wanted", vf_settings_json(&wanted));
	keys = vf_settings_differ(&wanted, &vf->is);
	differs = json_object_new_array();
	for (int k = 0; k < VF_KEYS; k++)
		if (keys & 1u << k)
			json_object_array_add(differs, json_object_new_string(vf_key_name(k)));
	json_object_object_add(o, "differs", differs);
}

struct json_object *vf_json_vf(const struct vf_pf *pf, const struct vf *vf)
{
	struct json_object *o = json_object_new_object();

	add_dev(o, "vf", &vf->dev);
	add_text(o, "pf", vf_text(pf->dev.bdf).s);
	add_number(o, "index", vf->index);
	if (vf->is.set) {
		json_object_object_add(o, "settings", vf_settings_json(&vf->is));
		json_object_object_add(o, "stats", stats_json(&vf->stats));
	}
	add_wanted(o, vf);
	add_text(o, "pool", vf->pool);
	add_text(o, "state", vf_state_name(vf->record.state));
	add_text(o, "owner", vf->record.owner);
	if (vf->record.domid >= 0)
		add_number(o, "domid", vf->record.domid);
	json_object_object_add(o, "in_use", json_object_new_boolean(vf->in_use));
	add_text(o, "used_by", vf->used_by);
	return o;
}

static void add_netdev(struct json_object *o, const struct vf_pf *pf)
{
	struct vf_settings address = { .set = 1 << VF_MAC };
	char mac[32];

	memcpy(address.mac, pf->mac, sizeof(address.mac));
	vf_settings_text(&address, VF_MAC, mac, sizeof(mac));
	add_text(o, "port", pf->port);
	add_text(o, "switch_id", pf->switch_id);
	add_text(o, "mac", mac);
	add_number(o, "mtu", pf->mtu);
	add_text(o, "link", !pf->up ? "down" : pf->carrier ? "up" : "no carrier");
	if (pf->speed > 0)
		add_number(o, "speed", pf->speed);
}

struct json_object *vf_json_pf(const struct vf_pf *pf)
{
	static const char *const kinds[] = { [VF_KIND_NET] = "net", [VF_KIND_NVME] = "nvme", [VF_KIND_OTHER] = "other" };
	static const char *const answers[] = { [VF_ASK] = "unknown", [VF_NO] = "no", [VF_YES] = "yes" };
	struct json_object *o = json_object_new_object(), *supports = json_object_new_object(), *vfs = json_object_new_array();

	add_dev(o, "pf", &pf->dev);
	add_text(o, "kind", kinds[pf->kind]);
	if (pf->ifindex)
		add_netdev(o, pf);
	add_number(o, "totalvfs", pf->total);
	add_number(o, "numvfs", pf->num);
	json_object_object_add(o, "autoprobe", json_object_new_boolean(pf->autoprobe));
	for (int k = 0; k < VF_KEYS; k++)
		add_text(supports, vf_key_name(k), answers[pf->supports[k]]);
	json_object_object_add(o, "supports", supports);
	for (unsigned i = 0; i < pf->nvfs; i++)
		json_object_array_add(vfs, vf_json_vf(pf, &pf->vf[i]));
	json_object_object_add(o, "vfs", vfs);
	return o;
}

struct json_object *vf_json_group(const struct vf_group *g)
{
	struct json_object *o = json_object_new_object(), *members = json_object_new_array();

	add_number(o, "iommu_group", g->nr);
	for (unsigned i = 0; i < g->nmembers; i++) {
		struct json_object *m = json_object_new_object();
		char class[16];

		snprintf(class, sizeof(class), "%06x", g->member[i].class);
		add_text(m, "address", vf_text(g->member[i].bdf).s);
		add_text(m, "class", class);
		add_text(m, "driver", g->member[i].driver);
		json_object_array_add(members, m);
	}
	json_object_object_add(o, "members", members);
	return o;
}

struct json_object *vf_json_inventory(const struct vf_inventory *inv)
{
	struct json_object *o = json_object_new_object(), *pfs = json_object_new_array(), *groups = json_object_new_array(), *gone = json_object_new_array();

	for (unsigned i = 0; i < inv->npfs; i++)
		json_object_array_add(pfs, vf_json_pf(&inv->pf[i]));
	for (unsigned i = 0; i < inv->ngroups; i++)
		json_object_array_add(groups, vf_json_group(&inv->group[i]));
	for (unsigned i = 0; i < inv->ngone; i++)
		json_object_array_add(gone, vf_json_record(&inv->gone[i]));
	json_object_object_add(o, "pfs", pfs);
	json_object_object_add(o, "groups", groups);
	json_object_object_add(o, "gone", gone);
	return o;
}
