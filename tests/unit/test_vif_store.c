/* test_vif_store.c - what a vif can do, for guests that find it in XenStore. */
#define DIALECT "xenstore"
#include "tests/unit/xenbus_port.h"
#include "tests/unit/vif_io.h"

int main(void)
{
	return vif_io();
}
