#include "blockcore/base/late_library.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>

bool late_library_is_loaded(const struct late_library *library)
{
    return atomic_load_explicit(&library->loaded, memory_order_acquire);
}

static struct error *find_symbols(const struct late_library *library, void *handle)
{
    for (size_t i = 0; i < library->symbol_count; i++) {
        const struct late_symbol *symbol = &library->symbols[i];
        void *address = dlsym(handle, symbol->name);
        if (!address)
            return error_new("library '%s' has no function '%s': another version of package '%s' is needed",
                             library->soname, symbol->name, library->package);
        memcpy(symbol->pointer, &address, sizeof(address)); /* a pointer to a function is not a void pointer in C */
    }
    return NULL;
}

static struct error *load(const struct late_library *library)
{
    void *handle = dlopen(library->soname, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *reason = dlerror();
        return error_new("cannot load library '%s' (install package '%s'): %s", library->soname, library->package,
                         reason ? reason : "unknown reason");
    }
    struct error *err = find_symbols(library, handle);
    if (!err && library->init)
        err = error_wrap(library->init(), "library '%s'", library->soname);
    if (err)
        dlclose(handle);
    return err;
}

struct error *late_library_load(struct late_library *library)
{
    if (late_library_is_loaded(library))
        return NULL;
    pthread_mutex_lock(&library->mutex);
    struct error *err = late_library_is_loaded(library) ? NULL : load(library);
    if (!err)
        atomic_store_explicit(&library->loaded, true, memory_order_release);
    pthread_mutex_unlock(&library->mutex);
    return err;
}
