/* vif_config.c - the keys of a vif: one table for parsing and help. Pure. */
#include "netback.h"
#include <ctype.h>

enum { MTU_MIN = 68 };

static int parse_mac(const char *s, void *field)
{
	uint8_t mac[6];

	if (strlen(s) != 17)
		return -EINVAL;
	for (int i = 0; i < 6; i++) {
		if (!isxdigit((unsigned char)s[i * 3]) || !isxdigit((unsigned char)s[i * 3 + 1]) || (i < 5 && s[i * 3 + 2] != ':'))
			return -EINVAL;
		mac[i] = (uint8_t)strtoul(s + i * 3, NULL, 16);
	}
	if (mac[0] & 1 || !switch_mac(mac))
		return -EINVAL;
	memcpy(field, mac, 6);
	return 0;
}

static int parse_range(const char *s, uint32_t min, uint32_t max, uint32_t *out)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);

	if (!isdigit((unsigned char)*s) || *end || n < min || n > max)
		return -EINVAL;
	*out = (uint32_t)n;
	return 0;
}

static int parse_mtu(const char *s, void *field)
{
	return parse_range(s, MTU_MIN, VIF_MTU_MAX, field);
}

static int parse_queues(const char *s, void *field)
{
	return parse_range(s, 1, PV_NOXS_QUEUES_MAX, field);
}

static int parse_carrier(const char *s, void *field)
{
	return parse_range(s, 0, 1, field);
}

static int parse_ip(const char *s, void *field)
{
	return antispoof_parse(s, field);
}

/* The name of a PCI function, or whatever the VF's owner calls it. */
static int parse_name(const char *s, void *field)
{
	*(uint32_t *)field = 1;
	return *s && strlen(s) < 64 ? 0 : -EINVAL;
}

static int parse_use(const char *s, void *field)
{
	*(uint32_t *)field = 1;
	return strcmp(s, "vf") && strcmp(s, "vif") ? -EINVAL : 0;
}

static int parse_rules(const char *s, void *field)
{
	*(const char **)field = s;
	return 0;
}

static int parse_bridge(const char *s, void *field)
{
	if (!*s || strlen(s) >= NB_BRIDGE_NAME)
		return -EINVAL;
	strcpy(field, s);
	return 0;
}

static const struct {
	const char *key;
	int (*parse)(const char *s, void *field);
	size_t field;
	const char *help;
} keys[] = {
	{ "mac", parse_mac, offsetof(struct vif_config, mac),
	  "a unicast address such as 02:00:00:00:00:01; else one made of guest and number. Changed while connected: the switch has it at once, "
	  "Linux' own driver when it connects anew" },
	{ "mtu", parse_mtu, offsetof(struct vif_config, mtu), "68..65521; if not given that of the bridge's uplink, or 1500" },
	{ "queues", parse_queues, offsetof(struct vif_config, queues), "1..16, the most that the guest may use; not changed while connected" },
	{ "carrier", parse_carrier, offsetof(struct vif_config, carrier), "0: the link is down, nothing passes" },
	{ "trusted", parse_carrier, offsetof(struct vif_config, trusted),
	  "0: the guest is told not to trust this backend; Linux then copies what it sends into pages that hold nothing else" },
	{ "pair", parse_name, offsetof(struct vif_config, pair),
	  "NAME of the VF, such as 0000:01:10.0, that forms one NIC with it: the guest is told, and sends by the VF while it is there" },
	{ "use", parse_use, offsetof(struct vif_config, use), "vf, or vif: of a pair the guest is to leave the VF; pvio pair waits until it has" },
	{ "antispoof", parse_carrier, offsetof(struct vif_config, antispoof), "1: the guest sends as itself alone: by its MAC, and by ip= if given" },
	{ "ip", parse_ip, offsetof(struct vif_config, own), "addresses that are the guest's, such as 10.0.0.5,2001:db8::/64" },
	{ "rules", parse_rules, offsetof(struct vif_config, rules), "the text of a rules file: see pvio-rules(5), pvio rules load" },
	{ "rate-tx", limit_parse_bits, offsetof(struct vif_config, limit.tx_bits),
	  "bits a second that it may send, over all queues: 8k..1000G, such as 100M" },
	{ "rate-rx", limit_parse_bits, offsetof(struct vif_config, limit.rx_bits), "bits a second that it may receive" },
	{ "pps-tx", limit_parse_packets, offsetof(struct vif_config, limit.tx_packets), "packets a second that it may send: 10..1000G" },
	{ "pps-rx", limit_parse_packets, offsetof(struct vif_config, limit.rx_packets), "packets a second that it may receive" },
	{ "burst", limit_parse_burst, offsetof(struct vif_config, limit.burst),
	  "bytes that may pass at once after a pause, where rate-tx= or rate-rx= is given; else what passes in 10 ms" },
	{ "rate", limit_parse_window, offsetof(struct vif_config, limit), "rate-tx= and burst= in one, as xl writes it: BYTES,MICROSECONDS" },
	{ "bridge", parse_bridge, offsetof(struct vif_config, bridge),
	  "a Linux bridge such as xenbr0, or what --uplink NAME=DEVICE calls so; not changed while connected, nor are these:" },
	{ "vlan", vlan_parse_access, offsetof(struct vif_config, vlans), "1..4094: its untagged packets are in that VLAN; 0: in none" },
	{ "trunk", vlan_parse_trunk, offsetof(struct vif_config, vlans),
	  "such as 10,20-30: packets tagged with one of these pass; untagged ones only with vlan= as well" },
};

void vif_config_help(void)
{
	printf("\nKeys of a vif (pvio attach GUEST vif KEY=VALUE...):\n");
	for (size_t i = 0; i < RTE_DIM(keys); i++)
		printf("  %-24s %s\n", keys[i].key, keys[i].help);
}

static int no_such_key(const struct pv_device_id *id, const char *key, char *why, size_t len)
{
	char names[240] = "";
	size_t n = 0;

	for (size_t i = 0; i < RTE_DIM(keys) && n < sizeof(names); i++)
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", i ? ", " : "", keys[i].key);
	return pv_why(why, len, -EINVAL, "vif %u of guest %u: no such key: %s; there are %s", id->devid, id->guest, key, names);
}

static int parse_key(const struct pv_device_id *id, const char *key, const char *value, struct vif_config *out,
		     char *why, size_t len)
{
	for (size_t i = 0; i < RTE_DIM(keys); i++) {
		if (strcmp(keys[i].key, key))
			continue;
		if (keys[i].parse(value, (char *)out + keys[i].field))
			return pv_why(why, len, -EINVAL, "vif %u of guest %u: %s=%s: give %s", id->devid, id->guest, key, value,
				      keys[i].help);
		return 0;
	}
	return no_such_key(id, key, why, len);
}

int vif_config_parse(const struct pv_device_id *id, struct json_object *config, unsigned queues_default,
		     struct vif_config *out, char *why, size_t len)
{
	*out = (struct vif_config){
		.mac = { 0x02, 0x70, (uint8_t)(id->guest >> 8), (uint8_t)id->guest, (uint8_t)(id->devid >> 8), (uint8_t)id->devid },
		.queues = queues_default,
		.carrier = 1,
		.trusted = 1,
	};
	if (!config)
		return 0;
	json_object_object_foreach(config, key, value) {
		int ret = parse_key(id, key, json_object_get_string(value), out, why, len);

		if (ret < 0)
			return ret;
	}
	if (vlan_clash(&out->vlans))
		return pv_why(why, len, -EINVAL, "vif %u of guest %u: vlan=%u is in trunk= as well: its packets have a tag, or have none",
			      id->devid, id->guest, out->vlans.access);
	return 0;
}
