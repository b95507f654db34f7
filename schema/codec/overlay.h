/* overlay - a value with some of its members from another
 *
 *     base     { limits: { iops-total: 100, bps-total: 5 }, x: 1 }
 *     over     { limits: { iops-total: 7 } }
 *     result   { limits: { iops-total: 7, bps-total: 5 }, x: 1 } */
#ifndef CAIRN_SCHEMA_OVERLAY_H
#define CAIRN_SCHEMA_OVERLAY_H

#include "blockcore/base/arena.h"
#include "schema/codec/descriptor.h"

/* A copy of @base where each optional member that is present in @over is as there; objects that both have are put
 * together likewise, lists are taken as a whole. @type is an object; of a union both have the same branch. NULL when
 * there is no memory. Any thread that may use @arena. */
void *value_overlay(const struct type_descriptor *type, const void *base, const void *over,
                    struct arena *arena) MUST_CHECK;

#endif
