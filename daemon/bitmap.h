/* bitmap - dirty bitmaps as answers of queries have them */
#ifndef CAIRN_DAEMON_BITMAP_H
#define CAIRN_DAEMON_BITMAP_H

struct arena;
struct block_device_info;
struct node;

/* Sets info->dirty_bitmaps where the node has any; memory from @arena. */
void describe_bitmaps(struct arena *arena, const struct node *node, struct block_device_info *info);

#endif
