/* fio_xenbus.c - what makes pvio-fio.so one whose vbds are found and connected through XenStore, as Linux does: it takes the place of rings/front.c. */
#include "tests/unit/xenbus_port.h"
