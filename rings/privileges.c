/* privileges.c - see privileges.h. */
#include "privileges.h"
#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int pv_privileges_keep(const int *caps)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct now[_LINUX_CAPABILITY_U32S_3];
	uint64_t keep = 0;

	for (; *caps >= 0; caps++)
		keep |= 1ull << *caps;
	if (syscall(SYS_capget, &head, now) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(keep >> cap & 1))
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* who may not do that has none to lose */
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		now[i].permitted &= (uint32_t)(keep >> (32 * i));
		now[i].effective &= now[i].permitted;
		now[i].inheritable = 0;
	}
	return syscall(SYS_capset, &head, now) < 0 ? -errno : 0;
}
