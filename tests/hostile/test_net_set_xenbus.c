/* Vifs are changed by `pvio set` under a stream, for guests that find them in XenStore, as Linux does. */
#define DIALECT "xenstore"
#include "tests/unit/xenbus_port.h"
#include "net_set.h"

int main(void)
{
	return net_set();
}
