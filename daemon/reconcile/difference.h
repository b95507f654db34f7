/* difference - what differs between two values of a type, for people: "read-only: false -> true, cache.direct" */
#ifndef CAIRN_DAEMON_RECONCILE_DIFFERENCE_H
#define CAIRN_DAEMON_RECONCILE_DIFFERENCE_H

#include "blockcore/base/arena.h"
#include "blockcore/base/error.h"
#include "schema/codec/compare.h"
#include "schema/codec/descriptor.h"

#define DIFFERENCES_TOLD_MAX 4

/* @changes of value_diff() with @now and @then. In @arena. Of what is no scalar, is long or secret, only the path is
 * told. */
const char *difference_text(const struct type_descriptor *type, const void *now, const void *then,
                            const struct value_changes *changes, struct arena *arena);

#endif
