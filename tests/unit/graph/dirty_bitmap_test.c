/* Dirty bitmaps of nodes: what sets bits, what does not, and that none is lost while everything happens at once. */
#include "tests/unit/support/mem_drivers.h"

#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IN_GRAPH(name)                                                                                                 \
    static void name##_body(void *arg);                                                                                \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        with_runtime(2, name##_body, NULL);                                                                            \
    }                                                                                                                  \
    static void name##_body(void *arg __attribute__((unused)))

static struct handle *open_handle(const char *node)
{
    struct handle *handle;
    expect_success(handle_open(node_find(node), "user", PERM_ALL, PERM_ALL, &handle));
    return handle;
}

static struct dirty_bitmap *add_bitmap(const char *node, const char *name, uint32_t granularity)
{
    struct dirty_bitmap *bitmap;
    expect_success(dirty_bitmap_create(node_find(node), name, granularity, &bitmap));
    return bitmap;
}

static int put(struct handle *handle, uint64_t offset, size_t bytes)
{
    static unsigned char data[65536] = { 1 };
    struct iovec storage;
    struct iov iov = iov_of(&storage, data, bytes);
    return handle_pwritev(handle, range_make(offset, bytes), &iov, 0);
}

/* One character for each granule. */
static void expect_bits(struct dirty_bitmap *bitmap, const char *expected)
{
    char found[200] = "";
    uint64_t granule = dirty_bitmap_granularity(bitmap);
    uint64_t length = dirty_bitmap_length(bitmap);
    for (uint64_t at = 0; at < length; at += granule)
        strcat(found, dirty_bitmap_next_dirty(bitmap, at) == at ? "x" : ".");
    assert_string_equal(found, expected);
    uint64_t count = 0;
    for (const char *c = expected; *c; c++)
        count += *c == 'x' ? granule : 0;
    assert_int_equal(dirty_bitmap_count(bitmap), count);
}

IN_GRAPH(writes_zeroes_and_discards_set_bits)
{
    add_mem("disk", 8192);
    struct handle *handle = open_handle("disk");
    struct dirty_bitmap *bitmap = add_bitmap("disk", "b", 1024);
    assert_int_equal(put(handle, 1023, 2), 0);
    assert_int_equal(handle_pwrite_zeroes(handle, range_make(4096, 1), 0), 0);
    assert_int_equal(handle_pdiscard(handle, range_make(6144, 2048)), 0);
    expect_bits(bitmap, "xx..x.xx");
    char data[16];
    struct iovec storage;
    struct iov iov = iov_of(&storage, data, sizeof(data));
    assert_int_equal(handle_preadv(handle, range_make(2048, 16), &iov), 0);
    expect_bits(bitmap, "xx..x.xx");
    handle_close(handle);
}

IN_GRAPH(a_write_that_fails_may_have_happened_in_part)
{
    add_mem("disk", 4096);
    struct handle *handle = open_handle("disk");
    struct dirty_bitmap *bitmap = add_bitmap("disk", "b", 1024);
    mem_of("disk")->fail_next = -EIO;
    assert_int_equal(put(handle, 0, 10), -EIO);
    expect_bits(bitmap, "x...");
    handle_close(handle);
}

IN_GRAPH(a_bitmap_sees_what_passes_its_own_node)
{
    add_mem("disk", 4096);
    add_filter("above", "disk");
    struct handle *above = open_handle("above");
    struct handle *below = open_handle("disk");
    struct dirty_bitmap *upper = add_bitmap("above", "b", 1024);
    struct dirty_bitmap *lower = add_bitmap("disk", "b", 1024);
    assert_int_equal(put(above, 0, 10), 0);
    assert_int_equal(put(below, 2048, 10), 0);
    assert_int_equal(handle_pdiscard(above, range_make(1024, 10)), 0);
    expect_bits(upper, "xx..");
    expect_bits(lower, "xxx.");
    handle_close(above);
    handle_close(below);
}

IN_GRAPH(only_what_is_enabled_records)
{
    add_mem("disk", 4096);
    struct handle *handle = open_handle("disk");
    struct dirty_bitmap *bitmap = add_bitmap("disk", "b", 1024);
    dirty_bitmap_set_enabled(bitmap, false);
    assert_int_equal(put(handle, 0, 10), 0);
    dirty_bitmap_set_enabled(bitmap, true);
    assert_int_equal(put(handle, 1024, 10), 0);
    expect_bits(bitmap, ".x..");
    dirty_bitmap_set_inconsistent(bitmap);
    assert_int_equal(put(handle, 2048, 10), 0);
    expect_bits(bitmap, "....");
    handle_close(handle);
}

IN_GRAPH(a_bitmap_is_as_long_as_its_node)
{
    add_mem("disk", 4096);
    add_filter("above", "disk");
    struct handle *handle = open_handle("disk");
    struct dirty_bitmap *bitmap = add_bitmap("disk", "b", 1024);
    struct dirty_bitmap *upper = add_bitmap("above", "b", 1024);
    dirty_bitmap_mark(bitmap, range_make(0, 4096));
    dirty_bitmap_mark(upper, range_make(0, 4096));
    assert_int_equal(handle_resize(handle, 2000, TRUNCATE_SPARSE), 0);
    expect_bits(bitmap, "xx");
    assert_int_equal(handle_resize(handle, 6000, TRUNCATE_SPARSE), 0);
    expect_bits(bitmap, "xx....");
    expect_bits(upper, "xx....");
    assert_int_equal(put(handle, 5990, 10), 0);
    expect_bits(bitmap, "xx...x");
    assert_int_equal(handle_resize(handle, 0, TRUNCATE_SPARSE), 0);
    expect_bits(bitmap, "");
    assert_int_equal(dirty_bitmap_bytes(bitmap), 8);
    handle_close(handle);
}

IN_GRAPH(names_are_unique_and_bounded)
{
    add_mem("disk", 4096);
    struct dirty_bitmap *bitmap = add_bitmap("disk", "b", 512);
    struct dirty_bitmap *other;
    expect_error(dirty_bitmap_create(node_find("disk"), "b", 512, &other), "Bitmap already exists: b");
    char name[DIRTY_BITMAP_NAME_MAX + 2];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    expect_error(dirty_bitmap_create(node_find("disk"), name, 512, &other), "Bitmap name too long");
    other = add_bitmap("disk", NULL, 512);
    assert_ptr_equal(dirty_bitmap_next(node_find("disk"), NULL), bitmap);
    assert_null(dirty_bitmap_next(node_find("disk"), bitmap));
    dirty_bitmap_destroy(other);
    dirty_bitmap_destroy(bitmap);
    assert_null(dirty_bitmap_find(node_find("disk"), "b"));
}

IN_GRAPH(merging_adds_whatever_the_granularities)
{
    add_mem("disk", 16384);
    add_mem("other", 16384);
    add_mem("small", 100);
    struct dirty_bitmap *fine = add_bitmap("disk", "fine", 1024);
    struct dirty_bitmap *fine2 = add_bitmap("disk", "fine2", 1024);
    struct dirty_bitmap *coarse = add_bitmap("other", "coarse", 4096);
    dirty_bitmap_mark(fine, range_make(1024, 1024));
    dirty_bitmap_mark(fine2, range_make(15360, 1));
    expect_success(dirty_bitmap_merge(coarse, fine));
    expect_bits(coarse, "x...");
    expect_success(dirty_bitmap_merge(fine2, coarse));
    expect_bits(fine2, "xxxx...........x");
    expect_success(dirty_bitmap_merge(fine, fine2));
    expect_bits(fine, "xxxx...........x");
    expect_success(dirty_bitmap_merge(fine, fine));
    expect_bits(fine, "xxxx...........x");
    expect_error(dirty_bitmap_merge(fine, add_bitmap("small", "b", 1024)),
                 "Bitmaps are of different sizes (destination size is 16384, source size is 100) and can't be merged");
    assert_false(dirty_bitmap_is_busy(fine));
    assert_true(dirty_bitmap_clear(fine));
    expect_bits(fine, "................");
}

/* Writers on all loops, a reader that takes bits away and gives them to another bitmap, and bitmaps that come and go:
 * what was written is in one of the two. */
#define PARALLEL_BYTES (1024 * 1024)
#define WRITES 3000

static struct writer {
    unsigned loop;
    struct handle *handle;
    bool written[PARALLEL_BYTES / 512];
} writers[2];
static _Atomic unsigned writing;

static void write_many(void *arg)
{
    struct writer *writer = arg;
    uint64_t state = writer->loop + 1;
    for (int i = 0; i < WRITES; i++) {
        state = state * UINT64_C(6364136223846793005) + 99;
        uint64_t sector = (state >> 30) % (PARALLEL_BYTES / 1024) * 2 + writer->loop; /* bits of the same words */
        if (put(writer->handle, sector * 512, 512) != 0)
            abort();
        writer->written[sector] = true;
        if (i % 16 == 0)
            co_yield ();
    }
    writing--;
}

static void move_bits(struct dirty_bitmap *from, struct dirty_bitmap *to)
{
    for (uint64_t at = 0; (at = dirty_bitmap_next_dirty(from, at)) < PARALLEL_BYTES;) {
        uint64_t end = dirty_bitmap_next_clean(from, at);
        dirty_bitmap_clean(from, range_between(at, end));
        dirty_bitmap_mark(to, range_between(at, end));
        at = end;
    }
}

IN_GRAPH(no_bit_is_lost_while_everything_happens)
{
    add_mem("disk", PARALLEL_BYTES);
    struct dirty_bitmap *bitmap = add_bitmap("disk", "b", 512);
    struct dirty_bitmap *seen = add_bitmap("disk", "seen", 512);
    dirty_bitmap_set_enabled(seen, false);
    memset(writers, 0, sizeof(writers));
    writing = 2;
    for (unsigned i = 0; i < 2; i++) {
        writers[i].loop = i;
        writers[i].handle = open_handle("disk");
        co_start_on(loop_io(i), "writer", write_many, &writers[i]);
    }
    while (writing > 0) {
        struct dirty_bitmap *passing = add_bitmap("disk", "passing", 4096);
        move_bits(bitmap, seen);
        co_yield ();
        dirty_bitmap_destroy(passing);
    }
    move_bits(bitmap, seen);
    for (uint64_t sector = 0; sector < PARALLEL_BYTES / 512; sector++)
        assert_int_equal(dirty_bitmap_next_dirty(seen, sector * 512) == sector * 512,
                         writers[0].written[sector] || writers[1].written[sector]);
    for (unsigned i = 0; i < 2; i++)
        handle_close(writers[i].handle);
}

IN_GRAPH(bitmaps_exchange_their_bits_and_go_on_as_they_are)
{
    add_mem("disk", 1024 * 1024);
    struct dirty_bitmap *records = add_bitmap("disk", "records", 65536);
    struct dirty_bitmap *aside = add_bitmap("disk", "aside", 65536);
    dirty_bitmap_set_enabled(aside, false);
    dirty_bitmap_mark(records, range_make(0, 65536));
    dirty_bitmap_mark(aside, range_make(131072, 131072));
    dirty_bitmap_exchange(records, aside);
    assert_int_equal(dirty_bitmap_count(records), 131072);
    assert_int_equal(dirty_bitmap_next_dirty(records, 0), 131072);
    assert_int_equal(dirty_bitmap_count(aside), 65536);
    assert_int_equal(dirty_bitmap_next_dirty(aside, 0), 0);
    assert_true(dirty_bitmap_is_enabled(records));
    assert_false(dirty_bitmap_is_enabled(aside));
}

static uint64_t mark_at_random(struct dirty_bitmap *marked, uint64_t state)
{
    for (int i = 0; i < 12; i++) {
        state = state * UINT64_C(6364136223846793005) + 99;
        uint64_t first = (state >> 40) % 150;
        dirty_bitmap_mark(marked, range_make(first * 512, ((state >> 33) % 8 + 1) * 512));
    }
    return state;
}

IN_GRAPH(retaining_takes_away_what_neither_of_the_others_has)
{
    uint64_t state = 1;
    add_mem("disk", 150 * 512);
    struct dirty_bitmap *a = add_bitmap("disk", "a", 512);
    struct dirty_bitmap *b = add_bitmap("disk", "b", 512);
    struct dirty_bitmap *retained = add_bitmap("disk", "retained", 512);
    for (int round = 0; round < 200; round++) {
        char expected[200] = "";
        assert_true(dirty_bitmap_clear(a) && dirty_bitmap_clear(b) && dirty_bitmap_clear(retained));
        state = mark_at_random(retained, mark_at_random(b, mark_at_random(a, state)));
        for (uint64_t at = 0; at < 150 * 512; at += 512) {
            bool other = dirty_bitmap_next_dirty(a, at) == at || dirty_bitmap_next_dirty(b, at) == at;
            strcat(expected, other && dirty_bitmap_next_dirty(retained, at) == at ? "x" : ".");
        }
        dirty_bitmap_retain(retained, a, b);
        expect_bits(retained, expected);
    }
}

IN_GRAPH(sixteen_tebibytes_are_searched_in_no_time)
{
    add_mem("disk", 0);
    node_set_length(node_find("disk"), UINT64_C(16) << 40); /* without the memory */
    struct dirty_bitmap *bitmap = add_bitmap("disk", "b", 65536);
    uint64_t end = UINT64_C(16) << 40;
    dirty_bitmap_mark(bitmap, range_make(end - 1, 1));
    for (int i = 0; i < 100000; i++)
        assert_int_equal(dirty_bitmap_next_dirty(bitmap, 0), end - 65536);
    dirty_bitmap_mark(bitmap, range_make(0, end - 65536 * 2));
    for (int i = 0; i < 100000; i++)
        assert_int_equal(dirty_bitmap_next_clean(bitmap, 0), end - 65536 * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_zeroes_and_discards_set_bits),
        cmocka_unit_test(a_write_that_fails_may_have_happened_in_part),
        cmocka_unit_test(a_bitmap_sees_what_passes_its_own_node),
        cmocka_unit_test(only_what_is_enabled_records),
        cmocka_unit_test(a_bitmap_is_as_long_as_its_node),
        cmocka_unit_test(names_are_unique_and_bounded),
        cmocka_unit_test(merging_adds_whatever_the_granularities),
        cmocka_unit_test(no_bit_is_lost_while_everything_happens),
        cmocka_unit_test(bitmaps_exchange_their_bits_and_go_on_as_they_are),
        cmocka_unit_test(retaining_takes_away_what_neither_of_the_others_has),
        cmocka_unit_test(sixteen_tebibytes_are_searched_in_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
