/* check - looking for what is wrong with an image, and repairing it
 *
 * The work is the driver's (driver->check). Here is what has to hold around it: while an image is looked at nobody
 * writes it, and while it is repaired nobody else uses it; the walk over its tables runs on an I/O loop. */
#ifndef CAIRN_IO_CHECK_H
#define CAIRN_IO_CHECK_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

struct node;

/* Fills in the numbers of @result. Awaits, perhaps for long. The caller keeps the node. Fails when others use it in a
 * way that cannot be shared, when the driver cannot check, or when something cannot be read or written. */
struct error *node_check(struct node *node, enum image_repair repair, struct image_check *result)
    CO_FN CONTROL_FN MUST_CHECK;

/* The same, which ends with an error soon after *@stop was set, by any thread. An image that was being repaired is not
 * worse than before. */
struct error *node_check_until(struct node *node, enum image_repair repair, const _Atomic bool *stop,
                               struct image_check *result) CO_FN CONTROL_FN MUST_CHECK;

#endif
