/* overlap - what the file may hold besides data, and which of it is protected
 *
 * Every table has a kind. Before anything is written to the file, the place is compared with those tables that the
 * option overlap-check names: an entry of a damaged image may lead there. Clusters that are handed out are compared
 * with all of them, whatever the option says.
 *
 * Source of the kinds, their names and the templates: QEMU, qapi/block-core.json, Qcow2OverlapCheckFlags. */
#ifndef CAIRN_QCOW2_OVERLAP_H
#define CAIRN_QCOW2_OVERLAP_H

enum table_kind {
    TABLE_HEADER,
    TABLE_ACTIVE_L1,
    TABLE_ACTIVE_L2,
    TABLE_REFCOUNT_BLOCK,
    TABLE_REFCOUNT_TABLE,
    TABLE_SNAPSHOTS,
    TABLE_INACTIVE_L1,
    TABLE_INACTIVE_L2,
    TABLE_BITMAPS,
    TABLE_KINDS,
};

#define TABLE_BIT(kind) (1u << (kind))
#define TABLES_ALL (TABLE_BIT(TABLE_KINDS) - 1)

struct qcow2_overlap_checks;

/* "an active L2 table" */
const char *table_kind_name(enum table_kind kind);

/* The kinds that the option names, as TABLE_BIT(). NULL: the default. */
unsigned overlap_checks_of(const struct qcow2_overlap_checks *checks);

#endif
