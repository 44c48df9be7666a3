/* cmd_vf.c - pvio vf list: the virtual functions of this machine. */
#include "../sriov/sriov.h"
#include "pvio.h"
#include <stdlib.h>
#include <string.h>

int vf_machine(struct pvio *p, struct vf_sys *s)
{
	int rc = vf_sys_open(s, getenv("PVIO_VF_ROOT"));

	return rc < 0 ? say_failed(p, "PVIO_VF_ROOT: %s", strerror(-rc)) : EXIT_DONE;
}

int cmd_vf_list(struct pvio *p)
{
	struct vf_sys s;
	int rc = vf_machine(p, &s);

	if (rc == EXIT_DONE)
		vf_sys_close(&s);
	return rc;
}
