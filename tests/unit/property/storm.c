/* Errors on the way: a blkdebug filter somewhere below the disk fails requests for a while, at any event or at once.
 *
 * What a failed request was to change may have its old or its new bytes, each byte by itself; everything else is as it
 * was, and when the errors are over all goes on. Below a quorum only the last of three children fails, and nobody above
 * may learn of it. */
#include "tests/unit/property/world.h"

#include "blockcore/graph/rearrange.h"

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

static struct error *raise_storm(struct world *world, struct part *place)
{
    struct blkdebug_inject_error_options rules[RULES_MAX];
    size_t count = 1 + choose(world, RULES_MAX);
    for (size_t i = 0; i < count; i++) {
        rules[i] = choose_rule(world);
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

static void go_through(struct world *world)
{
    if (chance(world, 3)) {
        tell("   with requests from all loops");
        with_requests(world, world->length, wait_a_while);
        return;
    }
    for (uint64_t requests = 1 + choose(world, REQUESTS_MAX); requests > 0; requests--)
        do_request(world);
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

struct error *storm(struct world *world)
{
    struct part *place = choose_part(world);
    struct part *quorum = find_kind(world, PART_QUORUM);
    bool masked = quorum && is_below(place, quorum);
    if (find_kind(world, PART_VERIFY))
        return error_new("what blkverify compares would differ for ever");
    if (masked && !quorum->below[2])
        return error_new("a quorum of two");
    place = masked ? quorum->below[2] : place;
    tell("errors below %s:", place->name);
    struct error *err = raise_storm(world, place);
    if (err)
        return err;
    world->errors = !masked;
    go_through(world);
    world->errors = false;
    expect_success(filter_remove(node_find("storm"), NULL));
    expect_success(blockdev_del("storm"));
    expect_int(handle_flush(world->disk), 0);
    make_sure(world);
    world->leaks = true;
    return NULL;
}
