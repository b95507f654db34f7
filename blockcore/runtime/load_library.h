/* load_library - late libraries, awaited: see base/late_library.h */
#ifndef CAIRN_RUNTIME_LOAD_LIBRARY_H
#define CAIRN_RUNTIME_LOAD_LIBRARY_H

#include "blockcore/base/late_library.h"

/* late_library_load() on the pool; at once when the library is there already. */
struct error *co_load_library(struct late_library *library) CO_FN MUST_CHECK;

#endif
