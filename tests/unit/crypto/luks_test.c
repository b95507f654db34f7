/* Volumes in memory: passwords, slots, and what is left when a write fails. */
#include "blockcore/crypto/luks.h"

#include "tests/unit/drivers/nodes.h"

struct memory {
    uint8_t data[4 * MIB];
    int writes_left; /* then they fail; -1: never */
    unsigned flushes;
};

static struct memory memory;

static int read_memory(void *arg, uint64_t offset, void *data, size_t bytes)
{
    (void)arg;
    expect(range_inside(range_make(offset, bytes), sizeof(memory.data)));
    memcpy(data, memory.data + offset, bytes);
    return 0;
}

static int write_memory(void *arg, uint64_t offset, const void *data, size_t bytes)
{
    (void)arg;
    expect(range_inside(range_make(offset, bytes), sizeof(memory.data)));
    if (memory.writes_left == 0)
        return -EIO;
    memory.writes_left -= memory.writes_left > 0;
    memcpy(memory.data + offset, data, bytes);
    return 0;
}

static int flush_memory(void *arg)
{
    (void)arg;
    memory.flushes++;
    return 0;
}

static const struct luks_io io = { read_memory, write_memory, flush_memory, NULL };

static struct key_bytes *password(const char *text)
{
    struct key_bytes *bytes = key_bytes_new(strlen(text));
    expect(bytes);
    memcpy(bytes->data, text, bytes->bytes);
    return bytes;
}

static const struct q_crypto_block_create_options_luks usual = {
    .cipher_alg = Q_CRYPTO_CIPHER_ALGO_AES_256,
    .cipher_mode = Q_CRYPTO_CIPHER_MODE_XTS,
    .ivgen_alg = Q_CRYPTO_IV_GEN_ALGO_PLAIN64,
    .hash_alg = Q_CRYPTO_HASH_ALGO_SHA256,
};

/* A new volume with "first" in slot 0. */
static struct luks_header make_volume(struct key_bytes **key)
{
    CLEANUP(key_bytes_free) struct key_bytes *first = password("first");
    struct luks_header header = { 0 };
    memset(&memory, 0xaa, sizeof(memory));
    memory.writes_left = -1;
    memory.flushes = 0;
    expect_success(luks_choose(&usual, &header));
    luks_header_lay_out(&header, false);
    expect_success(luks_format(&io, &header, first, 10, key));
    return header;
}

/* The slot that the password opens, as what is in memory says; -1: none. The key must be @key. */
static int opens(const char *text, const struct key_bytes *key)
{
    CLEANUP(key_bytes_free) struct key_bytes *word = password(text);
    CLEANUP(key_bytes_free) struct key_bytes *found = NULL;
    struct luks_header header;
    unsigned slot;
    expect_success(luks_read(&io, &header));
    CLEANUP(error_free) struct error *err = luks_unlock(&io, &header, word, &found, &slot);
    if (err) {
        expect_text(error_message(err), "invalid password, cannot unlock any key slot");
        return -1;
    }
    expect(found->bytes == key->bytes && memcmp(found->data, key->data, key->bytes) == 0);
    return (int)slot;
}

CO_TEST(the_right_password_gives_the_key)
{
    CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
    struct luks_header header = make_volume(&key);
    expect_int(key->bytes, 64);
    expect_int(opens("first", key), 0);
    expect_int(opens("First", key), -1);
    expect_int(opens("", key), -1);
    expect(header.slots[0].iterations >= 1000 && header.digest_iterations >= 1000);
    expect_int(strlen(header.uuid), 36);
    /* Two volumes share nothing. */
    CLEANUP(key_bytes_free) struct key_bytes *other = NULL;
    struct luks_header second = make_volume(&other);
    expect(memcmp(key->data, other->data, 64) != 0 && strcmp(header.uuid, second.uuid) != 0);
}

CO_TEST(slots_hold_the_same_key_behind_other_passwords)
{
    CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
    CLEANUP(key_bytes_free) struct key_bytes *second = password("second");
    struct luks_header header = make_volume(&key);
    expect_success(luks_set_slot(&io, &header, 7, key, second, 10));
    expect_int(opens("first", key), 0);
    expect_int(opens("second", key), 7);
    expect_success(luks_erase_slot(&io, &header, 0));
    expect_int(opens("first", key), -1);
    expect_int(opens("second", key), 7);
    expect(!header.slots[0].active && header.slots[7].active);
}

/* The password is wrong for a volume whose entry says "active" over stripes that are gone. */
CO_TEST(an_erased_slot_is_gone_even_if_its_entry_comes_back)
{
    CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
    struct luks_header header = make_volume(&key);
    uint8_t entry[LUKS_SLOT_FIELD_BYTES];
    memcpy(entry, memory.data + luks_slot_field(0), sizeof(entry));
    expect_success(luks_erase_slot(&io, &header, 0));
    memcpy(memory.data + luks_slot_field(0), entry, sizeof(entry));
    expect_int(opens("first", key), -1);
}

/* Stripes first, stable, then the entry: a slot is there or not. */
CO_TEST(a_write_that_fails_leaves_a_slot_as_it_was)
{
    CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
    CLEANUP(key_bytes_free) struct key_bytes *second = password("second");
    struct luks_header header = make_volume(&key);
    for (int writes = 0; writes < 2; writes++) {
        memory.writes_left = writes;
        memory.flushes = 0;
        expect_error(luks_set_slot(&io, &header, 1, key, second, 10), "cannot write key slot 1");
        expect_int(memory.flushes, writes);
        expect(!header.slots[1].active);
        expect_int(opens("first", key), 0);
        expect_int(opens("second", key), -1);
    }
}

CO_TEST(half_a_new_volume_is_none)
{
    CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
    make_volume(&key);
    for (int writes = 1; writes < 4; writes++) {
        struct luks_header header = { 0 };
        CLEANUP(key_bytes_free) struct key_bytes *made = NULL;
        CLEANUP(key_bytes_free) struct key_bytes *word = password("other");
        expect_success(luks_choose(&usual, &header));
        luks_header_lay_out(&header, false);
        memory.writes_left = writes;
        expect_error(luks_format(&io, &header, word, 10, &made), "cannot write");
        expect_error(luks_read(&io, &header), "not a LUKS volume");
    }
}

CO_TEST(the_iterations_follow_the_time_that_is_asked_for)
{
    CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
    CLEANUP(key_bytes_free) struct key_bytes *second = password("second");
    struct luks_header header = make_volume(&key);
    expect_success(luks_set_slot(&io, &header, 1, key, second, 200));
    expect(header.slots[1].iterations > 8 * header.slots[0].iterations);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_right_password_gives_the_key),
        cmocka_unit_test(slots_hold_the_same_key_behind_other_passwords),
        cmocka_unit_test(an_erased_slot_is_gone_even_if_its_entry_comes_back),
        cmocka_unit_test(a_write_that_fails_leaves_a_slot_as_it_was),
        cmocka_unit_test(half_a_new_volume_is_none),
        cmocka_unit_test(the_iterations_follow_the_time_that_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
