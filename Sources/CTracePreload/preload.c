#include "trace_ring.h"
__attribute__((visibility("default"))) int trace_preload_version = 1;
