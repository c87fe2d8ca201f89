// The layout of the memory that traced programs share with the collector of the preload route.
#ifndef TRACE_RING_H
#define TRACE_RING_H
#include <stdint.h>
#endif
