#include "blockcore/crypto/base64.h"

#include "tests/unit/base/unit.h"

static const char *decoded(const char *text)
{
    static uint8_t out[100];
    size_t bytes;
    if (!base64_decode((const uint8_t *)text, strlen(text), out, &bytes))
        return "(refused)";
    out[bytes] = '\0';
    return (char *)out;
}

/* RFC 4648, section 10. */
static void the_examples_of_the_rfc(void **state)
{
    (void)state;
    assert_string_equal(decoded(""), "");
    assert_string_equal(decoded("Zg=="), "f");
    assert_string_equal(decoded("Zm8="), "fo");
    assert_string_equal(decoded("Zm9v"), "foo");
    assert_string_equal(decoded("Zm9vYg=="), "foob");
    assert_string_equal(decoded("Zm9vYmFy"), "foobar");
    assert_string_equal(decoded("Pz8/+/7+"), "???\xfb\xfe\xfe");
}

static void ends_of_lines_are_skipped(void **state)
{
    (void)state;
    assert_string_equal(decoded("Zm9v\nYmFy\r\n"), "foobar");
    assert_string_equal(decoded(" Zm 8=\n"), "fo");
}

static void what_is_cut_off_or_foreign_is_refused(void **state)
{
    (void)state;
    const char *texts[] = { "Z", "Zg", "Zg=", "Zm9vY", "=", "====", "Z===", "Zg==Zg==", "Zg=a", "Zm9-", "Zm\xc3\xa4v" };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_string_equal(decoded(texts[i]), "(refused)");
}

static void a_zero_byte_is_no_character(void **state)
{
    (void)state;
    uint8_t out[16];
    size_t bytes;
    assert_false(base64_decode((const uint8_t *)"Zm\0v", 4, out, &bytes));
}

static void decoding_in_place(void **state)
{
    (void)state;
    uint8_t text[] = "Zm9vYmFy";
    size_t bytes;
    assert_true(base64_decode(text, 8, text, &bytes));
    assert_int_equal(bytes, 6);
    assert_memory_equal(text, "foobar", 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_the_rfc),
        cmocka_unit_test(ends_of_lines_are_skipped),
        cmocka_unit_test(what_is_cut_off_or_foreign_is_refused),
        cmocka_unit_test(a_zero_byte_is_no_character),
        cmocka_unit_test(decoding_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
