/* Objects of type secret. What is encrypted here was made with `openssl enc -aes-256-cbc`. */
#include "blockcore/objects/object.h"
#include "blockcore/objects/secret.h"

#include "tests/unit/drivers/nodes.h"

#define MASTER_KEY "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" /* 0, 1, 2 ... 31 */
#define VECTOR "ABEiM0RVZneImaq7zN3u/w=="
#define CIPHERTEXT "dEQH3UJylceNjejSQPk7qQcSncukocEwTF8Q116ilNE="

static struct error *secret_add(const char *id, const struct secret_properties *properties)
{
    struct object_options options = { .qom_type = OBJECT_TYPE_SECRET, .id = id, .u.secret = *properties };
    return object_add(&options);
}

static void holds(const char *id, const char *bytes, size_t count)
{
    CLEANUP(key_bytes_free) struct key_bytes *value = NULL;
    expect_success(secret_get(id, &value));
    expect_int(value->bytes, count);
    expect(memcmp(value->data, bytes, count) == 0);
}

static struct secret_properties base64(const char *text)
{
    return (struct secret_properties){ .data = text, .has_format = true, .format = Q_CRYPTO_SECRET_FORMAT_BASE64 };
}

static void put_file(const char *name, const void *data, size_t bytes)
{
    int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    expect(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    close(fd);
}

NODE_TEST(a_secret_is_found_by_its_name_until_it_is_removed)
{
    struct secret_properties properties = { .data = "open sesame" };
    expect_success(secret_add("sec0", &properties));
    holds("sec0", "open sesame", 11);
    expect_success(object_del("sec0"));
    struct key_bytes *value;
    expect_error(secret_get("sec0", &value), "object 'sec0' not found (a 'secret' is wanted)");
}

NODE_TEST(a_secret_comes_from_a_file_as_it_is)
{
    put_file("password", "line\n\0end", 9);
    struct secret_properties properties = { .file = in_dir("password") };
    expect_success(secret_add("raw", &properties));
    holds("raw", "line\n\0end", 9);
    put_file("empty", "", 0);
    properties.file = in_dir("empty");
    expect_success(secret_add("empty", &properties));
    holds("empty", "", 0);
    object_del_all();
}

NODE_TEST(bytes_that_are_no_text_are_written_in_base64)
{
    struct secret_properties properties = base64("AP8BAgM=");
    expect_success(secret_add("sec0", &properties));
    holds("sec0", "\0\xff\1\2\3", 5);
    put_file("password", "AP8BAgM=\n", 9);
    properties.data = NULL;
    properties.file = in_dir("password");
    expect_success(secret_add("sec1", &properties));
    holds("sec1", "\0\xff\1\2\3", 5);
    object_del_all();
}

static void add_master_key(void)
{
    struct secret_properties master = base64(MASTER_KEY);
    expect_success(secret_add("master", &master));
}

NODE_TEST(a_secret_is_encrypted_with_another)
{
    add_master_key();
    struct secret_properties properties = base64(CIPHERTEXT);
    properties.keyid = "master";
    properties.iv = VECTOR;
    expect_success(secret_add("inner", &properties));
    holds("inner", "the inner secret", 16);
    /* The key may go: it has done its work. */
    expect_success(object_del("master"));
    holds("inner", "the inner secret", 16);
    object_del_all();
}

NODE_TEST(a_wrong_key_or_vector_is_an_error)
{
    add_master_key();
    struct secret_properties short_key = { .data = "short" };
    expect_success(secret_add("short", &short_key));
    struct secret_properties wrong_key = { .data = "0123456789abcdef0123456789abcdef" };
    expect_success(secret_add("wrong", &wrong_key));

    struct secret_properties properties = base64(CIPHERTEXT);
    properties.keyid = "none";
    properties.iv = VECTOR;
    expect_error(secret_add("inner", &properties), "secret 'inner': keyid: object 'none' not found");
    properties.keyid = "short";
    expect_error(secret_add("inner", &properties), "keyid: secret 'short' has 5 bytes, a key has 32");
    properties.keyid = "wrong";
    properties.iv = NULL;
    expect_error(secret_add("inner", &properties), "secret 'inner': iv: is missing");
    properties.iv = "AAAA";
    expect_error(secret_add("inner", &properties), "iv: has 3 bytes, it needs 16");
    properties.iv = "no base64!";
    expect_error(secret_add("inner", &properties), "iv: is not base64");
    properties.iv = VECTOR;
    expect_error(secret_add("inner", &properties), "cannot be decrypted with secret 'wrong'");
    properties.keyid = "master";
    properties.data = "AAAA";
    expect_error(secret_add("inner", &properties), "3 bytes are not encrypted data");
    object_del_all();
}

NODE_TEST(properties_that_make_no_sense_are_refused_without_their_bytes)
{
    struct secret_properties nothing = { 0 };
    expect_error(secret_add("sec0", &nothing), "secret 'sec0': data or file: one is needed");
    struct secret_properties both = { .data = "a", .file = "b" };
    expect_error(secret_add("sec0", &both), "data and file cannot both be given");
    struct secret_properties absent = { .file = in_dir("absent") };
    expect_error(secret_add("sec0", &absent), "absent': No such file or directory");
    struct secret_properties garbage = base64("geheim");
    struct error *err = secret_add("sec0", &garbage);
    expect(err && !strstr(error_message(err), "geheim"));
    expect_error(err, "data: is not valid base64");
    static char large[SECRET_BYTES_MAX + 1];
    put_file("large", large, sizeof(large));
    struct secret_properties too_large = { .file = in_dir("large") };
    expect_error(secret_add("sec0", &too_large), "is longer than 65536 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_secret_is_found_by_its_name_until_it_is_removed),
        cmocka_unit_test(a_secret_comes_from_a_file_as_it_is),
        cmocka_unit_test(bytes_that_are_no_text_are_written_in_base64),
        cmocka_unit_test(a_secret_is_encrypted_with_another),
        cmocka_unit_test(a_wrong_key_or_vector_is_an_error),
        cmocka_unit_test(properties_that_make_no_sense_are_refused_without_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
