/* limits - what values may be, beyond what their type can hold
 *
 * A check answers NULL, or what is wrong with the value, to stand behind the path to it:
 *
 *     100 is below the minimum 65536
 *     'a b' does not match the pattern '[a-z]+'
 *
 * A secret is not quoted: "the value" stands for it. */
#ifndef CAIRN_SCHEMA_LIMITS_H
#define CAIRN_SCHEMA_LIMITS_H

#include "blockcore/base/error.h"
#include "schema/codec/descriptor.h"

/* @place: where a value of @type lies, which is a number or a string; others have no limits. */
struct error *limits_check(const struct value_limits *limits, const struct type_descriptor *type, const void *place,
                           bool secret) MUST_CHECK;

/* Whether all of @text, @length bytes without a zero byte, is what @pattern says. Takes time linear in @length. */
bool pattern_matches(const struct value_pattern *pattern, const char *text, size_t length);

static inline bool pattern_item_takes(const struct value_pattern_item *item, unsigned char byte)
{
    return item->set[byte / 32] >> byte % 32 & 1;
}

#endif
