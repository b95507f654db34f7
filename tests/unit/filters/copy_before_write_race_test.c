/* The point in time of the filter 'copy-before-write', under load.
 *
 * Writers on all threads, each in a region of its own, before and after the filter comes under them. Readers of the
 * point in time compare with what the first of them has read; at the end that is compared with what each writer had
 * written up to one of its writes. */
#include "tests/unit/drivers/nodes.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/rearrange.h"

#define BYTES (4 * MIB)
#define WRITERS 4
#define READERS 3
#define REGION (BYTES / WRITERS)
#define WRITES_MAX 4000

static struct blockdev_options cbw_options(void)
{
    return with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_COPY_BEFORE_WRITE,
        .node_name = "cbw",
        .u.copy_before_write = { .file = by_name("disk"), .target = by_name("temp") },
    });
}

static struct blockdev_options snapshot_options(void)
{
    return with_discard((struct blockdev_options){ .driver = BLOCKDEV_DRIVER_SNAPSHOT_ACCESS,
                                                   .node_name = "snap",
                                                   .u.snapshot_access = { .file = by_name("cbw") } });
}

static void add_disks(void)
{
    make_file("disk.img", BYTES);
    make_file("temp.img", BYTES);
    add(with_discard(file_options("disk", in_dir("disk.img"))));
    add(with_discard(file_options("temp", in_dir("temp.img"))));
    struct handle *handle = open_handle("disk", READ_WRITE);
    expect_int(put(handle, 0, BYTES, 1), 0);
    handle_close(handle);
}

struct step {
    struct range range;
    int fill; /* 0: zeroes */
};

struct writer {
    unsigned number;
    uint64_t random;
    struct step steps[WRITES_MAX];
    _Atomic unsigned ended;
    unsigned wanted;
};

struct world {
    struct handle *guest;
    struct handle *backup;
    unsigned char *reference;
    struct writer writers[WRITERS];
    _Atomic bool stop;
    _Atomic unsigned running;
    _Atomic unsigned wrong;
    _Atomic unsigned reads;
};

static struct world *world;

static uint64_t draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void write_step(struct writer *writer)
{
    struct step *step = &writer->steps[writer->ended];
    uint64_t bytes = 1 + draw(&writer->random) % (draw(&writer->random) % 8 ? 8192 : 200000);
    uint64_t offset = draw(&writer->random) % (REGION - bytes);
    step->range = range_make(writer->number * REGION + offset, bytes);
    step->fill = (int)(draw(&writer->random) % 256);
    int ret;
    if (step->fill == 0)
        ret = handle_pwrite_zeroes(world->guest, step->range, REQ_MAY_UNMAP);
    else
        ret = put(world->guest, step->range.offset, step->range.bytes, step->fill);
    expect_int(ret, 0);
    writer->ended++;
}

static void writer_entry(void *arg)
{
    struct writer *writer = arg;
    while (!world->stop && writer->ended < WRITES_MAX) {
        write_step(writer);
        co_yield ();
    }
    world->running--;
}

static void reader_entry(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg;
    char *data = malloc(256 * KIB);
    expect(data);
    while (!world->stop) {
        uint64_t bytes = 1 + draw(&random) % (256 * KIB - 1);
        uint64_t offset = draw(&random) % (BYTES - bytes);
        expect_int(get_bytes(world->backup, offset, data, bytes), 0);
        if (memcmp(data, world->reference + offset, bytes) != 0)
            world->wrong++;
        world->reads++;
        co_yield ();
    }
    free(data);
    world->running--;
}

static unsigned writes_ended(void)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < WRITERS; i++)
        sum += world->writers[i].ended;
    return sum;
}

static void wait_for_writes(unsigned more)
{
    unsigned end = writes_ended() + more;
    bool full = false;
    while (writes_ended() < end && !full) {
        co_yield ();
        for (unsigned i = 0; i < WRITERS; i++)
            full = full || world->writers[i].ended == WRITES_MAX;
    }
}

/* Is the region as the writer had left it after one of so many writes, @first to @last + 1? The last one may have
 * ended, before the moment, but not have been counted yet. */
static bool is_a_moment(const struct writer *writer, unsigned first, unsigned last)
{
    unsigned char *model = malloc(BYTES);
    expect(model);
    memset(model, 1, BYTES);
    uint64_t at = writer->number * REGION;
    bool found = false;
    for (unsigned i = 0; i <= last + 1 && !found; i++) {
        if (i >= first)
            found = memcmp(model + at, world->reference + at, REGION) == 0;
        expect(i < WRITES_MAX);
        memset(model + writer->steps[i].range.offset, writer->steps[i].fill, writer->steps[i].range.bytes);
    }
    free(model);
    return found;
}

static void run_world(uint64_t seed)
{
    unsigned before[WRITERS];
    unsigned after[WRITERS];
    world = calloc(1, sizeof(*world));
    expect(world);
    world->reference = malloc(BYTES);
    expect(world->reference);
    add_disks();
    world->guest = open_handle("disk", READ_WRITE);
    for (unsigned i = 0; i < WRITERS; i++) {
        world->writers[i].number = i;
        world->writers[i].random = seed * 7919 + i + 1;
        world->running++;
        co_start_on(loop_io(i % 2), "writer", writer_entry, &world->writers[i]);
    }
    wait_for_writes(200);

    add(cbw_options());
    for (unsigned i = 0; i < WRITERS; i++)
        before[i] = world->writers[i].ended;
    expect_success(filter_insert(node_find("disk"), node_find("cbw"), NULL));
    for (unsigned i = 0; i < WRITERS; i++)
        after[i] = world->writers[i].ended;
    expect(handle_node(world->guest) == node_find("cbw"));

    add(snapshot_options());
    world->backup = open_handle("snap", READ_WRITE);
    expect_int(get_bytes(world->backup, 0, world->reference, BYTES), 0);
    for (unsigned i = 0; i < READERS; i++) {
        world->running++;
        co_start_on(loop_io(i % 2), "reader", reader_entry, (void *)(uintptr_t)(seed * 104729 + i + 1));
    }
    wait_for_writes(800);
    world->stop = true;
    while (world->running > 0)
        co_yield ();
    expect_int(world->wrong, 0);
    expect(world->reads > 0);
    for (unsigned i = 0; i < WRITERS; i++)
        expect(is_a_moment(&world->writers[i], before[i], after[i]));
    handle_close(world->backup);
    expect_success(blockdev_del("snap"));
    expect_success(filter_remove(node_find("cbw"), NULL));
    expect(handle_node(world->guest) == node_find("disk"));
    expect_success(blockdev_del("cbw"));
    handle_close(world->guest);
    free(world->reference);
    free(world);
}

NODE_TEST(the_point_in_time_is_exact_under_writes_of_all_threads)
{
    const char *seed = getenv("CAIRN_TEST_SEED");
    const char *rounds = getenv("CAIRN_TEST_ROUNDS");
    uint64_t first = seed ? strtoull(seed, NULL, 0) : 1;
    uint64_t count = rounds ? strtoull(rounds, NULL, 0) : 5;
    for (uint64_t i = first; i < first + count; i++) {
        print_message("seed %llu\n", (unsigned long long)i);
        run_world(i);
        blockdev_del_all();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_point_in_time_is_exact_under_writes_of_all_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
