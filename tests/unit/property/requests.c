/* Requests against the model, one after the other, or from several loops while something else happens.
 *
 * Where requests may fail, the model is not sure of what they were to change: then it knows for each byte which values
 * it may have. */
#include "tests/unit/property/world.h"

#include "blockcore/base/range.h"

#include <stdatomic.h>

#define WORKERS 4
#define WORKER_REQUESTS 25

/* Somebody who owns a part of the disk: its requests stay in there, and so does what the model learns of them. */
struct writer {
    struct world *world;
    struct range own;
    uint64_t random;
    bool alone;       /* no other writers: all of the disk may be looked at */
    uint64_t cluster; /* of compressed writes; 0: the disk does not compress */
    _Atomic bool *stop;
    struct co_event done;
};

static uint64_t pick(struct writer *writer, uint64_t limit)
{
    writer->random = writer->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (writer->random >> 20) % limit;
}

static struct range pick_range(struct writer *writer)
{
    static const uint64_t most[] = { 1, 511, 512, 4096, 5000, 65536, 70000, LENGTH_MAX };
    struct range own = writer->own;
    uint64_t offset = pick(writer, own.bytes);
    uint64_t bytes = 1 + pick(writer, most[pick(writer, ARRAY_SIZE(most))]);
    uint64_t unit = UINT64_C(1) << pick(writer, 14);
    if (pick(writer, 2)) {
        offset = align_down(own.offset + offset, unit);
        offset = offset < own.offset ? 0 : offset - own.offset;
        bytes = align_up(bytes, unit);
    }
    return range_make(own.offset + offset, min_u64(bytes, own.bytes - offset));
}

static void say(struct writer *writer, const char *what, struct range range)
{
    if (writer->alone)
        tell("%s %llu+%llu", what, (unsigned long long)range.offset, (unsigned long long)range.bytes);
}

static void fill(struct writer *writer, struct range range)
{
    unsigned char *bytes = writer->world->bytes + range.offset;
    unsigned kind = (unsigned)pick(writer, 8);
    if (kind == 0)
        memset(bytes, 0, range.bytes);
    else if (kind == 1)
        for (uint64_t i = 0; i < range.bytes; i++)
            bytes[i] = (unsigned char)pick(writer, 256);
    else
        memset(bytes, (int)(1 + pick(writer, 255)), range.bytes);
}

/* What a byte may be ---------------------------------------------------------------------------------------------- */

static void add_value(struct byte_values *values, unsigned char value)
{
    values->bits[value / 64] |= UINT64_C(1) << value % 64;
}

static bool has_value(const struct byte_values *values, unsigned char value)
{
    return values->bits[value / 64] & UINT64_C(1) << value % 64;
}

static bool is_right(const struct world *world, uint64_t at, unsigned char value)
{
    return world->unsure[at] ? has_value(&world->values[at], value) : value == world->bytes[at];
}

static void doubt(struct world *world, uint64_t at, unsigned char before)
{
    if (!world->unsure[at])
        world->values[at] = (struct byte_values){ 0 };
    world->unsure[at] = true;
    add_value(&world->values[at], before);
    add_value(&world->values[at], world->bytes[at]);
}

/* The model has the bytes that were to be there after a request; @before: what it had until then. */
static void note_change(struct world *world, struct range range, const unsigned char *before, bool certain)
{
    for (uint64_t i = 0; i < range.bytes; i++) {
        uint64_t at = range.offset + i;
        if (!certain)
            doubt(world, at, before[i]);
        else
            world->unsure[at] = false;
        if (world->watched)
            add_value(&world->seen[at], world->bytes[at]);
    }
}

/* Of the errors that are injected, none other. */
static void expect_result(struct world *world, int ret)
{
    if (!world->errors || (ret != -EIO && ret != -ENOSPC))
        expect_int(ret, 0);
    atomic_fetch_add(&world->failures, ret < 0);
}

/* Requests -------------------------------------------------------------------------------------------------------- */

/* Other bytes, in the model and on the disk. */
static int write_range(struct writer *writer, struct range range, unsigned flags)
{
    struct iovec storage;
    struct iov iov = iov_of(&storage, writer->world->bytes + range.offset, range.bytes);
    fill(writer, range);
    return handle_pwritev(writer->world->disk, range, &iov, flags);
}

static unsigned char *copy_of(const struct writer *writer, struct range range)
{
    return memcpy(xmalloc(range.bytes), writer->world->bytes + range.offset, range.bytes);
}

static void write_some(struct writer *writer, struct range range, unsigned flags)
{
    CLEANUP(free) unsigned char *before = copy_of(writer, range);
    say(writer, flags & REQ_FUA ? "write through" : "write", range);
    int ret = write_range(writer, range, flags);
    expect_result(writer->world, ret);
    note_change(writer->world, range, before, ret == 0);
}

static void expect_right(const struct world *world, struct range range, const unsigned char *data)
{
    for (uint64_t i = 0; i < range.bytes; i++)
        if (!is_right(world, range.offset + i, data[i])) {
            print_error("byte %llu is 0x%02x, not 0x%02x%s\n", (unsigned long long)(range.offset + i), data[i],
                        world->bytes[range.offset + i], world->unsure[range.offset + i] ? ", or what it was" : "");
            abort();
        }
}

static void read_some(struct writer *writer, struct range range)
{
    CLEANUP(free) unsigned char *data = xmalloc(range.bytes);
    say(writer, "read", range);
    int ret = get_bytes(writer->world->disk, range.offset, data, range.bytes);
    expect_result(writer->world, ret);
    if (ret == 0)
        expect_right(writer->world, range, data);
}

static void write_zeroes(struct writer *writer, struct range range)
{
    static const unsigned kinds[] = { 0, REQ_MAY_UNMAP, REQ_FUA, REQ_NO_FALLBACK, REQ_NO_FALLBACK | REQ_MAY_UNMAP };
    unsigned flags = kinds[pick(writer, ARRAY_SIZE(kinds))];
    CLEANUP(free) unsigned char *before = copy_of(writer, range);
    say(writer,
        flags & REQ_NO_FALLBACK ? "zero quickly or not at all"
        : flags & REQ_MAY_UNMAP ? "unmap"
                                : "zero",
        range);
    int ret = handle_pwrite_zeroes(writer->world->disk, range, flags);
    if (ret == -ENOTSUP && flags & REQ_NO_FALLBACK) /* a part may be zero already */
        ret = handle_pwrite_zeroes(writer->world->disk, range, 0);
    expect_result(writer->world, ret);
    memset(writer->world->bytes + range.offset, 0, range.bytes);
    note_change(writer->world, range, before, ret == 0);
}

/* Afterwards each byte is zero or what it was. */
static void discard(struct writer *writer, struct range range)
{
    struct world *world = writer->world;
    CLEANUP(free) unsigned char *data = xcalloc(1, range.bytes);
    CLEANUP(free) unsigned char *before = copy_of(writer, range);
    say(writer, "discard", range);
    expect_result(world, handle_pdiscard(world->disk, range));
    if (!world->errors) {
        expect_int(get_bytes(world->disk, range.offset, data, range.bytes), 0);
        for (size_t i = 0; i < range.bytes; i++)
            expect(data[i] == 0 || data[i] == before[i]);
    }
    memcpy(world->bytes + range.offset, data, range.bytes);
    note_change(world, range, before, !world->errors);
}

/* Whole clusters of a disk that can. */
static void write_compressed(struct writer *writer, struct range range)
{
    struct world *world = writer->world;
    if (!writer->cluster)
        return;
    uint64_t begin = align_down(range.offset, writer->cluster);
    if (begin < writer->own.offset)
        begin += writer->cluster;
    uint64_t end = align_up(range_end(range), writer->cluster);
    if (end > range_end(writer->own))
        end = writer->alone ? world->length : end - writer->cluster;
    range = range_between(begin, end);
    if (range.bytes == 0)
        return;
    say(writer, "write compressed", range);
    CLEANUP(free) unsigned char *before = copy_of(writer, range);
    int ret = write_range(writer, range, REQ_COMPRESSED);
    if (ret == -ENOTSUP || ret == -EINVAL) { /* a window that does not begin at a cluster */
        memcpy(world->bytes + range.offset, before, range.bytes);
        return;
    }
    expect_result(world, ret);
    note_change(world, range, before, ret == 0);
}

static void ask_status(struct writer *writer, struct range range)
{
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 1 + pick(writer, 50));
    unsigned what = 1 + (unsigned)pick(writer, 7);
    expect_result(writer->world, handle_block_status(writer->world->disk, range, what, NULL, false, &extents));
}

static void request(struct writer *writer)
{
    struct range range = pick_range(writer);
    switch (pick(writer, 16)) {
    case 0:
    case 1:
    case 2:
        write_zeroes(writer, range);
        break;
    case 3:
    case 4:
        discard(writer, range);
        break;
    case 5:
        say(writer, "flush", range_make(0, 0));
        expect_result(writer->world, handle_flush(writer->world->disk));
        break;
    case 6:
    case 7:
        read_some(writer, range);
        break;
    case 8:
    case 9:
        write_compressed(writer, range);
        break;
    case 10:
        ask_status(writer, range);
        break;
    default:
        write_some(writer, range, pick(writer, 8) ? 0 : REQ_FUA);
    }
}

static uint64_t compressed_cluster(const struct world *world)
{
    struct node *node = handle_node(world->disk);
    return node_can_compress(node) ? max_u64(node_limits(node)->optimal_transfer, 1) : 0;
}

void do_request(struct world *world)
{
    struct writer writer = {
        .world = world,
        .own = range_make(0, world->length),
        .random = choose(world, UINT64_MAX >> 24),
        .alone = true,
        .cluster = compressed_cluster(world),
    };
    request(&writer);
}

void check_content(struct world *world)
{
    struct writer writer = { .world = world, .own = range_make(0, world->length) };
    expect_int(node_length(handle_node(world->disk)), world->length);
    read_some(&writer, writer.own);
}

void make_sure(struct world *world)
{
    struct range all = range_make(0, world->length);
    CLEANUP(free) unsigned char *data = xmalloc(world->length);
    expect_int(get_bytes(world->disk, 0, data, world->length), 0);
    expect_right(world, all, data);
    memcpy(world->bytes, data, world->length);
    memset(world->unsure, 0, LENGTH_MAX);
}

void watch_begin(struct world *world)
{
    world->watched = true;
    for (uint64_t at = 0; at < world->length; at++) {
        world->seen[at] = (struct byte_values){ 0 };
        add_value(&world->seen[at], world->bytes[at]);
    }
}

void expect_was(struct world *world, const unsigned char *bytes)
{
    for (uint64_t at = 0; at < world->length; at++)
        if (!has_value(&world->seen[at], bytes[at])) {
            print_error("byte %llu never was 0x%02x\n", (unsigned long long)at, bytes[at]);
            abort();
        }
}

static void writer_run(void *arg)
{
    struct writer *writer = arg;
    for (int i = 0; i < WORKER_REQUESTS && (i < 3 || !atomic_load(writer->stop)); i++)
        request(writer);
    co_event_set(&writer->done);
}

void with_requests(struct world *world, uint64_t length, void (*change)(struct world *world))
{
    struct writer writers[WORKERS];
    _Atomic bool stop = false;
    unsigned count = length < WORKERS ? 0 : WORKERS;
    uint64_t share = length / WORKERS;
    for (unsigned i = 0; i < count; i++) {
        writers[i] = (struct writer){
            .world = world,
            .own = i == count - 1 ? range_between(i * share, length) : range_make(i * share, share),
            .random = choose(world, UINT64_MAX >> 24),
            .cluster = compressed_cluster(world),
            .stop = &stop,
        };
        co_event_init(&writers[i].done);
        co_start_on(loop_io(i % loop_io_count()), "writer", writer_run, &writers[i]);
    }
    for (uint64_t turns = choose(world, 20); turns > 0; turns--)
        co_yield ();
    change(world);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < count; i++)
        co_event_wait(&writers[i].done, "writer");
}
