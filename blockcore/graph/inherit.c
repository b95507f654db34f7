#include "blockcore/graph/inherit.h"

static enum detect_zeroes detect_zeroes_of(const struct blockdev_options *options)
{
    if (!options->has_detect_zeroes)
        return DETECT_ZEROES_OFF;
    switch (options->detect_zeroes) {
    case BLOCKDEV_DETECT_ZEROES_OPTIONS_ON:
        return DETECT_ZEROES_ON;
    case BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP:
        return DETECT_ZEROES_UNMAP;
    default:
        return DETECT_ZEROES_OFF;
    }
}

struct node_settings settings_of(const struct blockdev_options *options)
{
    const struct blockdev_cache_options *cache = options->cache;
    return (struct node_settings){
        .read_only = options->has_read_only && options->read_only,
        .auto_read_only = options->has_auto_read_only && options->auto_read_only,
        .inactive = options->has_active && !options->active,
        .force_share = options->has_force_share && options->force_share,
        .unmap = options->has_discard && options->discard == BLOCKDEV_DISCARD_OPTIONS_UNMAP,
        .detect_zeroes = detect_zeroes_of(options),
        .cache_direct = cache && cache->has_direct && cache->direct,
        .cache_no_flush = cache && cache->has_no_flush && cache->no_flush,
    };
}

bool settings_equal(const struct node_settings *a, const struct node_settings *b)
{
    return a->read_only == b->read_only && a->auto_read_only == b->auto_read_only && a->inactive == b->inactive &&
           a->force_share == b->force_share && a->unmap == b->unmap && a->detect_zeroes == b->detect_zeroes &&
           a->cache_direct == b->cache_direct && a->cache_no_flush == b->cache_no_flush;
}

struct error *settings_check(const struct blockdev_options *options)
{
    const struct node_settings settings = settings_of(options);
    if (settings.detect_zeroes == DETECT_ZEROES_UNMAP && !settings.unmap)
        return error_new("detect-zeroes: 'unmap' needs 'discard' to be 'unmap'");
    if (settings.force_share && !settings.read_only)
        return error_new("force-share: true needs 'read-only' to be true");
    return NULL;
}

void options_inherit(struct inherited *child, const struct blockdev_options *given,
                     const struct blockdev_options *parent, bool parent_read_only, unsigned role)
{
    struct blockdev_options *options = &child->options;
    *options = *given;
    if (!options->has_read_only) {
        options->has_read_only = true;
        options->read_only = parent_read_only || (role & CHILD_BACKING);
    }
    if (!options->has_auto_read_only && !(role & CHILD_BACKING)) {
        options->has_auto_read_only = parent->has_auto_read_only;
        options->auto_read_only = parent->auto_read_only;
    }
    if (!options->has_force_share && options->read_only) {
        options->has_force_share = parent->has_force_share;
        options->force_share = parent->force_share;
    }
    if (!options->has_active) {
        options->has_active = parent->has_active;
        options->active = parent->active;
    }
    /* The node above decides which discards come down, so that its file may unmap what it gives up by itself, too. */
    if (!options->has_discard && !(role & CHILD_BACKING)) {
        options->has_discard = true;
        options->discard = BLOCKDEV_DISCARD_OPTIONS_UNMAP;
    }
    if (parent->cache) {
        child->cache = given->cache ? *given->cache : *parent->cache;
        if (!child->cache.has_direct) {
            child->cache.has_direct = parent->cache->has_direct;
            child->cache.direct = parent->cache->direct;
        }
        if (!child->cache.has_no_flush) {
            child->cache.has_no_flush = parent->cache->has_no_flush;
            child->cache.no_flush = parent->cache->no_flush;
        }
        options->cache = &child->cache;
    }
}
