/* Vifs are changed by `pvio set` under a stream, for guests that find them through noxs. */
#define DIALECT "noxs"
#include "net_set.h"

int main(void)
{
	return net_set();
}
