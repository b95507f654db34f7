/* The refcounts that the image has: compared with the census, corrected where that is safe, otherwise made anew.
 *
 * Correcting is safe at any moment, also when the power goes: a count that was too low goes up, and one that was too
 * high goes down to what the tables say. Where a cluster that is in use counts as free, though, or a block lies where
 * none can be, the blocks themselves cannot be believed. All of them are written behind what is used, then the header
 * leads to them; the old ones are free with that. */
#include "blockcore/drivers/qcow2/check_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/refcount_field.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>
#include <string.h>

#define REFTABLE_RESERVED_MASK UINT64_C(0x1ff)

static uint64_t block_entries(const struct check *check)
{
    return UINT64_C(1) << check->q->geometry.refblock_bits;
}

/* Blocks of the image ------------------------------------------------------------------------------------------- */

bool check_block_is_sane(const struct check *check, uint64_t index)
{
    const struct qcow2 *q = check->q;
    uint64_t offset = q->reftable[index];
    return !(offset & REFTABLE_RESERVED_MASK) && !in_cluster(&q->geometry, offset) &&
           offset >> q->geometry.cluster_bits < check->clusters;
}

static int write_block(struct check *check, struct check_block *block)
{
    if (!block->changed)
        return 0;
    size_t bytes = (size_t)cluster_bytes(&check->q->geometry);
    int ret = child_pwrite(check->q->file, entry_offset(check->q->reftable[block->index]), block->data, bytes, 0);
    if (ret == 0)
        block->changed = false;
    return ret;
}

int check_write_blocks(struct check *check)
{
    int ret = 0;
    for (size_t i = 0; ret == 0 && i < CHECK_BLOCKS; i++)
        ret = write_block(check, &check->blocks[i]);
    return ret;
}

/* NULL with 0 where there is no block. */
static int load_block(struct check *check, uint64_t index, struct check_block **out)
{
    const struct qcow2 *q = check->q;
    *out = NULL;
    if (index >= q->reftable_entries || !q->reftable[index] || !check_block_is_sane(check, index))
        return 0;
    struct check_block *block = &check->blocks[index % CHECK_BLOCKS];
    if (block->loaded && block->index == index) {
        *out = block;
        return 0;
    }
    int ret = write_block(check, block);
    if (ret < 0)
        return ret;
    block->loaded = false;
    if (!block->data && !(block->data = buffer_get((size_t)cluster_bytes(&q->geometry))))
        return -ENOMEM;
    ret = check_read_table(check, entry_offset(q->reftable[index]), block->data);
    block->unreadable = ret < 0;
    if (ret < 0)
        ret = check_failed_read(check, ret, true);
    if (ret < 0)
        return ret;
    block->index = index;
    block->loaded = true;
    *out = block;
    return 0;
}

int check_stored(struct check *check, uint64_t cluster, uint64_t *count)
{
    const struct geometry *geometry = &check->q->geometry;
    struct check_block *block;
    int ret = load_block(check, cluster >> geometry->refblock_bits, &block);
    *count = 0;
    if (ret == 0 && block)
        *count = block->unreadable ? CHECK_UNKNOWN
                                   : refcount_get(block->data, geometry->refcount_order,
                                                  (size_t)(cluster & (block_entries(check) - 1)));
    return ret;
}

/* Comparing ------------------------------------------------------------------------------------------------------ */

/* Counts one difference, or corrects it. */
static int settle(struct check *check, uint64_t cluster, uint64_t stored, uint64_t expected, unsigned fix)
{
    const struct geometry *geometry = &check->q->geometry;
    bool leak = stored > expected;
    if (stored == 0)
        check->refcounts_broken = true;
    bool correct =
        stored > 0 && (fix & (leak ? FIX_LEAKS : FIX_ERRORS)) && expected <= refcount_max(geometry->refcount_order);
    if (!correct) {
        check->numbers.leaks += leak;
        check->numbers.wrong_counts += !leak;
        return 0;
    }
    struct check_block *block;
    int ret = load_block(check, cluster >> geometry->refblock_bits, &block);
    if (ret < 0)
        return ret;
    refcount_set(block->data, geometry->refcount_order, (size_t)(cluster & (block_entries(check) - 1)), expected);
    block->changed = true;
    check->numbers.leaks_fixed += leak;
    check->numbers.corruptions_fixed += !leak;
    return 0;
}

/* A block that something else uses as well cannot be believed. */
static int check_shared_blocks(struct check *check)
{
    const struct qcow2 *q = check->q;
    int ret = 0;
    for (uint64_t i = 0; i < q->reftable_entries && ret == 0; i++) {
        ret = check_turn(check, 1);
        uint64_t cluster = entry_offset(q->reftable[i]) >> q->geometry.cluster_bits;
        if (!q->reftable[i] || !check_block_is_sane(check, i) || cluster < check->first ||
            cluster >= check->first + check->count)
            continue;
        if (check->references[cluster - check->first] != 1) {
            check->numbers.wrong_counts++;
            check->refcounts_broken = true;
        }
    }
    return ret;
}

int check_compare(struct check *check, unsigned fix)
{
    int ret = fix ? 0 : check_shared_blocks(check);
    for (uint64_t i = 0; ret == 0 && i < check->count; i++) {
        uint64_t stored;
        ret = check_stored(check, check->first + i, &stored);
        if (ret == 0 && stored != check->references[i] && stored != CHECK_UNKNOWN)
            ret = settle(check, check->first + i, stored, check->references[i], fix);
        if (ret == 0 && i % CHECK_WORK_PER_TURN == 0)
            ret = check_turn(check, CHECK_WORK_PER_TURN);
        if (ret < 0)
            return ret;
        if (stored || check->references[i])
            check->used = max_u64(check->used, check->first + i + 1);
    }
    return 0;
}

/* Making them anew ----------------------------------------------------------------------------------------------- */

/* Behind what is used: all blocks, then the table. */
struct anew {
    uint64_t begin;  /* clusters */
    uint64_t blocks; /* each counts block_entries() clusters, from the first of the file on */
    uint64_t table_clusters;
};

static uint64_t anew_end(const struct anew *anew)
{
    return anew->begin + anew->blocks + anew->table_clusters;
}

static int plan_anew(const struct check *check, struct anew *anew)
{
    uint64_t cluster = cluster_bytes(&check->q->geometry);
    *anew = (struct anew){ .begin = check->used };
    for (;;) {
        anew->table_clusters = div_round_up(max_u64(anew->blocks, 1) * sizeof(uint64_t), cluster);
        uint64_t needed = div_round_up(anew_end(anew), block_entries(check));
        if (needed <= anew->blocks)
            break;
        anew->blocks = needed;
    }
    return anew->table_clusters * cluster > QCOW2_REFTABLE_BYTES_MAX ? -EFBIG : 0;
}

static uint64_t count_anew(struct check *check, const struct anew *anew, uint64_t cluster)
{
    if (cluster >= anew->begin)
        return cluster < anew_end(anew);
    uint64_t references = check->references[cluster - check->first];
    uint64_t max = refcount_max(check->q->geometry.refcount_order);
    return min_u64(references, max); /* one too many is found again by the comparison afterwards */
}

/* The blocks of the window, and behind the last window those that count the blocks themselves. */
static int write_window_anew(struct check *check, const struct anew *anew, uint8_t *block)
{
    const struct geometry *geometry = &check->q->geometry;
    size_t bytes = (size_t)cluster_bytes(geometry);
    uint64_t end = check->first + check->count;
    uint64_t last = end >= anew->begin ? anew->blocks : end >> geometry->refblock_bits;
    for (uint64_t i = check->first >> geometry->refblock_bits; i < last; i++) {
        memset(block, 0, bytes);
        for (uint64_t k = 0; k < block_entries(check); k++)
            refcount_set(block, geometry->refcount_order, (size_t)k,
                         count_anew(check, anew, (i << geometry->refblock_bits) + k));
        int ret = child_pwrite(check->q->file, (anew->begin + i) << geometry->cluster_bits, block, bytes, 0);
        if (ret == 0)
            ret = check_turn(check, block_entries(check));
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int write_blocks_anew(struct check *check, const struct anew *anew)
{
    size_t bytes = (size_t)cluster_bytes(&check->q->geometry);
    uint8_t *block = buffer_get(bytes);
    int ret = block ? 0 : -ENOMEM;
    check->without_refcounts = true;
    check->tell = false;
    uint64_t window = check->count;
    for (check->first = 0; ret == 0 && check->first < anew->begin; check->first += window) {
        check->count = min_u64(window, anew->begin - check->first);
        ret = check_census(check);
        if (ret == 0)
            ret = write_window_anew(check, anew, block);
    }
    check->count = window;
    check->without_refcounts = false;
    buffer_put(block, bytes);
    return ret;
}

static int write_table_anew(struct check *check, const struct anew *anew)
{
    struct qcow2 *q = check->q;
    uint64_t bytes = anew->table_clusters << q->geometry.cluster_bits;
    CLEANUP(free) uint8_t *table = try_calloc(1, (size_t)bytes);
    if (!table)
        return -ENOMEM;
    for (uint64_t i = 0; i < anew->blocks; i++)
        store_be64(table + i * sizeof(uint64_t), (anew->begin + i) << q->geometry.cluster_bits);
    uint64_t offset = (anew->begin + anew->blocks) << q->geometry.cluster_bits;
    int ret = child_pwrite(q->file, offset, table, (size_t)bytes, 0);
    if (ret == 0)
        ret = child_flush(q->file);
    if (ret < 0)
        return ret;
    uint8_t fields[12];
    store_be64(fields, offset);
    store_be32(fields + 8, (uint32_t)anew->table_clusters);
    ret = child_pwrite(q->file, QCOW2_FIELD_REFTABLE, fields, sizeof(fields), 0);
    if (ret == 0)
        ret = child_flush(q->file);
    if (ret == 0) {
        q->header.reftable_offset = offset;
        q->header.reftable_clusters = (uint32_t)anew->table_clusters;
    }
    return ret;
}

int check_rebuild(struct check *check)
{
    struct anew anew;
    int ret = plan_anew(check, &anew);
    if (ret == 0)
        ret = write_blocks_anew(check, &anew);
    return ret < 0 ? ret : write_table_anew(check, &anew);
}
