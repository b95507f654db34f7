#include "blockcore/runtime/load_library.h"

#include "blockcore/runtime/pool.h"

struct loading {
    struct late_library *library;
    struct error *err;
};

static int load(void *arg)
{
    struct loading *loading = arg;
    loading->err = late_library_load(loading->library);
    return 0;
}

struct error *co_load_library(struct late_library *library)
{
    if (late_library_is_loaded(library))
        return NULL;
    struct loading loading = { .library = library };
    co_blocking(NULL, load, &loading);
    return loading.err;
}
