/* domain_pv.c - the memory map of a PV guest that PCI devices can be assigned to. */
#include "domain.h"
#include <xenctrl.h>
#include <xen/hvm/e820.h>

#define ABOVE (1ull << 32) /* what has no place below the devices */

uint64_t pv_memory_hole(const struct e820entry *host, unsigned n)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < n; i++)
		if (host[i].type == E820_RAM && host[i].addr < ABOVE && host[i].addr + host[i].size > end)
			end = host[i].addr + host[i].size;
	return end > ABOVE ? ABOVE : end;
}

unsigned pv_memory_map(uint64_t bytes, uint64_t hole, struct e820entry *map)
{
	uint64_t low = bytes < hole ? bytes : hole;

	map[0] = (struct e820entry){ .addr = 0, .size = low, .type = E820_RAM };
	if (bytes == low)
		return 1;
	map[1] = (struct e820entry){ .addr = ABOVE, .size = bytes - low, .type = E820_RAM };
	return 2;
}
