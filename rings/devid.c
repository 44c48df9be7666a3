/* devid.c - names of devices: kinds, and disks as in Xen's vbd-interface. See message.h. */
#include "message.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const type_names[] = {
	[PV_NOXS_VIF] = "vif", [PV_NOXS_VBD] = "vbd", [PV_NOXS_VF] = "vf", [PV_NOXS_SYSCTL] = "sysctl", [PV_NOXS_PIPE] = "pipe",
};

enum { NR_TYPES = sizeof(type_names) / sizeof(type_names[0]) };

const char *pv_type_name(enum pv_noxs_type type)
{
	return (unsigned)type < NR_TYPES ? type_names[type] : NULL;
}

enum pv_noxs_type pv_type_of(const char *name)
{
	for (unsigned type = PV_NOXS_VIF; type < NR_TYPES; type++)
		if (name && strcmp(name, type_names[type]) == 0)
			return type;
	return PV_NOXS_NONE;
}

/* A decimal number without sign, blanks or leading zeros, up to max. Returns how many characters it has, 0: none such. */
static size_t parse_number(const char *s, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; isdigit((unsigned char)s[i]); i++) {
		n = n * 10 + (s[i] - '0');
		if (n > max || (i == 1 && s[0] == '0'))
			return 0;
	}
	*out = n;
	return i;
}

/* Xen's vbd-interface(7): prefix, and where disks of that name go. Disks beyond count or partitions beyond parts do not exist
 * there; xvd has a second, larger range for them. */
static const struct disk_range {
	const char *prefix;
	uint32_t base;
	uint32_t first, count; /* disks: sda is 0 */
	uint8_t shift; /* of the disk */
	uint16_t parts; /* partition numbers: 0 .. parts - 1, 0: the whole disk */
} disk_ranges[] = {
	{ "xvd", 202 << 8, 0, 16, 4, 16 },
	{ "xvd", 1 << 28, 0, 1 << 20, 8, 256 },
	{ "sd", 8 << 8, 0, 16, 4, 16 },
	{ "hd", 3 << 8, 0, 2, 6, 64 },
	{ "hd", 22 << 8, 2, 2, 6, 64 },
};

enum { NR_RANGES = sizeof(disk_ranges) / sizeof(disk_ranges[0]) };

/* Letters to a disk's number: a .. z, aa, ab ... Returns how many letters there are, 0: none or too many. */
static size_t parse_letters(const char *s, uint32_t *disk)
{
	uint32_t n = 0;
	size_t i;

	for (i = 0; s[i] >= 'a' && s[i] <= 'z'; i++) {
		if (n > 1 << 20)
			return 0;
		n = n * 26 + (s[i] - 'a') + 1;
	}
	*disk = n - 1;
	return i;
}

static int disk_of(const char *name, uint32_t *devid)
{
	for (unsigned r = 0; r < NR_RANGES; r++) {
		const struct disk_range *d = &disk_ranges[r];
		const char *s = name + strlen(d->prefix);
		uint64_t part = 0;
		uint32_t disk;
		size_t n;

		if (strncmp(name, d->prefix, strlen(d->prefix)) || !(n = parse_letters(s, &disk)))
			continue;
		s += n;
		if (*s && (!(n = parse_number(s, d->parts - 1, &part)) || s[n] || part == 0))
			continue;
		if (disk < d->first || disk - d->first >= d->count)
			continue;
		*devid = d->base | (disk - d->first) << d->shift | (uint32_t)part;
		return 0;
	}
	return -EINVAL;
}

int pv_devid_of(enum pv_noxs_type type, const char *name, uint32_t *devid)
{
	uint64_t number;
	size_t n = parse_number(name, UINT32_MAX, &number);

	if (n && !name[n]) {
		*devid = (uint32_t)number;
		return 0;
	}
	return type == PV_NOXS_VBD ? disk_of(name, devid) : -EINVAL;
}

/* A disk's number as letters, into buf from its end. Returns where they begin. */
static const char *letters_of(uint32_t disk, char *end)
{
	*--end = 0;
	for (uint32_t n = disk + 1; n; n = (n - 1) / 26)
		*--end = 'a' + (n - 1) % 26;
	return end;
}

void pv_devid_name(enum pv_noxs_type type, uint32_t devid, char *buf, size_t len)
{
	char letters[16];

	for (unsigned r = 0; type == PV_NOXS_VBD && r < NR_RANGES; r++) {
		const struct disk_range *d = &disk_ranges[r];
		uint32_t disk = (devid - d->base) >> d->shift, part = devid & (d->parts - 1);
		const char *name = letters_of(d->first + disk, letters + sizeof(letters));
		uint32_t again;

		if (devid < d->base || disk >= d->count)
			continue;
		snprintf(buf, len, part ? "%s%s%u" : "%s%s", d->prefix, name, part);
		if (disk_of(buf, &again) == 0 && again == devid) /* not a number in a range's second clothes */
			return;
	}
	snprintf(buf, len, "%u", devid);
}
