/* domain_pvh.c - what a PVH guest finds in its memory: the memory map and the ACPI tables. */
#include "domain.h"
#include <string.h>
#include <xenctrl.h>
#include <xen/hvm/e820.h>

void pvh_memory_layout(uint64_t bytes, struct pvh_memory *m)
{
	m->low_end = bytes < PVH_HOLE_START ? bytes : PVH_HOLE_START;
	m->high_end = bytes > m->low_end ? PVH_HOLE_END + (bytes - m->low_end) : 0;
}

unsigned pvh_memory_map(const struct pvh_memory *m, struct e820entry *map)
{
	unsigned n = 0;

	map[n++] = (struct e820entry){ .addr = 0, .size = m->low_end, .type = E820_RAM };
	map[n++] = (struct e820entry){ .addr = PVH_HOLE_START, .size = PVH_ACPI_BYTES, .type = E820_ACPI };
	map[n++] = (struct e820entry){ .addr = PVH_LAPIC, .size = PVH_HOLE_END - PVH_LAPIC, .type = E820_RESERVED };
	if (m->high_end)
		map[n++] = (struct e820entry){ .addr = PVH_HOLE_END, .size = m->high_end - PVH_HOLE_END, .type = E820_RAM };
	return n;
}

/* ---- ACPI: only what differs from 0 is named (ACPI 5.0, chapter 5.2) ---- */

struct table_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem[6], oem_table[8];
	uint32_t oem_revision;
	char creator[4];
	uint32_t creator_revision;
} __attribute__((packed));

struct rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t checksum_all, reserved[3];
} __attribute__((packed));

struct xsdt {
	struct table_header h;
	uint64_t fadt, madt;
} __attribute__((packed));

struct fadt {
	struct table_header h;
	uint32_t facs, dsdt;
	uint8_t ports_and_blocks[65]; /* hardware that a HW_REDUCED machine has not */
	uint16_t boot_flags;
	uint8_t reserved;
	uint32_t flags;
	uint8_t reset[16];
	uint64_t x_facs, x_dsdt;
	uint8_t x_blocks[120];
} __attribute__((packed));

struct lapic {
	uint8_t type, length, processor, apic_id;
	uint32_t flags;
} __attribute__((packed));

struct madt {
	struct table_header h;
	uint32_t lapic_address, flags;
	struct lapic lapic[DOMAIN_VCPUS_MAX];
} __attribute__((packed));

/* All of it, as it lies in the page. */
struct tables {
	struct rsdp rsdp __attribute__((aligned(16)));
	struct xsdt xsdt __attribute__((aligned(16)));
	struct fadt fadt __attribute__((aligned(16)));
	struct table_header dsdt __attribute__((aligned(16)));
	struct madt madt __attribute__((aligned(16)));
};

_Static_assert(sizeof(struct rsdp) == 36 && sizeof(struct table_header) == 36, "as specified");
_Static_assert(offsetof(struct fadt, boot_flags) == 109 && offsetof(struct fadt, flags) == 112, "as specified");
_Static_assert(offsetof(struct fadt, x_dsdt) == 140 && sizeof(struct fadt) == 268, "as specified");
_Static_assert(sizeof(struct tables) <= PVH_ACPI_BYTES, "the page holds the tables of the largest guest");

enum {
	FADT_NO_VGA = 1 << 2, FADT_NO_CMOS_RTC = 1 << 5, FADT_HW_REDUCED = 1 << 20,
	MADT_LAPIC = 0, LAPIC_ENABLED = 1,
};

/* The byte that makes `len` bytes sum up to 0; it must be 0 now. */
static uint8_t checksum(const void *p, size_t len)
{
	const uint8_t *b = p;
	uint8_t sum = 0;

	while (len--)
		sum += *b++;
	return -sum;
}

static void seal(struct table_header *h, const char signature[4], uint8_t revision, uint32_t length)
{
	memcpy(h->signature, signature, 4);
	memcpy(h->oem, "PVIO  ", 6);
	memcpy(h->oem_table, "PVIO-PVH", 8);
	memcpy(h->creator, "PVIO", 4);
	h->oem_revision = h->creator_revision = 1;
	h->revision = revision;
	h->length = length;
	h->checksum = checksum(h, length);
}

static void seal_rsdp(struct rsdp *r)
{
	memcpy(r->signature, "RSD PTR ", 8);
	memcpy(r->oem, "PVIO  ", 6);
	r->revision = 2;
	r->length = sizeof(*r);
	r->checksum = checksum(r, 20);
	r->checksum_all = checksum(r, sizeof(*r));
}

void pvh_acpi_tables(uint8_t *page, uint64_t base, unsigned vcpus)
{
	struct tables t = { 0 };

	t.rsdp.xsdt = base + offsetof(struct tables, xsdt);
	t.xsdt.fadt = base + offsetof(struct tables, fadt);
	t.xsdt.madt = base + offsetof(struct tables, madt);
	t.fadt.dsdt = t.fadt.x_dsdt = base + offsetof(struct tables, dsdt);
	t.fadt.boot_flags = FADT_NO_VGA | FADT_NO_CMOS_RTC;
	t.fadt.flags = FADT_HW_REDUCED;
	t.madt.lapic_address = PVH_LAPIC;
	/* Xen gives vcpu n the APIC id 2 n; Linux takes `processor` for the vcpu's number */
	for (unsigned i = 0; i < vcpus; i++)
		t.madt.lapic[i] = (struct lapic){ .type = MADT_LAPIC, .length = sizeof(struct lapic), .processor = i, .apic_id = 2 * i,
						  .flags = LAPIC_ENABLED };
	seal(&t.dsdt, "DSDT", 2, sizeof(t.dsdt));
	seal(&t.fadt.h, "FACP", 5, sizeof(t.fadt));
	seal(&t.madt.h, "APIC", 3, offsetof(struct madt, lapic) + vcpus * sizeof(struct lapic));
	seal(&t.xsdt.h, "XSDT", 1, sizeof(t.xsdt));
	seal_rsdp(&t.rsdp);
	memset(page, 0, PVH_ACPI_BYTES);
	memcpy(page, &t, sizeof(t));
}
