#include "blockcore/drivers/nbd/libnbd.h"

#include "blockcore/runtime/load_library.h"

struct libnbd libnbd;

#define LIBNBD_SYMBOL(name) LATE_SYMBOL(libnbd, name)

static const struct late_symbol symbols[] = { LIBNBD_FUNCTIONS(LIBNBD_SYMBOL) };
static struct late_library library = LATE_LIBRARY("libnbd.so.0", "libnbd0", symbols);

struct error *libnbd_load(void)
{
    return co_load_library(&library);
}
