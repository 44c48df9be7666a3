/* xen_domid.c - which domain is this? No hypercall tells a process; several things around it do. */
#include "hyper_xen.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xen/xen.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#include <xen/arch-x86/cpuid.h>
#endif

enum { STORE_MS = 1000 }; /* a store that has not answered by then is not served */

/* Domain 0's kernel says that it is in control: in xenfs, or, where that is not mounted, in newer kernels' sysfs. */
static bool in_control(void)
{
	char text[64];

	hyper_text("/proc/xen/capabilities", text, sizeof(text));
	return strstr(text, "control_d") || hyper_number("/sys/hypervisor/start_flags/initdomain") == 1;
}

/* Xen tells HVM and PVH guests by CPUID. The leaves may begin higher, behind those of another hypervisor's interface. */
static int domid_of_cpuid(void)
{
#if defined(__x86_64__) || defined(__i386__)
	uint32_t base, eax, ebx, ecx, edx;

	for (base = XEN_CPUID_FIRST_LEAF; base < XEN_CPUID_FIRST_LEAF + 0x10000; base += 0x100) {
		__cpuid(base, eax, ebx, ecx, edx);
		if (ebx != XEN_CPUID_SIGNATURE_EBX || ecx != XEN_CPUID_SIGNATURE_ECX || edx != XEN_CPUID_SIGNATURE_EDX)
			continue;
		if (eax < base + 4)
			break;
		__cpuid_count(base + 4, 0, eax, ebx, ecx, edx);
		return eax & XEN_HVM_CPUID_DOMID_PRESENT ? (int)(ecx & 0x7fff) : -ENODATA;
	}
#endif
	return -ENODATA;
}

static int domid_of_store(void)
{
	struct xen_bus b = { .fd = -1 };
	char text[8] = "", *end;
	int n = xen_bus_open(&b);
	long domid = -1;

	if (!n)
		n = xen_bus_read(&b, "domid", STORE_MS);
	if (n > 0 && n < (int)sizeof(text)) {
		memcpy(text, b.body, n);
		domid = strtol(text, &end, 10);
		if (end == text || *end)
			domid = -1;
	}
	xen_bus_close(&b);
	return domid >= 0 && domid < DOMID_FIRST_RESERVED ? domid : -ENODATA;
}

int xen_own_domid(void)
{
	int domid;

	if (in_control())
		return 0;
	domid = domid_of_cpuid();
	return domid >= 0 ? domid : domid_of_store();
}
