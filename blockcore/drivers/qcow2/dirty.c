/* The dirty bit: refcounts in the file may be wrong, and whoever wants to write has to make them right first. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "schema/cairn_types.h"

#include <inttypes.h>

/* On its way to an I/O loop and back. */
struct repair {
    struct qcow2 *q;
    struct image_check found;
};

static int repair(void *arg)
{
    struct repair *repair = arg;
    return qcow2_check_and_repair(repair->q, FIX_LEAKS | FIX_ERRORS, NULL, &repair->found);
}

struct error *qcow2_repair_dirty(struct qcow2 *q)
{
    if (!(q->header.incompatible & QCOW2_DIRTY))
        return NULL;
    struct repair work = { .q = q };
    int ret = co_call_on(loop_io_next(), "qcow2 repair", repair, &work);
    if (ret < 0)
        return error_errno(-ret, "the image was not closed cleanly, and its refcounts cannot be repaired");
    if (work.found.check_errors)
        return error_new("the image was not closed cleanly, and %" PRId64 " of its tables cannot be read",
                         work.found.check_errors);
    if (q->header.incompatible & QCOW2_DIRTY)
        return error_new("the image was not closed cleanly, and a repair has left %" PRId64 " corruptions",
                         work.found.corruptions);
    return NULL;
}
