#include "blockcore/base/iov.h"

#include "tests/unit/base/unit.h"

/* "abc" "" "defgh" "i" */
static char memory[16];
static struct iovec pieces[4];

static struct iov letters(void)
{
    memcpy(memory, "abc...defgh...i", 16);
    pieces[0] = (struct iovec){ memory, 3 };
    pieces[1] = (struct iovec){ memory + 4, 0 };
    pieces[2] = (struct iovec){ memory + 6, 5 };
    pieces[3] = (struct iovec){ memory + 14, 1 };
    return iov_of_vec(pieces, 4);
}

static void expect_text(const struct iov *iov, const char *expected)
{
    char text[32] = "";
    assert_int_equal(iov->bytes, strlen(expected));
    iov_copy_to(iov, text);
    assert_string_equal(text, expected);
}

static void a_view_covers_all_pieces(void **state)
{
    (void)state;
    struct iov iov = letters();
    expect_text(&iov, "abcdefghi");
    assert_int_equal(iov_pieces(&iov), 3);
}

static void every_slice_of_every_slice_shows_its_bytes(void **state)
{
    (void)state;
    struct iov iov = letters();
    for (size_t begin = 0; begin <= iov.bytes; begin++) {
        for (size_t end = begin; end <= iov.bytes; end++) {
            struct iov slice = iov_slice(&iov, begin, end - begin);
            for (size_t inner = 0; inner <= slice.bytes; inner++) {
                char expected[16] = "";
                memcpy(expected, &"abcdefghi"[begin + inner], slice.bytes - inner);
                struct iov rest = iov_slice(&slice, inner, slice.bytes - inner);
                expect_text(&rest, expected);
            }
        }
    }
}

static void an_empty_view_is_harmless(void **state)
{
    (void)state;
    struct iov none = iov_of_vec(NULL, 0);
    struct iovec out[1];
    size_t bytes;
    expect_text(&none, "");
    assert_int_equal(iov_pieces(&none), 0);
    assert_int_equal(iov_export(&none, out, 1, &bytes), 0);
    assert_int_equal(bytes, 0);
    assert_null(iov_contiguous(&none));
    assert_true(iov_is_zero(&none));
    struct iov slice = iov_slice(&none, 0, 0);
    assert_int_equal(slice.bytes, 0);
}

static void contiguous_only_inside_one_piece(void **state)
{
    (void)state;
    struct iov iov = letters();
    assert_null(iov_contiguous(&iov));
    struct iov inside = iov_slice(&iov, 4, 3);
    assert_ptr_equal(iov_contiguous(&inside), memory + 7);
    struct iov across = iov_slice(&iov, 2, 2);
    assert_null(iov_contiguous(&across));
    struct iovec storage;
    struct iov one = iov_of(&storage, memory, 5);
    assert_ptr_equal(iov_contiguous(&one), memory);
}

static void export_stops_at_the_limit_and_skips_empty_pieces(void **state)
{
    (void)state;
    struct iov iov = letters();
    struct iovec out[4];
    size_t bytes;
    assert_int_equal(iov_export(&iov, out, 2, &bytes), 2);
    assert_int_equal(bytes, 8);
    assert_ptr_equal(out[1].iov_base, memory + 6);
    struct iov rest = iov_slice(&iov, bytes, iov.bytes - bytes);
    assert_int_equal(iov_export(&rest, out, 2, &bytes), 1);
    assert_ptr_equal(out[0].iov_base, memory + 14);
    assert_int_equal(bytes, 1);
}

static void alignment_is_that_of_addresses_and_lengths(void **state)
{
    (void)state;
    _Alignas(64) static char block[256];
    struct iovec vec[2] = { { block, 64 }, { block + 128, 128 } };
    struct iov iov = iov_of_vec(vec, 2);
    assert_true(iov_is_aligned(&iov, 64));
    assert_false(iov_is_aligned(&iov, 128));
    struct iov odd = iov_slice(&iov, 0, 63);
    assert_false(iov_is_aligned(&odd, 64));
    struct iov shifted = iov_slice(&iov, 32, 32);
    assert_true(iov_is_aligned(&shifted, 32));
    assert_false(iov_is_aligned(&shifted, 64));
}

static void copies_touch_the_view_only(void **state)
{
    (void)state;
    struct iov iov = letters();
    struct iov middle = iov_slice(&iov, 2, 3);
    iov_copy_from(&middle, "XYZ");
    assert_memory_equal(memory, "abX...YZfgh...i", 16);
    iov_fill(&middle, '-');
    assert_memory_equal(memory, "ab-...--fgh...i", 16);
}

/* One byte that is not zero is found wherever it is, at any alignment. */
static void zero_detection(void **state)
{
    (void)state;
    static unsigned char block[300];
    for (size_t begin = 0; begin < 20; begin++) {
        for (size_t bytes = 0; bytes < 200; bytes += 7) {
            assert_true(memory_is_zero(block + begin, bytes));
            for (size_t at = 0; at < bytes; at++) {
                block[begin + at] = 0x80;
                assert_false(memory_is_zero(block + begin, bytes));
                block[begin + at] = 0;
            }
        }
    }
    struct iovec vec[2] = { { block, 100 }, { block + 150, 100 } };
    struct iov iov = iov_of_vec(vec, 2);
    block[120] = 1; /* between the pieces */
    assert_true(iov_is_zero(&iov));
    block[249] = 1;
    assert_false(iov_is_zero(&iov));
    struct iov shorter = iov_slice(&iov, 0, 199);
    assert_true(iov_is_zero(&shorter));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_view_covers_all_pieces),
        cmocka_unit_test(every_slice_of_every_slice_shows_its_bytes),
        cmocka_unit_test(an_empty_view_is_harmless),
        cmocka_unit_test(contiguous_only_inside_one_piece),
        cmocka_unit_test(export_stops_at_the_limit_and_skips_empty_pieces),
        cmocka_unit_test(alignment_is_that_of_addresses_and_lengths),
        cmocka_unit_test(copies_touch_the_view_only),
        cmocka_unit_test(zero_detection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
