#include "blockcore/drivers/make_room.h"

#include "blockcore/graph/handle.h"
#include "blockcore/io/request.h"

#include <inttypes.h>

enum truncate_mode truncate_mode_of(enum prealloc_mode preallocation)
{
    switch (preallocation) {
    case PREALLOC_MODE_FALLOC:
        return TRUNCATE_FALLOC;
    case PREALLOC_MODE_FULL:
        return TRUNCATE_FULL;
    default:
        return TRUNCATE_SPARSE;
    }
}

struct error *make_room(struct handle *handle, uint64_t bytes, enum truncate_mode mode, bool *reads_zero)
{
    bool emptied = handle_truncate(handle, 0, TRUNCATE_SPARSE) == 0;
    if (reads_zero)
        *reads_zero = emptied;
    int ret = handle_truncate(handle, bytes, mode);
    if (ret == 0 || (!emptied && node_length(handle_node(handle)) >= bytes))
        return NULL;
    return error_errno(-ret, "cannot make the file %" PRIu64 " bytes long", bytes);
}
