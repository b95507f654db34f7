/* Errors on the way: a blkdebug filter somewhere below the disk fails requests for a while, at any event or at once.
 *
 * What a failed request was to change may have its old or its new bytes, each byte by itself; everything else is as it
 * was, and when the errors are over all goes on. Below a quorum only the last of three children fails, and nobody above
 * may learn of it. */
#include "tests/unit/property/world.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/range.h"
#include "blockcore/graph/rearrange.h"
#include "blockcore/io/snapshot.h"

#include <errno.h>

#define RULES_MAX 3
#define REQUESTS_MAX 12

static struct blkdebug_inject_error_options choose_rule(struct world *world)
{
    struct blkdebug_inject_error_options rule = { .event = BLKDEBUG_EVENT_NONE, .has_errno = true };
    if (chance(world, 2))
        rule.event = (enum blkdebug_event)choose(world, BLKDEBUG_EVENT_NONE);
    rule.errno_ = chance(world, 3) ? ENOSPC : EIO;
    rule.has_once = true;
    rule.once = chance(world, 2);
    rule.has_immediately = true;
    rule.immediately = chance(world, 2);
    rule.has_iotype = chance(world, 2);
    rule.iotype = (enum blkdebug_io_type)choose(world, BLKDEBUG_IO_TYPE_BLOCK_STATUS + 1);
    rule.has_sector = chance(world, 3);
    rule.sector = (int64_t)choose(world, LENGTH_MAX / 512);
    return rule;
}

static struct error *raise_storm(const struct part *place, const struct blkdebug_inject_error_options *rules,
                                 size_t count)
{
    for (size_t i = 0; i < count; i++) {
        tell("   error %lld at %s%s%s%s", (long long)rules[i].errno_, blkdebug_event_name(rules[i].event),
             rules[i].has_iotype ? ", only " : "", rules[i].has_iotype ? blkdebug_io_type_name(rules[i].iotype) : "",
             rules[i].once ? ", once" : "");
    }
    struct blockdev_options options = with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_BLKDEBUG,
        .node_name = "storm",
        .u.blkdebug = { .image = by_name(place->name),
                        .has_inject_error = true,
                        .inject_error = rules,
                        .inject_error_count = count },
    });
    bool unaligned =
        rules[0].event >= BLKDEBUG_EVENT_PWRITEV_RMW_HEAD && rules[0].event <= BLKDEBUG_EVENT_PWRITEV_RMW_AFTER_TAIL;
    options.u.blkdebug.has_align = unaligned; /* or nobody would have to read before writing */
    options.u.blkdebug.align = 4096;
    struct error *err = blockdev_add(&options);
    if (err)
        return err;
    err = filter_insert(node_find(place->name), node_find("storm"), NULL);
    if (err)
        expect_success(blockdev_del("storm"));
    return err;
}

static void wait_a_while(struct world *world)
{
    for (uint64_t turns = choose(world, 50); turns > 0; turns--)
        co_yield ();
}

/* Snapshots come and go, or do not; the disk is none the worse. */
static void try_snapshot(struct world *world)
{
    struct arena arena;
    struct snapshot_info deleted;
    if (!image_below(world, PART_QCOW2))
        return;
    tell("   snapshot");
    struct error *err = node_snapshot_create(handle_node(world->disk), "stormy");
    if (err)
        tell("   %s", error_message(err));
    error_free(err);
    do_request(world);
    arena_init(&arena, SIZE_MAX);
    err = node_snapshot_delete(handle_node(world->disk), NULL, "stormy", &arena, &deleted);
    if (err)
        tell("   %s", error_message(err));
    error_free(err);
    arena_fini(&arena);
}

/* Longer, or as long as before. */
static void try_growth(struct world *world)
{
    uint64_t length = align_up(world->length, 512) + 512 * choose(world, 64);
    bool may = child_permissions(handle_edge(world->disk)) & PERM_RESIZE;
    if (!may || length > LENGTH_MAX)
        return;
    tell("   resize to %llu", (unsigned long long)length);
    world->length_tried = length;
    int ret = handle_resize(world->disk, length, TRUNCATE_SPARSE);
    atomic_fetch_add(&world->failures, ret < 0);
    uint64_t now = node_length(handle_node(world->disk));
    expect(now == world->length || ret == 0);
    world->grown = true;
    set_length(world, now);
}

static void go_through(struct world *world, unsigned requests)
{
    if (requests == 0) {
        tell("   with requests from all loops");
        with_requests(world, world->length, wait_a_while);
        return;
    }
    for (unsigned i = 0; i < requests; i++)
        do_request(world);
    try_snapshot(world);
    try_growth(world);
}

static bool is_below(const struct part *part, const struct part *above)
{
    if (!above)
        return false;
    return part == above->below[0] || is_below(part, above->below[0]) || is_below(part, above->backing);
}

/* In use, of the kind. */
static struct part *find_kind(struct world *world, enum part_kind kind)
{
    for (unsigned i = 0; i < world->count; i++) {
        struct part *part = &world->parts[i];
        if (part->kind == kind && (part == world->top || is_below(part, world->top)))
            return part;
    }
    return NULL;
}

static struct error *go_out(struct world *world, const struct part *place,
                            const struct blkdebug_inject_error_options *rules, size_t count, unsigned requests,
                            bool masked) CO_FN;

static struct error *go_out(struct world *world, const struct part *place,
                            const struct blkdebug_inject_error_options *rules, size_t count, unsigned requests,
                            bool masked)
{
    if (!can_open_again(world))
        return error_new("what could break could not be opened again");
    tell("errors below %s:", place->name);
    expect_int(handle_flush(world->disk), 0);
    struct error *err = raise_storm(place, rules, count);
    if (err)
        return err;
    watch_begin(world);
    world->errors = !masked;
    go_through(world, requests);
    world->errors = false;
    expect_success(filter_remove(node_find("storm"), NULL));
    expect_success(blockdev_del("storm"));
    /* Who lost all ways to write a header writes no more. One error is never enough for that. */
    bool works = handle_flush(world->disk) == 0 && put_bytes(world->disk, 0, world->bytes, 1) == 0;
    world->watched = false;
    world->unsure[0] = world->unsure[0] && !works;
    expect(works || count > 1 || !rules[0].once);
    if (works)
        make_sure(world);
    else
        come_back(world);
    world->leaks = true;
    return NULL;
}

struct error *storm_at(struct world *world, const struct part *place, const struct blkdebug_inject_error_options *rules,
                       size_t count, unsigned requests)
{
    return go_out(world, place, rules, count, requests, false);
}

struct error *storm(struct world *world)
{
    struct blkdebug_inject_error_options rules[RULES_MAX];
    struct part *place = choose_part(world);
    struct part *quorum = find_kind(world, PART_QUORUM);
    bool masked = quorum && is_below(place, quorum);
    if (find_kind(world, PART_VERIFY))
        return error_new("what blkverify compares would differ for ever");
    if (masked && !quorum->below[2])
        return error_new("a quorum of two");
    size_t count = 1 + choose(world, RULES_MAX);
    for (size_t i = 0; i < count; i++)
        rules[i] = choose_rule(world);
    unsigned requests = chance(world, 3) ? 0 : 1 + (unsigned)choose(world, REQUESTS_MAX);
    return go_out(world, masked ? quorum->below[2] : place, rules, count, requests, masked);
}
