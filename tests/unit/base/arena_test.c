#include "blockcore/base/arena.h"

#include "tests/unit/base/unit.h"

static void pieces_are_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    struct arena arena;
    char *pieces[1000];
    uint64_t random = 1;
    arena_init(&arena, SIZE_MAX);
    for (size_t i = 0; i < 1000; i++) {
        size_t bytes = 1 + next_random(&random) % 3000;
        pieces[i] = arena_try_alloc(&arena, bytes);
        assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
        for (size_t j = 0; j < bytes; j++)
            assert_int_equal(pieces[i][j], 0);
        memset(pieces[i], 1 + (int)(i % 100), bytes);
    }
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(pieces[i][0], 1 + i % 100);
    arena_fini(&arena);
}

static void the_limit_counts_what_clients_make_large(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 100);
    assert_non_null(arena_try_alloc(&arena, 60));
    assert_null(arena_try_alloc(&arena, 41));
    assert_non_null(arena_try_alloc(&arena, 40));
    assert_null(arena_try_alloc(&arena, 1));
    assert_null(arena_try_strndup(&arena, "", 0));
    /* Our own bookkeeping does not count. */
    assert_non_null(arena_alloc(&arena, 1000));
    arena_fini(&arena);
    assert_non_null(arena_try_alloc(&arena, 100));
    arena_fini(&arena);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    assert_null(arena_try_array(&arena, SIZE_MAX / 2, 4));
    assert_null(arena_try_alloc(&arena, SIZE_MAX));
    assert_null(arena_try_strndup(&arena, "", SIZE_MAX));
    assert_non_null(arena_try_array(&arena, 0, 8));
    arena_fini(&arena);
}

static void strings_are_copied_and_formatted(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    assert_string_equal(arena_strdup(&arena, "abc"), "abc");
    assert_string_equal(arena_strndup(&arena, "abc", 2), "ab");
    assert_string_equal(arena_printf(&arena, "%s-%d", "x", 7), "x-7");
    assert_string_equal(arena_printf(&arena, "%5000s|", "x") + 4999, "x|");
    arena_fini(&arena);
}

static void a_large_piece_leaves_the_chunk_in_use(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    char *before = arena_alloc(&arena, 16);
    arena_alloc(&arena, 10 << 20);
    char *behind = arena_alloc(&arena, 16);
    assert_ptr_equal(behind, before + 16);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_zeroed_aligned_and_apart),
        cmocka_unit_test(the_limit_counts_what_clients_make_large),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(strings_are_copied_and_formatted),
        cmocka_unit_test(a_large_piece_leaves_the_chunk_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
