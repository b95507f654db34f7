#include "blockcore/base/memory.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/endian.h"
#include "tests/unit/base/unit.h"

static void sizes_from_outside_can_fail(void **state)
{
    (void)state;
    assert_null(try_calloc(SIZE_MAX / 2, 4));
    assert_null(try_aligned_alloc(4096, SIZE_MAX / 2));
    CLEANUP(free) char *zeroes = try_calloc(100, 3);
    for (int i = 0; i < 300; i++)
        assert_int_equal(zeroes[i], 0);
}

static void an_empty_allocation_is_still_one(void **state)
{
    (void)state;
    CLEANUP(free) void *a = xmalloc(0);
    CLEANUP(free) void *b = xcalloc(0, 8);
    CLEANUP(free) void *c = try_calloc(0, 0);
    CLEANUP(free) void *d = try_aligned_alloc(64, 0);
    CLEANUP(free) void *e = xrealloc_array(NULL, 0, 8);
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    assert_non_null(d);
    assert_non_null(e);
}

static void aligned_memory_is_aligned(void **state)
{
    (void)state;
    for (size_t alignment = sizeof(void *); alignment <= 65536; alignment *= 2) {
        CLEANUP(free) void *p = try_aligned_alloc(alignment, 100);
        assert_int_equal((uintptr_t)p % alignment, 0);
    }
}

static void strings(void **state)
{
    (void)state;
    CLEANUP(free) char *cut = xstrndup("abcdef", 3);
    CLEANUP(free) char *text = xasprintf("%s-%d", cut, 7);
    CLEANUP(free) char *copy = xstrdup(text);
    assert_string_equal(copy, "abc-7");
    assert_null(xstrdup_or_null(NULL));
    CLEANUP(free) char *other = xstrdup_or_null("x");
    assert_string_equal(other, "x");
}

static void big_endian_at_any_alignment(void **state)
{
    (void)state;
    unsigned char bytes[9] = { 0 };
    store_be64(bytes + 1, 0x0102030405060708u);
    assert_memory_equal(bytes, "\0\1\2\3\4\5\6\7\10", 9);
    assert_int_equal(load_be64(bytes + 1), 0x0102030405060708u);
    assert_int_equal(load_be32(bytes + 3), 0x03040506u);
    assert_int_equal(load_be16(bytes + 2), 0x0203u);
    store_be32(bytes, 0xfffefdfcu);
    store_be16(bytes + 4, 0xfbfau);
    assert_memory_equal(bytes, "\xff\xfe\xfd\xfc\xfb\xfa", 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_from_outside_can_fail), cmocka_unit_test(an_empty_allocation_is_still_one),
        cmocka_unit_test(aligned_memory_is_aligned),   cmocka_unit_test(strings),
        cmocka_unit_test(big_endian_at_any_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
