#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/sanitizer.h"

#include "tests/unit/runtime/co_test.h"

#include <stdio.h>

CO_TEST(buffers_are_aligned_and_writable)
{
    static const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 65536, BUFFER_CACHED_MAX, BUFFER_CACHED_MAX + 1 };
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            char *buffer = buffer_get(sizes[i]);
            expect(buffer);
            expect_int((uintptr_t)buffer % BUFFER_ALIGNMENT, 0);
            memset(buffer, 0xa5, sizes[i]);
            buffer_put(buffer, sizes[i]);
        }
    }
    buffer_put(NULL, 4096);
}

CO_TEST(what_was_put_back_is_used_again)
{
    void *first = buffer_get(5000);
    buffer_put(first, 5000);
    void *again = buffer_get(8192); /* the same class */
    expect(again == first);
    void *other = buffer_get(8192);
    expect(other != first);
    buffer_put(again, 8192);
    buffer_put(other, 8192);
}

CO_TEST(an_impossible_size_is_an_error_not_the_end)
{
    expect(buffer_get(SIZE_MAX) == NULL);
    expect(buffer_get(SIZE_MAX / 2) == NULL);
}

/* Of the heap, and of mappings for data. AddressSanitizer keeps what was freed for a while: nothing is told of it. */
static size_t memory_bytes(void)
{
#ifdef WITH_ASAN
    return 0;
#endif
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    expect(file && fscanf(file, "%*u %*u %*u %*u %*u %lu", &pages) == 1);
    fclose(file);
    return pages * 4096;
}

/* More than a loop keeps: the rest goes back to the system. */
CO_TEST(a_loop_keeps_a_bounded_amount)
{
    enum { COUNT = 2 * BUFFER_CACHE_BYTES / BUFFER_CACHED_MAX };
    static void *buffers[COUNT];
    size_t before = memory_bytes();
    for (int i = 0; i < COUNT; i++)
        buffers[i] = buffer_get(BUFFER_CACHED_MAX);
    for (int i = 0; i < COUNT; i++)
        buffer_put(buffers[i], BUFFER_CACHED_MAX);
    expect(memory_bytes() <= before + BUFFER_CACHE_BYTES + BUFFER_CACHED_MAX);
}

static int put(void *buffer)
{
    buffer_put(buffer, 4096);
    void *again = buffer_get(4096);
    expect(again == buffer);
    buffer_put(again, 4096);
    return 0;
}

CO_TEST(a_buffer_may_be_put_back_on_another_loop)
{
    co_call_on(loop_io(0), "put", put, buffer_get(4096));
}

static void without_a_loop_nothing_is_kept(void **state)
{
    (void)state;
    void *buffer = buffer_get(4096);
    assert_non_null(buffer);
    buffer_put(buffer, 4096);
}

#define BURST 24 /* MiB */

/* What was needed once and is not any more is given back, but for a few MiB. */
CO_TEST(buffers_of_a_burst_are_given_back)
{
    static char *buffers[BURST];
    size_t before = memory_bytes();
    for (unsigned i = 0; i < BURST; i++)
        buffers[i] = buffer_get(1 << 20);
    for (unsigned i = 0; i < BURST; i++)
        buffer_put(buffers[i], 1 << 20);
    while (memory_bytes() > before + (6 << 20))
        co_sleep_ms(50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_are_aligned_and_writable),           cmocka_unit_test(what_was_put_back_is_used_again),
        cmocka_unit_test(an_impossible_size_is_an_error_not_the_end), cmocka_unit_test(a_loop_keeps_a_bounded_amount),
        cmocka_unit_test(a_buffer_may_be_put_back_on_another_loop),   cmocka_unit_test(without_a_loop_nothing_is_kept),
        cmocka_unit_test(buffers_of_a_burst_are_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
