#include "blockcore/export/nbd/contexts.h"

#include "blockcore/base/memory.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define BITMAP_PREFIX "qemu:dirty-bitmap:"

static const char *const fixed_names[NBD_CONTEXT_BITMAPS] = {
    [NBD_CONTEXT_ALLOCATION] = "base:allocation",
    [NBD_CONTEXT_DEPTH] = "qemu:allocation-depth",
};

static const char *const wildcards[] = { "base:", "qemu:", BITMAP_PREFIX };

size_t nbd_context_name(const struct nbd_bitmap_names *bitmaps, unsigned context, char out[NBD_CONTEXT_NAME_MAX])
{
    int length;
    if (context < NBD_CONTEXT_BITMAPS) {
        length = snprintf(out, NBD_CONTEXT_NAME_MAX, "%s", fixed_names[context]);
    } else {
        assert(context - NBD_CONTEXT_BITMAPS < bitmaps->count);
        length = snprintf(out, NBD_CONTEXT_NAME_MAX, BITMAP_PREFIX "%s", bitmaps->items[context - NBD_CONTEXT_BITMAPS]);
    }
    assert(length < NBD_CONTEXT_NAME_MAX);
    return (size_t)length;
}

static bool is_wildcard(struct nbd_string query)
{
    for (size_t i = 0; i < ARRAY_SIZE(wildcards); i++) {
        if (nbd_string_is(query, wildcards[i]))
            return true;
    }
    return false;
}

uint64_t nbd_contexts_meant(const struct nbd_bitmap_names *bitmaps, uint64_t offered, struct nbd_string query,
                            bool listing)
{
    char name[NBD_CONTEXT_NAME_MAX];
    bool wildcard = listing && is_wildcard(query);
    uint64_t meant = 0;
    for (unsigned context = 0; context < NBD_CONTEXTS_MAX; context++) {
        if (!(offered & nbd_context_bit(context)))
            continue;
        size_t length = nbd_context_name(bitmaps, context, name);
        bool same_length = length == query.bytes || (wildcard && length > query.bytes);
        if (same_length && memcmp(name, query.data, query.bytes) == 0)
            meant |= nbd_context_bit(context);
    }
    return meant;
}
