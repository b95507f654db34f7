/* Blocks of slabs: everybody's own, aligned, and the system's again afterwards. */
#include "blockcore/runtime/slab.h"

#include "blockcore/base/annotations.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BLOCKS 600 /* of each class: several slabs */

static size_t block_bytes(unsigned class)
{
    return (size_t)4096 << class;
}

/* All of @block carries the mark. */
static void mark(void *block, unsigned class, unsigned mark)
{
    memset(block, (int)(mark % 251), block_bytes(class));
}

static bool is_marked(const unsigned char *block, unsigned class, unsigned mark)
{
    return block[0] == mark % 251 && memcmp(block, block + 1, block_bytes(class) - 1) == 0;
}

static void blocks_do_not_overlap_and_are_aligned_to_their_size(void **state)
{
    (void)state;
    static void *blocks[SLAB_CLASSES][BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) {
        for (unsigned class = 0; class < SLAB_CLASSES; class ++) {
            blocks[class][i] = slab_take(class);
            assert_non_null(blocks[class][i]);
            assert_int_equal((uintptr_t)blocks[class][i] % block_bytes(class), 0);
            mark(blocks[class][i], class, i * SLAB_CLASSES + class);
        }
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        for (unsigned class = 0; class < SLAB_CLASSES; class ++) {
            assert_true(is_marked(blocks[class][i], class, i * SLAB_CLASSES + class));
            slab_give(blocks[class][i], class);
        }
    }
}

static void what_was_given_back_is_taken_again(void **state)
{
    (void)state;
    static void *blocks[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++)
        blocks[i] = slab_take(0);
    void *freed = blocks[300];
    slab_give(freed, 0);
    blocks[300] = slab_take(0);
    assert_ptr_equal(blocks[300], freed);
    for (unsigned i = 0; i < BLOCKS; i++)
        slab_give(blocks[i], 0);
}

static size_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_true(file && fscanf(file, "%*u %lu", &pages) == 1);
    fclose(file);
    return pages * 4096;
}

/* Also where one of its neighbours stays. */
static void pages_of_a_block_are_the_systems_when_it_is_given_back(void **state)
{
    (void)state;
    enum { COUNT = 32 * 1024 * 1024 / 4096 };
    void **blocks = calloc(COUNT, sizeof(*blocks));
    assert_non_null(blocks);
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = slab_take(0);
        mark(blocks[i], 0, i);
    }
    size_t all = resident_bytes();
    for (unsigned i = 0; i < COUNT; i++) {
        if (i % 64 != 0)
            slab_give(blocks[i], 0);
    }
    assert_true(resident_bytes() < all - 28 * 1024 * 1024);
    for (unsigned i = 0; i < COUNT; i += 64) {
        assert_true(is_marked(blocks[i], 0, i));
        slab_give(blocks[i], 0);
    }
    free(blocks);
}

/* Threads take and give at random, each in its own places, and nobody writes to what is another's. */
static void *work(void *arg)
{
    unsigned seed = *(unsigned *)arg;
    struct {
        void *block;
        unsigned class, mark;
    } own[100] = { 0 };
    uintptr_t wrong = 0;
    for (unsigned i = 0; i < 20000; i++) {
        unsigned at = (unsigned)rand_r(&seed) % ARRAY_SIZE(own);
        if (own[at].block) {
            wrong += !is_marked(own[at].block, own[at].class, own[at].mark);
            slab_give(own[at].block, own[at].class);
            own[at].block = NULL;
            continue;
        }
        own[at].class = (unsigned)rand_r(&seed) % SLAB_CLASSES;
        own[at].mark = (unsigned)rand_r(&seed);
        own[at].block = slab_take(own[at].class);
        mark(own[at].block, own[at].class, own[at].mark);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(own); i++) {
        if (own[i].block)
            slab_give(own[i].block, own[i].class);
    }
    return (void *)wrong;
}

static void threads_share_slabs(void **state)
{
    (void)state;
    pthread_t threads[4];
    unsigned seeds[ARRAY_SIZE(threads)];
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        seeds[i] = i + 1;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &seeds[i]), 0);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_do_not_overlap_and_are_aligned_to_their_size),
        cmocka_unit_test(what_was_given_back_is_taken_again),
        cmocka_unit_test(pages_of_a_block_are_the_systems_when_it_is_given_back),
        cmocka_unit_test(threads_share_slabs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
