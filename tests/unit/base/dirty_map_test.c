/* A map of dirty bits against a plain array. CAIRN_TEST_SEED chooses the steps. */
#include "blockcore/base/dirty_map.h"

#include "tests/unit/base/unit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BITS_MAX 20000

static uint64_t state_of_random = 7;

static uint64_t random_below(uint64_t limit)
{
    state_of_random = state_of_random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state_of_random >> 24) % limit;
}

static uint64_t model_next(const uint8_t *model, uint64_t count, uint64_t from, uint8_t wanted)
{
    while (from < count && model[from] != wanted)
        from++;
    return from;
}

static void expect_same(const struct dirty_map *map, const uint8_t *model, uint64_t count)
{
    uint64_t set = 0;
    for (uint64_t i = 0; i < count; i++)
        set += model[i];
    assert_int_equal(dirty_map_set_count(map), set);
    for (uint64_t at = 0; at < count; at += 1 + random_below(50)) {
        assert_int_equal(dirty_map_next_set(map, at), model_next(model, count, at, 1));
        assert_int_equal(dirty_map_next_clear(map, at), model_next(model, count, at, 0));
    }
    uint8_t bytes[BITS_MAX / 8 + 8];
    dirty_map_read(map, 0, bytes, sizeof(bytes));
    for (uint64_t i = 0; i < 8 * sizeof(bytes); i++)
        assert_int_equal(bytes[i / 8] >> i % 8 & 1, i < count && model[i]);
}

static struct range random_bits(uint64_t count)
{
    uint64_t first = random_below(count + 1);
    uint64_t most = random_below(4) ? 100 : count;
    return range_make(first, min_u64(random_below(most + 1), count - first));
}

/* Another length, in steps that reach over words and levels; what is added is clear. */
static uint64_t resize(struct dirty_map *map, uint8_t *model, uint64_t count)
{
    uint64_t to = random_below(3) ? min_u64(count + random_below(600), BITS_MAX) : random_below(BITS_MAX);
    assert_true(dirty_map_resize(map, to));
    if (to > count)
        memset(model + count, 0, to - count);
    return to;
}

static void add_some(struct dirty_map *map, uint8_t *model, uint64_t count)
{
    uint8_t bytes[40];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(random_below(3) ? random_below(256) : 255);
    uint64_t first = random_below(BITS_MAX / 64) * 8;
    dirty_map_add(map, first, bytes, sizeof(bytes));
    for (uint64_t i = 0; i < 8 * sizeof(bytes) && first * 8 + i < count; i++)
        model[first * 8 + i] |= bytes[i / 8] >> i % 8 & 1;
}

static void it_is_what_a_plain_array_is(void **unused)
{
    (void)unused;
    const char *seed = getenv("CAIRN_TEST_SEED");
    state_of_random = seed ? strtoull(seed, NULL, 0) : 7;
    static uint8_t model[BITS_MAX];
    struct dirty_map map;
    uint64_t count = 5000;
    assert_true(dirty_map_init(&map, count));
    for (int step = 0; step < 3000; step++) {
        struct range bits = random_bits(count);
        uint64_t what = random_below(20);
        if (what < 10)
            dirty_map_set(&map, bits);
        else if (what < 17)
            dirty_map_clear(&map, bits);
        else if (what < 19)
            add_some(&map, model, count);
        else
            count = resize(&map, model, count);
        if (what < 17)
            memset(model + bits.offset, what < 10, bits.bytes);
        expect_same(&map, model, count);
    }
    dirty_map_fini(&map);
}

static void an_empty_map_has_nothing(void **unused)
{
    (void)unused;
    struct dirty_map map;
    assert_true(dirty_map_init(&map, 0));
    assert_int_equal(dirty_map_next_set(&map, 0), 0);
    assert_int_equal(dirty_map_next_clear(&map, 0), 0);
    assert_true(dirty_map_resize(&map, 1000000));
    assert_int_equal(dirty_map_next_set(&map, 0), 1000000);
    dirty_map_fini(&map);
}

static void what_no_machine_has_memory_for_is_refused(void **unused)
{
    (void)unused;
    struct dirty_map map;
    assert_false(dirty_map_init(&map, UINT64_MAX));
    assert_true(dirty_map_init(&map, 100));
    dirty_map_set(&map, range_make(99, 1));
    assert_false(dirty_map_resize(&map, UINT64_MAX / 2));
    assert_int_equal(dirty_map_next_set(&map, 0), 99);
    dirty_map_fini(&map);
}

/* Four threads, each with its own bits of every word: none is lost, at any level. */
static struct dirty_map shared;

static void *set_every_fourth(void *arg)
{
    uint64_t first = (uint64_t)(uintptr_t)arg;
    for (uint64_t bit = first; bit < shared.count; bit += 4) {
        dirty_map_set(&shared, range_make(bit, 1));
        assert_int_equal(dirty_map_next_set(&shared, bit), bit);
    }
    return NULL;
}

static void threads_that_set_lose_nothing(void **unused)
{
    (void)unused;
    pthread_t threads[4];
    assert_true(dirty_map_init(&shared, 64 * 64 * 64));
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, set_every_fourth, (void *)i), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(dirty_map_set_count(&shared), shared.count);
    assert_int_equal(dirty_map_next_clear(&shared, 0), shared.count);
    for (unsigned level = 0; level < shared.levels; level++)
        assert_int_equal(shared.all[level][0], UINT64_MAX >> (level == 3 ? 63 : 0));
    dirty_map_fini(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_what_a_plain_array_is),
        cmocka_unit_test(an_empty_map_has_nothing),
        cmocka_unit_test(what_no_machine_has_memory_for_is_refused),
        cmocka_unit_test(threads_that_set_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
