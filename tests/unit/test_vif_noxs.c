/* test_vif_noxs.c - what a vif can do, for guests that find it through noxs. */
#define DIALECT "noxs"
#include "tests/unit/vif_io.h"

int main(void)
{
	return vif_io();
}
