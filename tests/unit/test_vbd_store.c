/* test_vbd_store.c - what a vbd can do, for guests that find it in XenStore. */
#define DIALECT "xenstore"
#include "tests/unit/xenbus_port.h"
#include "tests/unit/vbd_io.h"

int main(void)
{
	return vbd_io();
}
