/* An error at every event of blkdebug, for every kind of request, once and for a while, on images of all shapes.
 *
 *     disk --[overlay]--> image (qcow2) --file--> errors (blkdebug) --> file
 *
 * Who asked is told of the error; what was to change may be old or new, all else is as it was; when the errors are over
 * everything works, and qemu-img finds nothing wrong but lost clusters. */
#include "tests/unit/property/world.h"

#include <errno.h>

#define REQUESTS 8
#define ALL_SHAPES 4 /* images, each of its own seed */
#ifdef __SANITIZE_THREAD__
#define SHAPES 1 /* each takes ten times as long, with the same threads as the others */
#else
#define SHAPES ALL_SHAPES
#endif

static enum blkdebug_event event_now;
static unsigned shape_now;
static unsigned failures;

static struct part *make_disk(struct world *world)
{
    struct part *base = make_file_part(world, 200 * KIB);
    struct part *image = NULL;
    while (!image)
        image = make_image(world, NULL, 256 * KIB, shape_now % 2 == 0);
    if (shape_now % 2 == 0)
        image->backing = base;
    image->small_caches = true; /* what a cache keeps is not loaded */
    return image;
}

static void errors_of_all_kinds(struct world *world, const struct part *file)
{
    for (int kind = -1; kind <= BLKDEBUG_IO_TYPE_FLUSH; kind++)
        for (int once = 0; once < 2; once++) {
            struct blkdebug_inject_error_options rule = {
                .event = event_now,
                .has_errno = true,
                .errno_ = kind % 2 ? EIO : ENOSPC,
                .has_once = true,
                .once = once,
                .has_iotype = kind >= 0,
                .iotype = kind >= 0 ? (enum blkdebug_io_type)kind : BLKDEBUG_IO_TYPE_READ,
            };
            expect_success(storm_at(world, file, &rule, 1, REQUESTS));
            for (int i = 0; i < 3; i++)
                do_request(world);
            check_content(world);
        }
}

static void errors_at_event(void)
{
    struct world *world = xcalloc(1, sizeof(*world));
    world->seed = shape_now * 1000 + (unsigned)event_now;
    history_begin(world);
    world_prepare(world, test_dir);
    world_begin(world, make_disk(world));
    errors_of_all_kinds(world, world->top->below[0]);
    failures += world->failures;
    world_end(world);
    history_begin(NULL);
    free(world);
}

static void one_world(void *unused)
{
    (void)unused;
    with_directory(errors_at_event);
}

/* What nobody here is told of, or only at times: what qcow2 never does, and what it does with larger disks only
 * (qcow2_errors_test), or without I/O that could fail. */
static bool is_told(enum blkdebug_event event)
{
    static const enum blkdebug_event others[] = {
        BLKDEBUG_EVENT_VMSTATE_LOAD,
        BLKDEBUG_EVENT_VMSTATE_SAVE,
        BLKDEBUG_EVENT_EMPTY_IMAGE_PREPARE,
        BLKDEBUG_EVENT_L1_SHRINK_WRITE_TABLE,
        BLKDEBUG_EVENT_L1_SHRINK_FREE_L2_CLUSTERS,
        BLKDEBUG_EVENT_L1_GROW_ALLOC_TABLE,
        BLKDEBUG_EVENT_COR_WRITE,
        BLKDEBUG_EVENT_CLUSTER_ALLOC_SPACE,
        BLKDEBUG_EVENT_REFBLOCK_UPDATE,
        BLKDEBUG_EVENT_REFTABLE_LOAD,
        BLKDEBUG_EVENT_REFTABLE_GROW,
        BLKDEBUG_EVENT_REFTABLE_UPDATE,
        BLKDEBUG_EVENT_REFBLOCK_ALLOC_HOOKUP,
        BLKDEBUG_EVENT_REFBLOCK_ALLOC_WRITE,
        BLKDEBUG_EVENT_REFBLOCK_ALLOC_WRITE_BLOCKS,
        BLKDEBUG_EVENT_REFBLOCK_ALLOC_WRITE_TABLE,
        BLKDEBUG_EVENT_REFBLOCK_ALLOC_SWITCH_TABLE,
    };
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        if (others[i] == event)
            return false;
    return true;
}

static void errors_at_every_event(void **state)
{
    (void)state;
    const char *seed = getenv("CAIRN_TEST_SEED");
    if (seed) {
        shape_now = (unsigned)atoi(seed) / 1000;
        event_now = (enum blkdebug_event)(atoi(seed) % 1000);
        run_as_coroutine("errors", one_world);
        return;
    }
    for (event_now = 0; event_now <= BLKDEBUG_EVENT_NONE; event_now++) {
        failures = 0;
        for (shape_now = 0; shape_now < SHAPES; shape_now++)
            run_as_coroutine("errors", one_world);
        if (failures == 0 && SHAPES == ALL_SHAPES && is_told(event_now))
            fail_msg("no request met an error at '%s'", blkdebug_event_name(event_now));
    }
}

int main(void)
{
    if (!getenv("CAIRN_TEST_DIR") && access("/dev/shm", W_OK) == 0)
        setenv("CAIRN_TEST_DIR", "/dev/shm", 1);
    const struct CMUnitTest tests[] = { cmocka_unit_test(errors_at_every_event) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
