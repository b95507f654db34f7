/* bitmap - dirty bitmaps as commands, answers of queries and configurations have them */
#ifndef CAIRN_DAEMON_BITMAP_H
#define CAIRN_DAEMON_BITMAP_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

struct arena;
struct block_device_info;
struct block_dirty_bitmap;
struct block_dirty_bitmap_add;
struct node;

/* Sets info->dirty_bitmaps where the node has any; memory from @arena. */
void describe_bitmaps(struct arena *arena, const struct node *node, struct block_device_info *info);

/* For a configuration: as block-dirty-bitmap-add, but one that is there already, as it is described, only becomes
 * enabled or disabled. Error: it is there and differs. */
struct error *bitmap_ensure(const struct block_dirty_bitmap_add *wanted) CO_FN CONTROL_FN MUST_CHECK;

/* block-dirty-bitmap-remove. */
struct error *bitmap_remove(const struct block_dirty_bitmap *which) CO_FN CONTROL_FN MUST_CHECK;

#endif
