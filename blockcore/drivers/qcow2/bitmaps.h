/* bitmaps - dirty bitmaps that are kept in the image
 *
 *     header extension --> directory --> table of each bitmap --> clusters of bits
 *
 * While the image is written the bitmaps live in memory (graph/dirty_bitmap.h), and the directory says of each of them
 * that it is in use, that is, worth nothing. They are written anew, elsewhere, when writing ends. README.md tells why
 * the power may go at any time. bitmaps_ahead.h is another way.
 *
 * All of it happens on the control thread. Names and limits are QEMU's. */
#ifndef CAIRN_QCOW2_BITMAPS_H
#define CAIRN_QCOW2_BITMAPS_H

#include "blockcore/drivers/qcow2/bitmap.h"
#include "blockcore/drivers/qcow2/qcow2_private.h"

struct arena;
struct dirty_bitmap;
struct image_info_specific_q_cow2;

/* bitmaps.c */

/* Reads the directory, if the header promises that it is kept up. An image whose directory is damaged can be read
 * without bitmaps. */
struct error *qcow2_bitmaps_load(struct qcow2 *q) CO_FN CONTROL_FN MUST_CHECK;
/* Bitmaps of the node as the image has them; the node knows its length already. */
struct error *qcow2_bitmaps_make(struct qcow2 *q) CO_FN CONTROL_FN MUST_CHECK;
void qcow2_bitmaps_fini(struct qcow2 *q);

/* Writing begins: stable before the first write. */
struct error *qcow2_bitmaps_begin(struct qcow2 *q) CO_FN CONTROL_FN MUST_CHECK;
/* Writing has not begun after all, and nothing was written: they are as before. Where that cannot be written they stay
 * in use. */
void qcow2_bitmaps_undo_begin(struct qcow2 *q) CO_FN CONTROL_FN;
/* Writing ends; no request is in flight. The bitmaps stay in memory as they are. On error they are in use for ever. */
struct error *qcow2_bitmaps_store(struct qcow2 *q) CO_FN CONTROL_FN MUST_CHECK;
/* The image goes on being written after they were stored; if that cannot be said of them, it must not. */
void qcow2_bitmaps_begin_again(struct qcow2 *q) CO_FN CONTROL_FN;
/* Whether bitmaps may change, as the image may. */
void qcow2_bitmaps_set_readonly(struct qcow2 *q, bool readonly) CONTROL_FN;

/* The disk may get another length, with other content behind the end that it has: until qcow2_bitmaps_resized(), a
 * crash leaves bitmaps that are ahead marked as in use. 0 or -errno. */
int qcow2_bitmaps_will_resize(struct qcow2 *q) CO_FN CONTROL_FN;
/* The disk has another length: bitmaps that are ahead get it too, or are marked as in use. */
void qcow2_bitmaps_resized(struct qcow2 *q) CO_FN CONTROL_FN;

/* The bitmaps that are kept in the image are gone from memory. */
void qcow2_bitmaps_forget(struct qcow2 *q) CONTROL_FN;

/* 0, or why the disk cannot get this length: -ENOTSUP for what is not ours, -EFBIG for what could not be stored. */
int qcow2_bitmaps_check_resize(struct qcow2 *q, uint64_t bytes);

/* The driver's entries, see graph/driver.h. */
struct error *qcow2_bitmap_check(struct node *node, const char *name, uint32_t granularity) CONTROL_FN MUST_CHECK;
struct error *qcow2_bitmap_remove(struct node *node, const char *name) CO_FN CONTROL_FN MUST_CHECK;
struct error *qcow2_bitmap_keep(struct node *node) CO_FN CONTROL_FN MUST_CHECK;
bool qcow2_bitmaps_are_ahead(const struct node *node) CONTROL_FN;

void qcow2_describe_bitmaps(const struct qcow2 *q, struct image_info_specific_q_cow2 *own, struct arena *arena);

/* bitmap_data.c */

/* Calls @visit for each run of whole clusters that the bitmap refers to: its table, and its bits. -EINVAL as soon as
 * something cannot be right. */
typedef int visit_bitmap_clusters(struct qcow2 *q, struct range host, void *arg);
int qcow2_bitmap_visit(struct qcow2 *q, const struct qcow2_bitmap *bitmap, visit_bitmap_clusters *visit, void *arg)
    CO_FN;
/* Sets the bits in @to. -EINVAL when the table is damaged. */
int qcow2_bitmap_read(struct qcow2 *q, const struct qcow2_bitmap *bitmap, struct dirty_bitmap *to) CO_FN;
/* Into clusters of its own, which *bitmap refers to afterwards. On failure nothing is left allocated. */
int qcow2_bitmap_write(struct qcow2 *q, struct dirty_bitmap *from, struct qcow2_bitmap *bitmap) CO_FN;
/* The table alone, which leads to clusters of bits already. */
int qcow2_bitmap_write_table(struct qcow2 *q, const uint64_t *table, struct qcow2_bitmap *bitmap) CO_FN;
/* Nothing on disk leads to the bitmap any more. */
void qcow2_bitmap_give_up(struct qcow2 *q, const struct qcow2_bitmap *bitmap) CO_FN;
/* The same of any place. */
void qcow2_bitmap_free_place(struct qcow2 *q, struct range place) CO_FN;

/* bitmap_header.c */

/* The header leads to this directory afterwards, and says that it is kept up; it led to the old one until then. What it
 * leads to is stable. When that fails, it is as before or nothing more is written. */
int qcow2_header_set_bitmaps(struct qcow2 *q, struct range directory, uint32_t count) CO_FN;
/* To none. */
int qcow2_header_drop_bitmaps(struct qcow2 *q) CO_FN;

#endif
