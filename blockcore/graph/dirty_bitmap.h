/* dirty_bitmap - which parts of a node were written to since somebody asked
 *
 * A bitmap belongs to a node. Each write, write of zeroes and discard that passes the node sets its bits when it has
 * ended (also when it failed: part of it may have happened), before whoever asked for it is told. So what a reader of
 * the node has seen after it cleared the bits is what the bits, taken together with what comes later, say.
 *
 *     request on any loop --> node_mark_dirty() --> bitmap 'a' (recording)
 *                                              '--> bitmap 'b' (disabled: stays as it is)
 *
 * Requests set bits on all loops at once without a lock (base/dirty_map.h); a node without bitmaps costs one branch.
 * Everything else happens on the control thread, and takes microseconds away from requests where it changes more than
 * single bits (runtime/lane_lock.h).
 *
 * A bitmap is always as long as its node: bits that a longer node adds are clear, those behind the end are gone.
 *
 * Texts of errors are QEMU's where clients may know them. */
#ifndef CAIRN_GRAPH_DIRTY_BITMAP_H
#define CAIRN_GRAPH_DIRTY_BITMAP_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/base/range.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIRTY_BITMAP_GRANULARITY_MIN 512u
#define DIRTY_BITMAP_GRANULARITY_MAX (UINT32_C(1) << 31)
#define DIRTY_BITMAP_NAME_MAX 1023

struct dirty_bitmap;
struct dirty_map;
struct node;

/* A bitmap with all bits clear, which records. @name NULL: for its maker only, not found and not listed; others have
 * names of their own on the node. @granularity: bytes of a bit, a power of two inside the bounds above. */
struct error *dirty_bitmap_create(struct node *node, const char *name, uint32_t granularity,
                                  struct dirty_bitmap **out) CONTROL_FN MUST_CHECK;
/* Only in memory: what an image keeps of it is the driver's business (driver->bitmap_remove). */
void dirty_bitmap_destroy(struct dirty_bitmap *bitmap) CONTROL_FN;

/* Bitmaps with a name. NULL: there is none. Next: the newest first; pass NULL, NULL ends. */
struct dirty_bitmap *dirty_bitmap_find(const struct node *node, const char *name) CONTROL_FN;
struct dirty_bitmap *dirty_bitmap_next(const struct node *node, const struct dirty_bitmap *after) CONTROL_FN;

const char *dirty_bitmap_name(const struct dirty_bitmap *bitmap);
struct node *dirty_bitmap_node(const struct dirty_bitmap *bitmap);
uint32_t dirty_bitmap_granularity(const struct dirty_bitmap *bitmap);
/* Bytes of the node that it speaks of. Any loop, while the bitmap stays. */
uint64_t dirty_bitmap_length(struct dirty_bitmap *bitmap);

/* Properties --------------------------------------------------------------------------------------------------- */

/* Requests set bits only while it is enabled. */
bool dirty_bitmap_is_enabled(const struct dirty_bitmap *bitmap);
void dirty_bitmap_set_enabled(struct dirty_bitmap *bitmap, bool enabled) CONTROL_FN;
/* In use by an operation: no command may touch it. It goes on recording. Who has set it busy unsets it again; there may
 * be several at once. */
bool dirty_bitmap_is_busy(const struct dirty_bitmap *bitmap);
void dirty_bitmap_set_busy(struct dirty_bitmap *bitmap, bool busy) CONTROL_FN;
/* It belongs to somebody who copies what is written: requests with REQ_COPIED are none of its business. Before it is
 * enabled for the first time. */
void dirty_bitmap_set_copier(struct dirty_bitmap *bitmap) CONTROL_FN;
/* To be kept in the image. */
bool dirty_bitmap_is_persistent(const struct dirty_bitmap *bitmap);
void dirty_bitmap_set_persistent(struct dirty_bitmap *bitmap, bool persistent) CONTROL_FN;
/* A mark for the driver while it stores them: it has this one in its plan. A new one has none. */
bool dirty_bitmap_is_planned(const struct dirty_bitmap *bitmap);
void dirty_bitmap_set_planned(struct dirty_bitmap *bitmap, bool planned) CONTROL_FN;
/* Writes may be missing: of no use but to be removed. It does not record, and has no bits. */
bool dirty_bitmap_is_inconsistent(const struct dirty_bitmap *bitmap);
void dirty_bitmap_set_inconsistent(struct dirty_bitmap *bitmap) CONTROL_FN;
/* Its image follows it also while it is busy (write_ahead.h): whoever uses it takes bits away only for good. */
bool dirty_bitmap_is_followed(const struct dirty_bitmap *bitmap);
void dirty_bitmap_set_followed(struct dirty_bitmap *bitmap, bool followed) CONTROL_FN;
/* It is in an image that cannot be written, so it must not change. */
bool dirty_bitmap_is_readonly(const struct dirty_bitmap *bitmap);
void dirty_bitmap_set_readonly(struct dirty_bitmap *bitmap, bool readonly) CONTROL_FN;

enum dirty_bitmap_state {
    DIRTY_BITMAP_BUSY = 1,
    DIRTY_BITMAP_READONLY = 2,
    DIRTY_BITMAP_INCONSISTENT = 4,
};

/* An error that says which of these states it is in. */
struct error *dirty_bitmap_check(const struct dirty_bitmap *bitmap, unsigned states) CONTROL_FN MUST_CHECK;
/* The same for an operation that has set it busy itself, once: does anybody else use it? */
struct error *dirty_bitmap_check_ours(const struct dirty_bitmap *bitmap, unsigned states) CONTROL_FN MUST_CHECK;

/* Bits --------------------------------------------------------------------------------------------------------- */

/* Ranges are bytes inside of the node; each granule that a range touches counts. */
void dirty_bitmap_mark(struct dirty_bitmap *bitmap, struct range range); /* any loop */
void dirty_bitmap_clean(struct dirty_bitmap *bitmap, struct range range) CONTROL_FN;
/* All of it, however much that is, at once. False when there is no memory, and all is as before. */
bool dirty_bitmap_clear(struct dirty_bitmap *bitmap) CONTROL_FN MUST_CHECK;

/* Each has the bits that the other had. Both are of one node and of one granularity. */
void dirty_bitmap_exchange(struct dirty_bitmap *a, struct dirty_bitmap *b) CONTROL_FN;

/* Finds runs of dirty bytes from *@offset on, at most @max, and cleans them in the same moment: a write that ends later
 * makes its bytes dirty again. *@offset is where to go on. Returns how many there are; 0: none up to the end. */
size_t dirty_bitmap_take(struct dirty_bitmap *bitmap, uint64_t *offset, struct range *runs, size_t max) CONTROL_FN;

/* What is dirty neither in @a nor in @b becomes clean; a write that ends meanwhile makes its bytes dirty in all of them
 * or comes later. All are of one node and of one granularity. Others get a turn; nobody may destroy them meanwhile. */
void dirty_bitmap_retain(struct dirty_bitmap *bitmap, struct dirty_bitmap *a, struct dirty_bitmap *b) CO_FN CONTROL_FN;

/* The first byte from @offset on that is dirty (or is not); the length when there is none, or @offset is not below it.
 * Any loop, while the bitmap stays (it is busy). */
uint64_t dirty_bitmap_next_dirty(struct dirty_bitmap *bitmap, uint64_t offset);
uint64_t dirty_bitmap_next_clean(struct dirty_bitmap *bitmap, uint64_t offset);
/* Bytes of all granules that are dirty; the last one counts as a whole. */
uint64_t dirty_bitmap_count(struct dirty_bitmap *bitmap) CONTROL_FN;

/* Whatever is dirty in @from is dirty in @to afterwards, in its image too if that has bits ahead (write_ahead.h). The
 * granularities may differ, the lengths may not. Others get a turn meanwhile; both bitmaps are busy until it ends. */
struct error *dirty_bitmap_merge(struct dirty_bitmap *to, struct dirty_bitmap *from) CO_FN CONTROL_FN MUST_CHECK;

/* The image of @to, which is busy, says on stable storage that what is dirty in @from is dirty in @to, if it has bits
 * ahead (write_ahead.h). Before bits are added in another way than by writes, or while it is still busy afterwards. */
struct error *dirty_bitmap_tell_image(struct dirty_bitmap *to, struct dirty_bitmap *from) CO_FN CONTROL_FN MUST_CHECK;
/* The same for whoever holds the node still, of an image that has bits ahead. 0 or -errno. */
int dirty_bitmap_tell_image_held(struct dirty_bitmap *to, struct dirty_bitmap *from) CO_FN CONTROL_FN;

/* Bits as bytes, see dirty_map_read(). There are dirty_bitmap_bytes() of them, a multiple of 8 and at least 8. */
uint64_t dirty_bitmap_bytes(struct dirty_bitmap *bitmap) CONTROL_FN;
void dirty_bitmap_read(struct dirty_bitmap *bitmap, uint64_t first_byte, void *data, size_t bytes) CONTROL_FN;
void dirty_bitmap_add(struct dirty_bitmap *bitmap, uint64_t first_byte, const void *data, size_t bytes) CONTROL_FN;

/* Requests ----------------------------------------------------------------------------------------------------- */

/* For io/, on any loop: these bytes may have changed. @copied: the request had REQ_COPIED. Long ranges give others a
 * turn. Use node_mark_dirty(). */
void node_mark_dirty_slowly(struct node *node, struct range range, bool copied) CO_FN;

/* The node may have another length now. Bitmaps also find out by themselves, but only when they are next looked at. */
void node_settle_bitmaps(struct node *node);

/* The end of the node. */
void node_free_bitmaps(struct node *node) CONTROL_FN;

#endif
