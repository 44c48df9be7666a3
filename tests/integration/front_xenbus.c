/* front_xenbus.c - what makes pvio-fio.so and pvio-tap frontends whose devices are found and connected through XenStore, as Linux does: it takes the place of
 * rings/front.c. */
#include "tests/unit/xenbus_port.h"
