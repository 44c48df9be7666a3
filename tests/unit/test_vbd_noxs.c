/* test_vbd_noxs.c - what a vbd can do, for guests that find it through noxs. */
#define DIALECT "noxs"
#include "tests/unit/vbd_io.h"

int main(void)
{
	return vbd_io();
}
