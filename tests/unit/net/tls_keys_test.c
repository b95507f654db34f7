/* Files of pre-shared keys. */
#include "blockcore/net/tls_keys.h"

#include "tests/unit/base/unit.h"

static struct tls_keys *parsed(const char *text)
{
    struct tls_keys *keys = NULL;
    CLEANUP(error_free) struct error *err = tls_keys_parse(text, strlen(text), &keys);
    if (err)
        fail_msg("%s", error_message(err));
    return keys;
}

static void refused(const char *text, const char *message)
{
    struct tls_keys *keys = NULL;
    CLEANUP(error_free) struct error *err = tls_keys_parse(text, strlen(text), &keys);
    assert_non_null(err);
    assert_string_equal(error_message(err), message);
    assert_null(keys);
}

static void expect_key(const struct tls_keys *keys, const char *user, const char *key, size_t key_bytes)
{
    size_t bytes = 0;
    const uint8_t *found = tls_keys_find(keys, user, &bytes);
    assert_non_null(found);
    assert_int_equal(bytes, key_bytes);
    assert_memory_equal(found, key, key_bytes);
}

static void each_line_is_a_user_with_a_key(void **state)
{
    (void)state;
    size_t bytes;
    CLEANUP(tls_keys_free)
    struct tls_keys *keys = parsed("alice:00112233\n\n# remark\nbob@example:DEADbeef00\r\n"
                                   "#616c2f:0a0b0c0d");
    expect_key(keys, "alice", "\x00\x11\x22\x33", 4);
    expect_key(keys, "bob@example", "\xde\xad\xbe\xef\x00", 5);
    expect_key(keys, "al/", "\x0a\x0b\x0c\x0d", 4);
    assert_null(tls_keys_find(keys, "carol", &bytes));
    assert_null(tls_keys_find(keys, "", &bytes));
}

static void an_empty_file_lets_nobody_in(void **state)
{
    (void)state;
    size_t bytes;
    CLEANUP(tls_keys_free) struct tls_keys *keys = parsed("");
    assert_null(tls_keys_find(keys, "", &bytes));
}

static void mistakes_are_told_with_their_line_and_without_the_key(void **state)
{
    (void)state;
    refused("alice\n", "line 1: expected USER:KEY, there is no ':'");
    refused("a:00112233\n:00112233\n", "line 2: there is no user's name before the ':'");
    refused("a:0011223\n", "line 1: a key has 8 to 512 hexadecimal digits, two for each byte; here are 7 characters");
    refused("a:001122", "line 1: a key has 8 to 512 hexadecimal digits, two for each byte; here are 6 characters");
    refused("a:0011223x\n", "line 1: the key holds what is no hexadecimal digit");
    refused("a:00112233\nb:00112233\na:00112233\n", "line 3: user 'a' has a key already");
}

static void names_and_keys_have_limits(void **state)
{
    (void)state;
    char text[1024];
    memset(text, 'u', sizeof(text));
    strcpy(text + TLS_USER_BYTES_MAX, ":00112233");
    tls_keys_free(parsed(text));
    memset(text, 'u', sizeof(text));
    strcpy(text + TLS_USER_BYTES_MAX + 1, ":00112233");
    refused(text, "line 1: a user's name has 1 to 128 bytes, not 129");
    strcpy(text, "a:");
    memset(text + 2, '0', 2 * TLS_KEY_BYTES_MAX);
    text[2 + 2 * TLS_KEY_BYTES_MAX] = '\0';
    tls_keys_free(parsed(text));
    struct tls_keys *keys = NULL;
    CLEANUP(error_free) struct error *err = tls_keys_parse("a\0b:00112233", 12, &keys);
    assert_string_equal(error_message(err), "line 1: a user's name holds a zero byte");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_line_is_a_user_with_a_key),
        cmocka_unit_test(an_empty_file_lets_nobody_in),
        cmocka_unit_test(mistakes_are_told_with_their_line_and_without_the_key),
        cmocka_unit_test(names_and_keys_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
