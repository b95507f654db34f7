/* Commands on dirty bitmaps (schema/bitmap.json). */
#include "daemon/bitmap.h"
#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/crypto/sha256.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/write_ahead.h"
#include "blockcore/jobs/transaction.h"
#include "daemon/transaction.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

#include <errno.h>
#include <stdio.h>

#define GRANULARITY_DEFAULT 65536
#define GRANULARITY_DEFAULT_MIN 4096
#define CHECKSUM_PIECE (256 * 1024) /* bytes, taken from the bitmap in one go */

#define CHANGED (DIRTY_BITMAP_BUSY | DIRTY_BITMAP_READONLY | DIRTY_BITMAP_INCONSISTENT)
#define USED (DIRTY_BITMAP_BUSY | DIRTY_BITMAP_INCONSISTENT)

/* Finding ------------------------------------------------------------------------------------------------------ */

static struct error *find_in(const struct node *node, const char *name, struct dirty_bitmap **out)
{
    *out = dirty_bitmap_find(node, name);
    return *out ? NULL : error_new("Dirty bitmap '%s' not found", name);
}

static struct error *find_bitmap(const char *node_name, const char *name, struct dirty_bitmap **out)
{
    struct node *node = node_find(node_name);
    return node ? find_in(node, name, out) : error_new("Node '%s' not found", node_name);
}

/* In none of these states. */
static struct error *find_free(const struct block_dirty_bitmap *which, unsigned states, struct dirty_bitmap **out)
{
    struct error *err = find_bitmap(which->node, which->name, out);
    return err ? err : dirty_bitmap_check(*out, states);
}

/* Making and removing ------------------------------------------------------------------------------------------ */

/* Filters are as their child is. */
static uint32_t default_granularity(struct node *node)
{
    while (node_driver(node)->kind == DRIVER_FILTER && node_filtered(node))
        node = child_node(node_filtered(node));
    struct arena arena;
    struct image_info info = { 0 };
    arena_init(&arena, SIZE_MAX);
    if (node_driver(node)->describe)
        node_driver(node)->describe(node, &info, &arena);
    arena_fini(&arena);
    if (!info.has_cluster_size || info.cluster_size <= 0)
        return GRANULARITY_DEFAULT;
    return (uint32_t)min_u64(max_u64((uint64_t)info.cluster_size, GRANULARITY_DEFAULT_MIN), GRANULARITY_DEFAULT);
}

static struct error *check_granularity(uint32_t granularity)
{
    if (granularity < DIRTY_BITMAP_GRANULARITY_MIN || !is_power_of_two(granularity))
        return error_new("Granularity must be power of 2 and at least 512");
    return NULL;
}

static struct error *check_persistent(struct node *node, const char *name, uint32_t granularity)
{
    const struct driver *driver = node_driver(node);
    if (!driver->bitmap_check)
        return error_new("Can't store persistent bitmaps to %s: Operation not supported", node_name(node));
    if (dirty_bitmap_find(node, name))
        return error_new("Bitmap already exists: %s", name);
    return error_wrap(driver->bitmap_check(node, name, granularity), "Can't make bitmap '%s' persistent in '%s'", name,
                      node_name(node));
}

/* An image that has its bitmaps right at every moment gets this one now. */
static struct error *keep(struct dirty_bitmap *bitmap) CO_FN;

static struct error *keep(struct dirty_bitmap *bitmap)
{
    struct node *node = node_ref(dirty_bitmap_node(bitmap));
    struct handle *handle;
    if (!node_driver(node)->bitmaps_are_ahead(node)) {
        node_unref(node);
        return NULL;
    }
    dirty_bitmap_set_busy(bitmap, true);
    struct error *err = handle_enter_here(node, "block-dirty-bitmap-add", &handle);
    if (!err) {
        err = node_driver(node)->bitmap_keep(node);
        handle_leave_here(handle);
    }
    dirty_bitmap_set_busy(bitmap, false);
    if (err)
        dirty_bitmap_destroy(bitmap);
    node_unref(node);
    return err;
}

static struct error *make_bitmap(const struct block_dirty_bitmap_add *arguments, struct dirty_bitmap **out) CO_FN;

static struct error *make_bitmap(const struct block_dirty_bitmap_add *arguments, struct dirty_bitmap **out)
{
    if (arguments->name[0] == '\0')
        return error_new("Bitmap name cannot be empty");
    struct node *node = node_find(arguments->node);
    if (!node)
        return error_new("Cannot find device='%s' nor node-name='%s'", arguments->node, arguments->node);
    uint32_t granularity = arguments->has_granularity ? arguments->granularity : default_granularity(node);
    struct error *err = check_granularity(granularity);
    if (!err && arguments->persistent)
        err = check_persistent(node, arguments->name, granularity);
    if (!err)
        err = dirty_bitmap_create(node, arguments->name, granularity, out);
    if (err)
        return err;
    dirty_bitmap_set_enabled(*out, !arguments->disabled);
    dirty_bitmap_set_persistent(*out, arguments->persistent);
    return arguments->persistent ? keep(*out) : NULL;
}

struct error *handle_block_dirty_bitmap_add(struct command_context *context,
                                            const struct block_dirty_bitmap_add *arguments)
{
    (void)context;
    struct dirty_bitmap *bitmap;
    return make_bitmap(arguments, &bitmap);
}

struct error *bitmap_ensure(const struct block_dirty_bitmap_add *wanted)
{
    const struct node *node = node_find(wanted->node);
    struct dirty_bitmap *bitmap = node ? dirty_bitmap_find(node, wanted->name) : NULL;
    if (!bitmap)
        return make_bitmap(wanted, &bitmap);
    if (dirty_bitmap_is_persistent(bitmap) != wanted->persistent ||
        (wanted->has_granularity && dirty_bitmap_granularity(bitmap) != wanted->granularity))
        return error_new("node '%s' has a bitmap '%s' already, of granularity %u and %s", wanted->node, wanted->name,
                         dirty_bitmap_granularity(bitmap),
                         dirty_bitmap_is_persistent(bitmap) ? "persistent" : "not persistent");
    if (dirty_bitmap_is_enabled(bitmap) == !wanted->disabled)
        return NULL;
    struct error *err = dirty_bitmap_check(bitmap, USED);
    if (!err)
        dirty_bitmap_set_enabled(bitmap, !wanted->disabled);
    return err;
}

/* While the image is written nobody else may begin with the bitmap, and the node stays. */
static struct error *remove_from_image(struct dirty_bitmap *bitmap) CO_FN;

static struct error *remove_from_image(struct dirty_bitmap *bitmap)
{
    struct node *node = node_ref(dirty_bitmap_node(bitmap));
    dirty_bitmap_set_busy(bitmap, true);
    struct handle *handle;
    struct error *err = handle_enter_here(node, "block-dirty-bitmap-remove", &handle);
    if (!err) {
        err = node_driver(node)->bitmap_remove(node, dirty_bitmap_name(bitmap));
        handle_leave_here(handle);
    }
    dirty_bitmap_set_busy(bitmap, false);
    if (!err)
        dirty_bitmap_destroy(bitmap);
    node_unref(node);
    return err;
}

struct error *bitmap_remove(const struct block_dirty_bitmap *which)
{
    struct dirty_bitmap *bitmap;
    struct error *err = find_free(which, DIRTY_BITMAP_BUSY | DIRTY_BITMAP_READONLY, &bitmap);
    if (err)
        return err;
    if (dirty_bitmap_is_persistent(bitmap))
        return remove_from_image(bitmap);
    dirty_bitmap_destroy(bitmap);
    return NULL;
}

struct error *handle_block_dirty_bitmap_remove(struct command_context *context,
                                               const struct block_dirty_bitmap *arguments)
{
    (void)context;
    return bitmap_remove(arguments);
}

/* Changing ----------------------------------------------------------------------------------------------------- */

/* An image that has its bitmaps right at every moment may have fewer bits now. */
static void tell_image(struct dirty_bitmap *bitmap) CO_FN;

static void tell_image(struct dirty_bitmap *bitmap)
{
    struct node *node = node_ref(dirty_bitmap_node(bitmap));
    struct handle *handle;
    if (node_driver(node)->bitmaps_are_ahead(node)) {
        struct error *err = handle_enter_here(node, "block-dirty-bitmap-clear", &handle);
        if (!err) {
            node_cool_regions(node, false);
            handle_leave_here(handle);
        }
        error_free(err); /* the image has more bits than it needs, which does no harm */
    }
    node_unref(node);
}

struct error *handle_block_dirty_bitmap_clear(struct command_context *context,
                                              const struct block_dirty_bitmap *arguments)
{
    (void)context;
    struct dirty_bitmap *bitmap;
    struct error *err = find_free(arguments, CHANGED, &bitmap);
    if (err)
        return err;
    if (!dirty_bitmap_clear(bitmap))
        return error_errno(ENOMEM, "cannot clear bitmap '%s'", arguments->name);
    if (dirty_bitmap_is_persistent(bitmap))
        tell_image(bitmap);
    return NULL;
}

struct error *handle_block_dirty_bitmap_enable(struct command_context *context,
                                               const struct block_dirty_bitmap *arguments)
{
    (void)context;
    struct dirty_bitmap *bitmap;
    struct error *err = find_free(arguments, USED, &bitmap);
    if (!err)
        dirty_bitmap_set_enabled(bitmap, true);
    return err;
}

struct error *handle_block_dirty_bitmap_disable(struct command_context *context,
                                                const struct block_dirty_bitmap *arguments)
{
    (void)context;
    struct dirty_bitmap *bitmap;
    struct error *err = find_free(arguments, USED, &bitmap);
    if (!err)
        dirty_bitmap_set_enabled(bitmap, false);
    return err;
}

/* Merging ------------------------------------------------------------------------------------------------------ */

static struct error *find_source(const struct node *node, const struct block_dirty_bitmap_or_str *which,
                                 struct dirty_bitmap **out)
{
    if (which->kind == BLOCK_DIRTY_BITMAP_OR_STR_KIND_LOCAL)
        return find_in(node, which->u.local, out);
    return find_bitmap(which->u.external->node, which->u.external->name, out);
}

/* All of them into one that nobody knows, so that nothing has happened if one cannot be merged. */
static struct error *gather(struct node *node, const struct block_dirty_bitmap_merge *arguments,
                            struct dirty_bitmap *gathered) CO_FN;

static struct error *gather(struct node *node, const struct block_dirty_bitmap_merge *arguments,
                            struct dirty_bitmap *gathered)
{
    for (size_t i = 0; i < arguments->bitmaps_count; i++) {
        struct dirty_bitmap *source;
        struct error *err = find_source(node, &arguments->bitmaps[i], &source);
        if (!err)
            err = dirty_bitmap_check(source, USED);
        if (!err)
            err = dirty_bitmap_merge(gathered, source);
        if (err)
            return err;
    }
    return NULL;
}

static struct error *merge_into(struct node *node, const struct block_dirty_bitmap_merge *arguments,
                                struct dirty_bitmap *gathered) CO_FN;

static struct error *merge_into(struct node *node, const struct block_dirty_bitmap_merge *arguments,
                                struct dirty_bitmap *gathered)
{
    struct error *err = gather(node, arguments, gathered);
    if (err)
        return err;
    /* Others had a turn: the target may be gone. */
    struct dirty_bitmap *target;
    err = find_in(node, arguments->target, &target);
    if (!err)
        err = dirty_bitmap_check(target, CHANGED);
    return err ? err : dirty_bitmap_merge(target, gathered);
}

struct error *handle_block_dirty_bitmap_merge(struct command_context *context,
                                              const struct block_dirty_bitmap_merge *arguments)
{
    (void)context;
    const struct block_dirty_bitmap which = { .node = arguments->node, .name = arguments->target };
    struct dirty_bitmap *target;
    struct dirty_bitmap *gathered;
    struct error *err = find_free(&which, CHANGED, &target);
    if (err)
        return err;
    struct node *node = node_ref(dirty_bitmap_node(target));
    err = dirty_bitmap_create(node, NULL, dirty_bitmap_granularity(target), &gathered);
    if (!err) {
        dirty_bitmap_set_enabled(gathered, false);
        err = merge_into(node, arguments, gathered);
        dirty_bitmap_destroy(gathered);
    }
    node_unref(node);
    return err;
}

/* In transactions ---------------------------------------------------------------------------------------------- */

struct error *add_bitmap_action(struct transaction *transaction, const struct block_dirty_bitmap_add *arguments)
{
    struct dirty_bitmap *bitmap;
    struct error *err = make_bitmap(arguments, &bitmap);
    return err ? err : transaction_new_bitmap(transaction, bitmap);
}

struct error *remove_bitmap_action(struct transaction *transaction, const struct block_dirty_bitmap *arguments)
{
    struct dirty_bitmap *bitmap;
    struct error *err = find_bitmap(arguments->node, arguments->name, &bitmap);
    return err ? err : transaction_remove_bitmap(transaction, bitmap);
}

struct error *clear_bitmap_action(struct transaction *transaction, const struct block_dirty_bitmap *arguments)
{
    struct dirty_bitmap *bitmap;
    struct error *err = find_bitmap(arguments->node, arguments->name, &bitmap);
    return err ? err : transaction_clear_bitmap(transaction, bitmap);
}

struct error *enable_bitmap_action(struct transaction *transaction, const struct block_dirty_bitmap *arguments)
{
    struct dirty_bitmap *bitmap;
    struct error *err = find_bitmap(arguments->node, arguments->name, &bitmap);
    return err ? err : transaction_enable_bitmap(transaction, bitmap, true);
}

struct error *disable_bitmap_action(struct transaction *transaction, const struct block_dirty_bitmap *arguments)
{
    struct dirty_bitmap *bitmap;
    struct error *err = find_bitmap(arguments->node, arguments->name, &bitmap);
    return err ? err : transaction_enable_bitmap(transaction, bitmap, false);
}

struct error *merge_bitmaps_action(struct transaction *transaction, const struct block_dirty_bitmap_merge *arguments)
{
    struct dirty_bitmap *target;
    struct error *err = find_bitmap(arguments->node, arguments->target, &target);
    if (err)
        return err;
    CLEANUP(free) struct dirty_bitmap **sources = xcalloc(arguments->bitmaps_count, sizeof(*sources));
    for (size_t i = 0; i < arguments->bitmaps_count && !err; i++)
        err = find_source(dirty_bitmap_node(target), &arguments->bitmaps[i], &sources[i]);
    return err ? err : transaction_merge_bitmaps(transaction, target, sources, arguments->bitmaps_count);
}

/* Checksum ----------------------------------------------------------------------------------------------------- */

/* The bitmap is looked up for each piece, since others get a turn in between. */
static struct error *add_to_checksum(const struct block_dirty_bitmap *which, struct sha256 *sha256,
                                     unsigned char *piece) CO_FN;

static struct error *add_to_checksum(const struct block_dirty_bitmap *which, struct sha256 *sha256,
                                     unsigned char *piece)
{
    for (uint64_t at = 0;; at += CHECKSUM_PIECE) {
        struct dirty_bitmap *bitmap;
        struct error *err = find_free(which, 0, &bitmap);
        if (err || at >= dirty_bitmap_bytes(bitmap))
            return err;
        size_t bytes = (size_t)min_u64(CHECKSUM_PIECE, dirty_bitmap_bytes(bitmap) - at);
        dirty_bitmap_read(bitmap, at, piece, bytes);
        int ret = sha256_add(sha256, piece, bytes);
        if (ret < 0)
            return error_errno(-ret, "cannot compute the checksum");
    }
}

struct error *handle_x_debug_block_dirty_bitmap_sha256(struct command_context *context,
                                                       const struct block_dirty_bitmap *arguments,
                                                       struct block_dirty_bitmap_sha256 *result)
{
    struct dirty_bitmap *bitmap;
    struct error *err = find_free(arguments, 0, &bitmap);
    CLEANUP(sha256_free) struct sha256 *sha256 = NULL;
    if (!err)
        err = sha256_begin(&sha256);
    if (err)
        return err;
    CLEANUP(free) unsigned char *piece = xmalloc(CHECKSUM_PIECE);
    err = add_to_checksum(arguments, sha256, piece);
    if (err)
        return err;
    uint8_t digest[SHA256_BYTES];
    int ret = sha256_end(sha256, digest);
    if (ret < 0)
        return error_errno(-ret, "cannot compute the checksum");
    char *digits = arena_alloc(command_arena(context), 2 * SHA256_BYTES + 1);
    for (size_t i = 0; i < SHA256_BYTES; i++)
        snprintf(digits + 2 * i, 3, "%02x", digest[i]);
    result->sha256 = digits;
    return NULL;
}

/* Telling ------------------------------------------------------------------------------------------------------ */

void describe_bitmaps(struct arena *arena, const struct node *node, struct block_device_info *info)
{
    size_t count = 0;
    for (struct dirty_bitmap *bitmap = NULL; (bitmap = dirty_bitmap_next(node, bitmap));)
        count++;
    if (count == 0)
        return;
    struct block_dirty_info *list = arena_array(arena, count, sizeof(*list));
    count = 0;
    for (struct dirty_bitmap *bitmap = NULL; (bitmap = dirty_bitmap_next(node, bitmap));) {
        list[count++] = (struct block_dirty_info){
            .name = arena_strdup(arena, dirty_bitmap_name(bitmap)),
            .count = (int64_t)dirty_bitmap_count(bitmap),
            .granularity = dirty_bitmap_granularity(bitmap),
            .recording = dirty_bitmap_is_enabled(bitmap),
            .busy = dirty_bitmap_is_busy(bitmap),
            .persistent = dirty_bitmap_is_persistent(bitmap),
            .has_inconsistent = dirty_bitmap_is_inconsistent(bitmap),
            .inconsistent = dirty_bitmap_is_inconsistent(bitmap),
        };
    }
    info->has_dirty_bitmaps = true;
    info->dirty_bitmaps = list;
    info->dirty_bitmaps_count = count;
}
