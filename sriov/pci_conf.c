/* pci_conf.c - the configuration space of a VF as its guest sees it. Pure: the function itself is behind struct vf_conf_ops.
 *
 * Theory of operation. When the guest gets the function its space is read once, and from that a picture is drawn: for each byte a value, and
 * which of its bits are read from the function anew each time (real), are the guest's to play with (latch), or go on to the function
 * (pass). Everything else stays as it was drawn, whatever is written. So what a guest can do to the function is what has a bit in `pass`:
 * one, that it may begin DMA, which goes where Xen lets it. Its interrupts are switched on by ops of their own (pci.c), since they
 * have to be made known to Xen first; what lies in the tables of its interrupts is the machine's, and not shown.
 *
 * What differs from what the function itself says:
 *	- vendor and device are 0xffff there, and its BARs 0: the PF has them;
 *	- memory decoding is the PF's: the bit is latched, as drivers expect;
 *	- a BAR answers the question for its size, and is otherwise where it is: a guest cannot move it;
 *	- capabilities are those of a list, and say nothing of what does not work: a guest cannot reset the function, nor wake anything;
 *	- extended capabilities are not there.
 */
#include "pci.h"
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

enum {
	CAPS_FROM = 0x40, /* capabilities are behind the header */
	HEADER_MULTI = 0x80,
	CAPS_MAX = (VF_CONF_SEEN - CAPS_FROM) / 4,
	MSIX_ENTRY_SIZE = 16,
};

/* ---- the picture ---- */

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, (uint16_t)v);
	put16(p + 2, (uint16_t)(v >> 16));
}

static int read_image(const struct vf_conf_ops *ops, void *ctx, uint8_t image[VF_CONF_SEEN])
{
	for (unsigned at = 0; at < VF_CONF_SEEN; at += 4) {
		uint32_t v;
		int rc = ops->read(ctx, at, 4, &v);

		if (rc < 0)
			return rc;
		put32(image + at, v);
	}
	return 0;
}

static void draw_header(struct vf_conf *c, const struct vf_conf_dev *dev, const uint8_t *image)
{
	struct vf_conf_bits *b = &c->bits;

	put16(b->value + PCI_VENDOR_ID, dev->vendor);
	put16(b->value + PCI_DEVICE_ID, dev->device);
	b->latch[PCI_COMMAND] = PCI_COMMAND_MEMORY;
	b->real[PCI_COMMAND] = b->pass[PCI_COMMAND] = PCI_COMMAND_MASTER;
	b->latch[PCI_COMMAND + 1] = PCI_COMMAND_INTX_DISABLE >> 8;
	memcpy(b->value + PCI_CLASS_REVISION, image + PCI_CLASS_REVISION, 4);
	b->latch[PCI_CACHE_LINE_SIZE] = 0xff;
	memcpy(b->value + PCI_SUBSYSTEM_VENDOR_ID, image + PCI_SUBSYSTEM_VENDOR_ID, 4);
	b->latch[PCI_INTERRUPT_LINE] = 0xff;
}

/* Half a register pair of a BAR of 64 bits, or the one of 32. */
static void draw_bar_half(struct vf_conf *c, unsigned i, uint32_t start, uint32_t mask, uint32_t flags)
{
	c->bar[i] = start | flags;
	c->probed[i] = mask | flags;
	put32(c->bits.value + PCI_BASE_ADDRESS_0 + 4 * i, c->bar[i]);
}

static int draw_bars(struct vf_conf *c, const struct vf_conf_dev *dev)
{
	for (unsigned i = 0; i < VF_BARS; i++) {
		const struct vf_conf_bar *bar = &dev->bar[i];
		uint64_t mask = ~(bar->size - 1);
		bool wide = (bar->flags & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;

		if (!bar->size)
			continue;
		if (bar->size & (bar->size - 1) || bar->size < 16 || !bar->start || bar->start & ~mask || bar->flags > 15 ||
		    bar->flags & PCI_BASE_ADDRESS_SPACE_IO || (wide && (i + 1 == VF_BARS || dev->bar[i + 1].size)))
			return -EINVAL;
		if (!wide && (bar->start + bar->size - 1) >> 32)
			return -EINVAL;
		draw_bar_half(c, i, (uint32_t)bar->start, (uint32_t)mask, bar->flags);
		if (wide)
			draw_bar_half(c, ++i, (uint32_t)(bar->start >> 32), (uint32_t)(mask >> 32), 0);
	}
	return 0;
}

/* ---- capabilities ---- */

/* Each draws what lies behind id and next. Returns 0 or -EINVAL. */
static int draw_pm(struct vf_conf *c, uint8_t at, const struct vf_conf_dev *dev, const uint8_t *image)
{
	(void)dev;
	put16(c->bits.value + at + PCI_PM_PMC, get16(image + at + PCI_PM_PMC) & PCI_PM_CAP_VER_MASK);
	put16(c->bits.value + at + PCI_PM_CTRL, get16(image + at + PCI_PM_CTRL) & PCI_PM_CTRL_NO_SOFT_RESET);
	c->bits.latch[at + PCI_PM_CTRL] = PCI_PM_CTRL_STATE_MASK; /* it sleeps for the guest; the host decides for the function */
	return 0;
}

/* One interrupt, without masks; its address and data are the machine's. */
static int draw_msi(struct vf_conf *c, uint8_t at, const struct vf_conf_dev *dev, const uint8_t *image)
{
	(void)dev;
	put16(c->bits.value + at + PCI_MSI_FLAGS, get16(image + at + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_64BIT);
	c->bits.real[at + PCI_MSI_FLAGS] = PCI_MSI_FLAGS_ENABLE;
	c->msi = at;
	return 0;
}

static int draw_msix(struct vf_conf *c, uint8_t at, const struct vf_conf_dev *dev, const uint8_t *image)
{
	uint32_t table = get32(image + at + PCI_MSIX_TABLE), bir = table & PCI_MSIX_TABLE_BIR;
	uint16_t n = (uint16_t)((get16(image + at + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1);
	const struct vf_conf_bar *bar = &dev->bar[bir < VF_BARS ? bir : 0];

	if (bir >= VF_BARS || (table & PCI_MSIX_TABLE_OFFSET) + (uint64_t)n * MSIX_ENTRY_SIZE > bar->size)
		return -EINVAL;
	put16(c->bits.value + at + PCI_MSIX_FLAGS, (uint16_t)(n - 1));
	c->bits.real[at + PCI_MSIX_FLAGS + 1] = (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
	memcpy(c->bits.value + at + PCI_MSIX_TABLE, image + at + PCI_MSIX_TABLE, 8);
	c->msix = at;
	c->msix_entries = n;
	c->msix_table = bar->start;
	return 0;
}

static int draw_pcie(struct vf_conf *c, uint8_t at, const struct vf_conf_dev *dev, const uint8_t *image)
{
	uint16_t flags = get16(image + at + PCI_EXP_FLAGS);
	unsigned len = (flags & PCI_EXP_FLAGS_VERS) < 2 ? PCI_EXP_SLTCAP : PCI_EXP_SLTSTA2 + 2;

	(void)dev;
	if (at + len > VF_CONF_SEEN)
		return -EINVAL;
	put16(c->bits.value + at + PCI_EXP_FLAGS, flags);
	put32(c->bits.value + at + PCI_EXP_DEVCAP, get32(image + at + PCI_EXP_DEVCAP) & ~(uint32_t)PCI_EXP_DEVCAP_FLR);
	memset(c->bits.real + at + PCI_EXP_DEVCTL, 0xff, len - PCI_EXP_DEVCTL);
	return 0;
}

static const struct {
	uint8_t id, len; /* len: of its smallest form */
	int (*draw)(struct vf_conf *c, uint8_t at, const struct vf_conf_dev *dev, const uint8_t *image);
} shown[] = {
	{ PCI_CAP_ID_PM, PCI_PM_SIZEOF, draw_pm },
	{ PCI_CAP_ID_MSI, PCI_MSI_DATA_32 + 2, draw_msi },
	{ PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF, draw_msix },
	{ PCI_CAP_ID_EXP, PCI_EXP_SLTCAP, draw_pcie },
};

static int draw_capability(struct vf_conf *c, uint8_t at, const struct vf_conf_dev *dev, const uint8_t *image, unsigned *link)
{
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		if (shown[i].id != image[at])
			continue;
		if (at + shown[i].len > VF_CONF_SEEN)
			return -EINVAL;
		c->bits.value[*link] = at;
		*link = at + PCI_CAP_LIST_NEXT;
		c->bits.value[at] = image[at];
		return shown[i].draw(c, at, dev, image);
	}
	return 0;
}

static int draw_capabilities(struct vf_conf *c, const struct vf_conf_dev *dev, const uint8_t *image)
{
	unsigned link = PCI_CAPABILITY_LIST, n = 0;
	int rc = 0;

	if (!(get16(image + PCI_STATUS) & PCI_STATUS_CAP_LIST))
		return 0;
	for (uint8_t at = image[PCI_CAPABILITY_LIST] & ~3; at && rc == 0; at = image[at + PCI_CAP_LIST_NEXT] & ~3) {
		if (at < CAPS_FROM || ++n > CAPS_MAX)
			return -EINVAL; /* it leads into the header, or in a circle */
		rc = draw_capability(c, at, dev, image, &link);
	}
	if (link != PCI_CAPABILITY_LIST)
		c->bits.value[PCI_STATUS] = PCI_STATUS_CAP_LIST;
	return rc;
}

int vf_conf_init(struct vf_conf *c, const struct vf_conf_dev *dev, const struct vf_conf_ops *ops, void *ctx)
{
	uint8_t image[VF_CONF_SEEN];
	int rc = read_image(ops, ctx, image);

	*c = (struct vf_conf){ .ops = ops, .ctx = ctx };
	if (rc < 0)
		return rc;
	if ((image[PCI_HEADER_TYPE] & ~HEADER_MULTI) != PCI_HEADER_TYPE_NORMAL)
		return -EINVAL;
	draw_header(c, dev, image);
	rc = draw_bars(c, dev);
	return rc < 0 ? rc : draw_capabilities(c, dev, image);
}

/* ---- a guest's accesses ---- */

static bool is_register(uint32_t offset, uint32_t size)
{
	return (size == 1 || size == 2 || size == 4) && offset < VF_CONF_SPACE && offset % size == 0;
}

static uint32_t bits_at(const uint8_t *bytes, uint32_t offset, uint32_t size)
{
	uint32_t v = 0;

	for (uint32_t i = 0; i < size; i++)
		v |= (uint32_t)bytes[offset + i] << 8 * i;
	return v;
}

int vf_conf_read(struct vf_conf *c, uint32_t offset, uint32_t size, uint32_t *value)
{
	uint32_t real, now;
	int rc;

	*value = 0;
	if (!is_register(offset, size))
		return -EINVAL;
	if (offset >= VF_CONF_SEEN)
		return 0;
	real = bits_at(c->bits.real, offset, size);
	if (real) {
		rc = c->ops->read(c->ctx, offset, size, &now);
		if (rc < 0)
			return rc;
		*value = now & real;
	}
	*value |= bits_at(c->bits.value, offset, size) & ~real;
	return 0;
}

/* Some bits of one byte of the function, and no others: those of its neighbours may mean something when they are written. */
static int pass_on(struct vf_conf *c, uint32_t offset, uint8_t bits, uint8_t value)
{
	uint32_t now;
	int rc = c->ops->read(c->ctx, offset, 1, &now);

	if (rc == 0 && (now & bits) != (value & bits))
		rc = c->ops->write(c->ctx, offset, 1, (now & ~(uint32_t)bits) | (value & bits));
	return rc;
}

/* All ones in a BAR ask how large it is; whatever else is written puts it back to where it always was. */
static void write_bar(struct vf_conf *c, unsigned i, uint32_t value)
{
	bool asks = (value & ~(uint32_t)15) == ~(uint32_t)15;

	put32(c->bits.value + PCI_BASE_ADDRESS_0 + 4 * i, asks ? c->probed[i] : c->bar[i]);
}

int vf_conf_write(struct vf_conf *c, uint32_t offset, uint32_t size, uint32_t value)
{
	int rc = 0;

	if (!is_register(offset, size))
		return -EINVAL;
	if (offset >= VF_CONF_SEEN)
		return 0;
	if (offset >= PCI_BASE_ADDRESS_0 && offset < PCI_BASE_ADDRESS_0 + 4 * VF_BARS && size == 4)
		write_bar(c, (offset - PCI_BASE_ADDRESS_0) / 4, value);
	for (uint32_t i = 0; i < size && rc == 0; i++) {
		uint8_t byte = (uint8_t)(value >> 8 * i), *to = &c->bits.value[offset + i], latch = c->bits.latch[offset + i];

		*to = (uint8_t)((*to & ~latch) | (byte & latch));
		if (c->bits.pass[offset + i])
			rc = pass_on(c, offset + i, c->bits.pass[offset + i], byte);
	}
	return rc;
}

/* ---- ours ---- */

/* The bits that a guest can change by writing; a BAR has two looks. */
void vf_conf_restore(struct vf_conf *c, const uint8_t value[VF_CONF_SEEN])
{
	for (unsigned i = 0; i < VF_CONF_SEEN; i++)
		c->bits.value[i] = (uint8_t)((c->bits.value[i] & ~c->bits.latch[i]) | (value[i] & c->bits.latch[i]));
	for (unsigned i = 0; i < VF_BARS; i++)
		if (get32(value + PCI_BASE_ADDRESS_0 + 4 * i) == c->probed[i])
			put32(c->bits.value + PCI_BASE_ADDRESS_0 + 4 * i, c->probed[i]);
}

/* Some bits of one word of the function. Xen wants to see the whole word. */
static int set_word(struct vf_conf *c, unsigned offset, uint16_t bits, uint16_t to)
{
	uint32_t now;
	int rc = c->ops->read(c->ctx, offset, 2, &now);

	return rc < 0 || (now & bits) == to ? rc : c->ops->write(c->ctx, offset, 2, (now & ~(uint32_t)bits) | to);
}

int vf_conf_msi(struct vf_conf *c, bool on)
{
	if (!c->msi)
		return on ? -ENXIO : 0;
	return set_word(c, c->msi + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE, on ? PCI_MSI_FLAGS_ENABLE : 0);
}

int vf_conf_msix(struct vf_conf *c, enum vf_msix to)
{
	static const uint16_t flags[] = {
		[VF_MSIX_OFF] = 0, [VF_MSIX_MASKED] = PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, [VF_MSIX_ON] = PCI_MSIX_FLAGS_ENABLE,
	};

	if (!c->msix)
		return to ? -ENXIO : 0;
	return set_word(c, c->msix + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, flags[to]);
}

int vf_conf_quiet(struct vf_conf *c)
{
	int dma = pass_on(c, PCI_COMMAND, PCI_COMMAND_MASTER, 0), msi = vf_conf_msi(c, false), msix = vf_conf_msix(c, VF_MSIX_OFF);

	return dma < 0 ? dma : msi < 0 ? msi : msix;
}
