/* Random graphs of all drivers under random requests and changes: after each step the disk holds what a model holds,
 * and each claim of block status is proven by reading. At the end of each graph qemu-img looks at it.
 *
 * Most graphs lie in memory, some on a disk.
 *
 * CAIRN_TEST_SEED=n: the graph of this seed alone. CAIRN_TEST_SECONDS=n: graphs of new seeds for so long. When
 * something fails, seed, steps and graph are printed; the seed shows it again, unless it takes two threads. */
#include "tests/unit/property/world.h"

#include <time.h>

#define STEPS 60
#define GRAPHS 40

static uint64_t seed_now;
static unsigned steps_done;

static void run_graph(const char *dir)
{
    struct world *world = xcalloc(1, sizeof(*world));
    world->seed = seed_now;
    history_begin(world);
    world_prepare(world, dir);
    world_begin(world, make_bottom(world));
    for (int i = 0; i < STEPS; i++) {
        if (chance(world, 4))
            do_change(world);
        else
            do_request(world);
        check_content(world);
        prove_status(world);
        steps_done++;
    }
    world_end(world);
    history_begin(NULL);
    free(world);
}

static void graph_body(void)
{
    run_graph(test_dir);
}

static void one_graph(void *unused)
{
    (void)unused;
    with_directory(graph_body);
}

static uint64_t number_from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void random_graphs_keep_their_word(void **state)
{
    (void)state;
    bool one = getenv("CAIRN_TEST_SEED") != NULL;
    uint64_t seconds = number_from_environment("CAIRN_TEST_SECONDS", 0);
    time_t end = time(NULL) + (time_t)seconds;
    setvbuf(stdout, NULL, _IONBF, 0);
    uint64_t first = number_from_environment("CAIRN_TEST_SEED", seconds ? (uint64_t)time(NULL) * 1000 : 1);
    print_message("seeds from %llu on\n", (unsigned long long)first);
    bool place_given = getenv("CAIRN_TEST_DIR") != NULL;
    for (seed_now = first;; seed_now++) {
        if (!place_given)
            setenv("CAIRN_TEST_DIR", seed_now % 5 && access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 1);
        run_as_coroutine("random graph", one_graph);
        if (one || (seconds ? time(NULL) >= end : seed_now - first + 1 >= GRAPHS))
            break;
    }
    print_message("%llu graphs, %u steps\n", (unsigned long long)(seed_now - first + 1), steps_done);
    for (unsigned i = 0; i < change_tally_count; i++)
        print_message("%6u %6u refused   %s\n", change_tallies[i].done, change_tallies[i].refused,
                      change_tallies[i].name);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_graphs_keep_their_word) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
