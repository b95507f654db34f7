/* Block status of a quorum: only what all children agree about. */
#include "blockcore/base/memory.h"
#include "blockcore/drivers/quorum/quorum_private.h"
#include "blockcore/io/block_status.h"

#include <stdlib.h>

/* What one child says of a range, while the lists of all are walked side by side. */
struct opinion {
    struct extents extents;
    size_t at;
};

static void ask_child(const struct node *node, struct child *child, struct range range, unsigned ask,
                      struct opinion *opinion) CO_FN;

static void ask_child(const struct node *node, struct child *child, struct range range, unsigned ask,
                      struct opinion *opinion)
{
    int ret = child_block_status(child, range, ask, &opinion->extents);
    if (ret < 0) {
        struct extent unknown = { .offset = range.offset, .bytes = range.bytes, .flags = EXTENT_DATA };
        quorum_report_bad(node, child, NOTICE_READ, range, ret);
        extents_append(&opinion->extents, &unknown);
    }
}

/* From @offset on: the part that all tell in one extent. Empty when one of them has no more to say. */
static struct extent agreed(struct opinion *opinions, unsigned count, uint64_t offset)
{
    struct extent result = { .offset = offset, .flags = EXTENT_ALLOCATED | EXTENT_ZERO };
    uint64_t end = UINT64_MAX;
    for (unsigned i = 0; i < count; i++) {
        struct opinion *opinion = &opinions[i];
        const struct extents *extents = &opinion->extents;
        while (opinion->at < extents->count &&
               extents->items[opinion->at].offset + extents->items[opinion->at].bytes <= offset)
            opinion->at++;
        if (opinion->at == extents->count)
            return result;
        const struct extent *extent = &extents->items[opinion->at];
        end = min_u64(end, extent->offset + extent->bytes);
        result.flags |= extent->flags & EXTENT_DATA;
        if (!(extent->flags & EXTENT_ZERO))
            result.flags = (result.flags & ~(uint32_t)EXTENT_ZERO) | EXTENT_DATA;
    }
    result.bytes = end - offset;
    return result;
}

/* Zero is what all children say is zero; data is what one of them has. A child that cannot tell makes it data. Where
 * it lies is not told: what is read is the outcome of a vote. */
int quorum_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    struct quorum *quorum = node_state(node);
    struct extent everything = { .offset = range.offset,
                                 .bytes = range.bytes,
                                 .flags = EXTENT_ALLOCATED | EXTENT_DATA };
    ask &= ASK_ZERO | ASK_MAP;
    if (!ask) {
        extents_append(extents, &everything);
        return 0;
    }
    struct opinion *opinions = xcalloc(quorum->children_count, sizeof(struct opinion));
    for (unsigned i = 0; i < quorum->children_count; i++) {
        extents_init(&opinions[i].extents, extents->max);
        ask_child(node, quorum->children[i], range, ask | ASK_ZERO, &opinions[i]);
    }
    uint64_t at = range.offset;
    while (at < range_end(range) && !extents_full(extents)) {
        struct extent next = agreed(opinions, quorum->children_count, at);
        if (next.bytes == 0)
            break;
        extents_append(extents, &next);
        at += next.bytes;
    }
    for (unsigned i = 0; i < quorum->children_count; i++)
        extents_fini(&opinions[i].extents);
    free(opinions);
    return 0;
}
