#include "blockcore/drivers/qcow2/overlap.h"

#include "blockcore/drivers/qcow2/qcow2_private.h"
#include "schema/cairn_types.h"

#include <inttypes.h>

static const char *const names[TABLE_KINDS] = {
    [TABLE_HEADER] = "the header",
    [TABLE_ACTIVE_L1] = "the active L1 table",
    [TABLE_ACTIVE_L2] = "an active L2 table",
    [TABLE_REFCOUNT_BLOCK] = "a refcount block",
    [TABLE_REFCOUNT_TABLE] = "the refcount table",
    [TABLE_SNAPSHOTS] = "the snapshot table",
    [TABLE_INACTIVE_L1] = "an inactive L1 table",
    [TABLE_INACTIVE_L2] = "an inactive L2 table",
    [TABLE_BITMAPS] = "the bitmap directory",
};

const char *table_kind_name(enum table_kind kind)
{
    return names[kind];
}

/* The option ---------------------------------------------------------------------------------------------------- */

static unsigned template_kinds(enum qcow2_overlap_check_mode mode)
{
    unsigned constant = TABLE_BIT(TABLE_HEADER) | TABLE_BIT(TABLE_ACTIVE_L1) | TABLE_BIT(TABLE_REFCOUNT_TABLE) |
                        TABLE_BIT(TABLE_SNAPSHOTS) | TABLE_BIT(TABLE_BITMAPS);
    unsigned cached =
        constant | TABLE_BIT(TABLE_ACTIVE_L2) | TABLE_BIT(TABLE_REFCOUNT_BLOCK) | TABLE_BIT(TABLE_INACTIVE_L1);
    switch (mode) {
    case QCOW2_OVERLAP_CHECK_MODE_NONE:
        return 0;
    case QCOW2_OVERLAP_CHECK_MODE_CONSTANT:
        return constant;
    case QCOW2_OVERLAP_CHECK_MODE_ALL:
        return TABLES_ALL;
    default:
        return cached;
    }
}

static unsigned change(unsigned kinds, enum table_kind kind, bool given, bool wanted)
{
    if (!given)
        return kinds;
    return wanted ? kinds | TABLE_BIT(kind) : kinds & ~TABLE_BIT(kind);
}

static unsigned flag_kinds(const struct qcow2_overlap_check_flags *flags)
{
    unsigned kinds = template_kinds(flags->has_template ? flags->template_ : QCOW2_OVERLAP_CHECK_MODE_CACHED);
    kinds = change(kinds, TABLE_HEADER, flags->has_main_header, flags->main_header);
    kinds = change(kinds, TABLE_ACTIVE_L1, flags->has_active_l1, flags->active_l1);
    kinds = change(kinds, TABLE_ACTIVE_L2, flags->has_active_l2, flags->active_l2);
    kinds = change(kinds, TABLE_REFCOUNT_TABLE, flags->has_refcount_table, flags->refcount_table);
    kinds = change(kinds, TABLE_REFCOUNT_BLOCK, flags->has_refcount_block, flags->refcount_block);
    kinds = change(kinds, TABLE_SNAPSHOTS, flags->has_snapshot_table, flags->snapshot_table);
    kinds = change(kinds, TABLE_INACTIVE_L1, flags->has_inactive_l1, flags->inactive_l1);
    kinds = change(kinds, TABLE_INACTIVE_L2, flags->has_inactive_l2, flags->inactive_l2);
    return change(kinds, TABLE_BITMAPS, flags->has_bitmap_directory, flags->bitmap_directory);
}

unsigned overlap_checks_of(const struct qcow2_overlap_checks *checks)
{
    if (!checks)
        return template_kinds(QCOW2_OVERLAP_CHECK_MODE_CACHED);
    return checks->kind == QCOW2_OVERLAP_CHECKS_KIND_MODE ? template_kinds(checks->u.mode)
                                                          : flag_kinds(checks->u.flags);
}

/* Places -------------------------------------------------------------------------------------------------------- */

struct range qcow2_single_table(const struct qcow2 *q, enum table_kind kind)
{
    switch (kind) {
    case TABLE_HEADER:
        return range_make(0, cluster_bytes(&q->geometry));
    case TABLE_ACTIVE_L1:
        return range_make(q->header.l1_offset, q->header.l1_entries * sizeof(uint64_t));
    case TABLE_REFCOUNT_TABLE:
        return range_make(q->header.reftable_offset, (uint64_t)q->header.reftable_clusters << q->geometry.cluster_bits);
    case TABLE_SNAPSHOTS:
        return q->snapshot_table;
    case TABLE_BITMAPS:
        return q->bitmap_directory;
    default:
        return range_make(0, 0);
    }
}

/* A table without entries is nowhere, whatever the header says of its offset. */
unsigned qcow2_single_tables_at(const struct qcow2 *q, struct range place)
{
    unsigned kinds = 0;
    for (unsigned kind = 0; kind < TABLE_KINDS; kind++) {
        struct range table = qcow2_single_table(q, kind);
        if (table.bytes > 0 && range_overlaps(place, table))
            kinds |= TABLE_BIT(kind);
    }
    return kinds;
}

unsigned qcow2_tables_at(const struct qcow2 *q, struct range place, unsigned kinds)
{
    unsigned found = qcow2_single_tables_at(q, place) & kinds;
    uint64_t end = div_round_up(range_end(place), cluster_bytes(&q->geometry));
    for (uint64_t cluster = place.offset >> q->geometry.cluster_bits; cluster < end && kinds && !found; cluster++)
        found = cluster_set_get(&q->tables, cluster) & kinds;
    return found;
}

bool qcow2_is_table(const struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    return qcow2_tables_at(q, range_make(offset, bytes), TABLES_ALL) != 0;
}

bool qcow2_is_protected(const struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    return qcow2_tables_at(q, range_make(offset, bytes), q->overlap_checks) != 0;
}

bool qcow2_table_in_file(const struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    struct range place = range_make(offset, bytes);
    return is_aligned(offset, bytes) && range_inside(place, child_length(q->file)) && !qcow2_single_tables_at(q, place);
}

int qcow2_corrupt_overlap(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    struct range place = range_make(offset, bytes);
    spinlock_lock(&q->l2.lock);
    unsigned found = qcow2_tables_at(q, place, TABLES_ALL);
    spinlock_unlock(&q->l2.lock);
    const char *name = found ? table_kind_name((enum table_kind)__builtin_ctz(found)) : "a table";
    return qcow2_corrupt(q, place,
                         "%" PRIu64 " bytes at offset 0x%" PRIx64 " were about to be used for something else, "
                         "but %s lies there",
                         bytes, offset, name);
}
