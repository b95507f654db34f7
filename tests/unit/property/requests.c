/* Requests against the model, one after the other, or from several loops while something else happens. */
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
    bool alone; /* no other writers: all of the disk may be looked at */
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

static void write_some(struct writer *writer, struct range range, unsigned flags)
{
    struct iovec storage;
    struct iov iov = iov_of(&storage, writer->world->bytes + range.offset, range.bytes);
    say(writer, flags & REQ_FUA ? "write through" : "write", range);
    fill(writer, range);
    expect_int(handle_pwritev(writer->world->disk, range, &iov, flags), 0);
}

static void read_some(struct writer *writer, struct range range)
{
    unsigned char *data = xmalloc(range.bytes);
    say(writer, "read", range);
    expect_int(get_bytes(writer->world->disk, range.offset, data, range.bytes), 0);
    for (uint64_t i = 0; i < range.bytes; i++)
        if (data[i] != writer->world->bytes[range.offset + i]) {
            print_error("byte %llu is 0x%02x, not 0x%02x\n", (unsigned long long)(range.offset + i), data[i],
                        writer->world->bytes[range.offset + i]);
            abort();
        }
    free(data);
}

static void write_zeroes(struct writer *writer, struct range range)
{
    static const unsigned kinds[] = { 0, REQ_MAY_UNMAP, REQ_FUA, REQ_NO_FALLBACK, REQ_NO_FALLBACK | REQ_MAY_UNMAP };
    unsigned flags = kinds[pick(writer, ARRAY_SIZE(kinds))];
    say(writer,
        flags & REQ_NO_FALLBACK ? "zero quickly or not at all"
        : flags & REQ_MAY_UNMAP ? "unmap"
                                : "zero",
        range);
    int ret = handle_pwrite_zeroes(writer->world->disk, range, flags);
    if (ret == -ENOTSUP && flags & REQ_NO_FALLBACK) /* a part may be zero already */
        ret = handle_pwrite_zeroes(writer->world->disk, range, 0);
    expect_int(ret, 0);
    memset(writer->world->bytes + range.offset, 0, range.bytes);
}

/* Afterwards each byte is zero or what it was. */
static void discard(struct writer *writer, struct range range)
{
    unsigned char *model = writer->world->bytes + range.offset;
    unsigned char *data = xmalloc(range.bytes);
    say(writer, "discard", range);
    expect_int(handle_pdiscard(writer->world->disk, range), 0);
    expect_int(get_bytes(writer->world->disk, range.offset, data, range.bytes), 0);
    for (size_t i = 0; i < range.bytes; i++)
        expect(data[i] == 0 || data[i] == model[i]);
    memcpy(model, data, range.bytes);
    free(data);
}

/* Whole clusters of a disk that can. */
static void write_compressed(struct writer *writer, struct range range)
{
    struct world *world = writer->world;
    if (!writer->alone || !node_can_compress(handle_node(world->disk)))
        return;
    uint64_t cluster = max_u64(node_limits(handle_node(world->disk))->optimal_transfer, 1);
    range = range_align_out(range, cluster);
    range.bytes = min_u64(range.bytes, world->length - range.offset);
    say(writer, "write compressed", range);
    unsigned char *before = xmalloc(range.bytes);
    memcpy(before, world->bytes + range.offset, range.bytes);
    fill(writer, range);
    struct iovec storage;
    struct iov iov = iov_of(&storage, world->bytes + range.offset, range.bytes);
    int ret = handle_pwritev(world->disk, range, &iov, REQ_COMPRESSED);
    if (ret == -ENOTSUP || ret == -EINVAL) /* a window that does not begin at a cluster */
        memcpy(world->bytes + range.offset, before, range.bytes);
    else
        expect_int(ret, 0);
    free(before);
}

static void ask_status(struct writer *writer, struct range range)
{
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 1 + pick(writer, 50));
    expect_int(handle_block_status(writer->world->disk, range, 1 + (unsigned)pick(writer, 7), NULL, false, &extents),
               0);
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
        expect_int(handle_flush(writer->world->disk), 0);
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

void do_request(struct world *world)
{
    struct writer writer = {
        .world = world,
        .own = range_make(0, world->length),
        .random = choose(world, UINT64_MAX >> 24),
        .alone = true,
    };
    request(&writer);
}

void check_content(struct world *world)
{
    struct writer writer = { .world = world, .own = range_make(0, world->length) };
    expect_int(node_length(handle_node(world->disk)), world->length);
    read_some(&writer, writer.own);
}

static void writer_run(void *arg)
{
    struct writer *writer = arg;
    for (int i = 0; i < WORKER_REQUESTS && (i < 3 || !atomic_load(writer->stop)); i++)
        request(writer);
    co_event_set(&writer->done);
}

void with_requests(struct world *world, void (*change)(struct world *world))
{
    struct writer writers[WORKERS];
    _Atomic bool stop = false;
    unsigned count = world->length < WORKERS ? 0 : WORKERS;
    uint64_t share = world->length / WORKERS;
    for (unsigned i = 0; i < count; i++) {
        writers[i] = (struct writer){
            .world = world,
            .own = i == count - 1 ? range_between(i * share, world->length) : range_make(i * share, share),
            .random = choose(world, UINT64_MAX >> 24),
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
