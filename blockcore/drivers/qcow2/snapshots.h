/* snapshots - internal snapshots: states of the disk that are kept inside of the image
 *
 *     header --> snapshot table --> L1 table of a snapshot --.
 *       '------------------------> active L1 table ----------+--> L2 tables --> clusters, with a reference from each
 *
 * To make one is to share all that the active state leads to; from then on a write finds no cluster that is its own,
 * and copies. What the steps of each operation are and why the power may go between any two of them is told in
 * snapshots.c.
 *
 * All of it happens on the control thread, in a drained node, one operation at a time. */
#ifndef CAIRN_QCOW2_SNAPSHOTS_H
#define CAIRN_QCOW2_SNAPSHOTS_H

#include "blockcore/drivers/qcow2/qcow2_private.h"
#include "blockcore/drivers/qcow2/snapshot.h"

struct arena;
struct image_info;
struct snapshot_info;

/* snapshot_table.c: the table in the file */

/* Reads it at open: q->snapshots. Tables of snapshots are remembered like our own. */
struct error *snapshot_table_load(struct qcow2 *q) CO_FN MUST_CHECK;
void snapshot_table_fini(struct qcow2 *q);
void snapshot_list_free(struct qcow2_snapshot *list, uint32_t count);
/* The L1 table of a snapshot, in host byte order; the caller frees *@out. */
struct error *snapshot_load_l1(struct qcow2 *q, const struct qcow2_snapshot *snapshot, uint64_t **out) CO_FN MUST_CHECK;
/* Clusters in a row for a table of @bytes bytes, counted once. */
int snapshot_alloc(struct qcow2 *q, uint64_t bytes, uint64_t *offset) CO_FN;
/* Puts a new table into the file and lets the header lead to it. On success the list belongs to q, and the old one has
 * been freed with the table that held it; on failure all is as before. */
int snapshot_table_replace(struct qcow2 *q, struct qcow2_snapshot *list, uint32_t count) CO_FN;
/* Which clusters hold tables of snapshots, anew from q->snapshots. */
struct error *snapshot_table_remember(struct qcow2 *q) CO_FN MUST_CHECK;

/* census.c: all that an L1 table leads to */

/* Whole clusters in a row, each of which is referred to once. Returns other than 0 to end the visit with that. */
typedef int visit_host(struct qcow2 *q, struct range host, bool is_table, void *arg);
int census_visit(struct qcow2 *q, const uint64_t *l1, uint32_t l1_entries, visit_host *visit, void *arg) CO_FN;
/* The flags of the active state become what the refcounts say. L2 tables are written at once, the L1 table with the
 * next write-back. */
int census_refresh_copied(struct qcow2 *q) CO_FN;
/* They go, whatever is counted. */
int census_clear_copied(struct qcow2 *q) CO_FN;
/* The same of the L2 tables that another L1 table leads to. */
int census_clear_copied_in(struct qcow2 *q, const uint64_t *l1, uint32_t l1_entries) CO_FN;

/* snapshots.c: the driver's entries, see graph/driver.h */
struct error *qcow2_snapshot_create(struct node *node, const char *name) CO_FN CONTROL_FN MUST_CHECK;
struct error *qcow2_snapshot_delete(struct node *node, const char *id, const char *name, struct arena *arena,
                                    struct snapshot_info *deleted) CO_FN CONTROL_FN MUST_CHECK;
struct error *qcow2_snapshot_apply(struct node *node, const char *id, const char *name) CO_FN CONTROL_FN MUST_CHECK;
struct snapshot_info snapshot_describe(const struct qcow2_snapshot *snapshot, struct arena *arena);
void qcow2_describe_snapshots(struct qcow2 *q, struct image_info *info, struct arena *arena) CONTROL_FN;

#endif
