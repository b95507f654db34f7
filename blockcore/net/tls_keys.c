#include "blockcore/net/tls_keys.h"

#include "blockcore/base/hash.h"
#include "blockcore/base/memory.h"

#include <stdbool.h>
#include <string.h>

struct key {
    struct hash_link by_user;
    char user[TLS_USER_BYTES_MAX + 1];
    size_t bytes;
    uint8_t data[TLS_KEY_BYTES_MAX];
};

struct tls_keys {
    struct hash by_user;
};

void tls_keys_free(struct tls_keys *keys)
{
    if (!keys)
        return;
    struct hash_link *link;
    while ((link = hash_next(&keys->by_user, NULL))) {
        struct key *key = hash_entry(link, struct key, by_user);
        hash_remove(&keys->by_user, link);
        explicit_bzero(key, sizeof(*key));
        free(key);
    }
    hash_fini(&keys->by_user);
    free(keys);
}

const uint8_t *tls_keys_find(const struct tls_keys *keys, const char *user, size_t *bytes)
{
    struct hash_link *link = hash_find_string(&keys->by_user, user);
    if (!link)
        return NULL;
    const struct key *key = hash_entry(link, struct key, by_user);
    *bytes = key->bytes;
    return key->data;
}

/* -1 for what is no hexadecimal digit. */
static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

static struct error *parse_digits(const char *text, size_t length, struct key *key)
{
    if (length % 2 != 0 || length / 2 < TLS_KEY_BYTES_MIN || length / 2 > TLS_KEY_BYTES_MAX)
        return error_new("a key has %d to %d hexadecimal digits, two for each byte; here are %zu characters",
                         2 * TLS_KEY_BYTES_MIN, 2 * TLS_KEY_BYTES_MAX, length);
    for (size_t i = 0; i < length; i += 2) {
        int high = digit_value(text[i]);
        int low = digit_value(text[i + 1]);
        if (high < 0 || low < 0)
            return error_new("the key holds what is no hexadecimal digit");
        key->data[i / 2] = (uint8_t)(high << 4 | low);
    }
    key->bytes = length / 2;
    return NULL;
}

static bool all_digits(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (digit_value(text[i]) < 0)
            return false;
    }
    return true;
}

/* A name that begins with '#' is written in hexadecimal digits, since it has bytes in it that mean something here. */
static struct error *parse_user(const char *text, size_t length, struct key *key)
{
    bool digits = *text == '#' && length % 2 == 1 && all_digits(text + 1, length - 1);
    size_t bytes = digits ? (length - 1) / 2 : length;
    if (bytes == 0 || bytes > TLS_USER_BYTES_MAX)
        return error_new("a user's name has 1 to %d bytes, not %zu", TLS_USER_BYTES_MAX, bytes);
    for (size_t i = 0; i < bytes; i++)
        key->user[i] = digits ? (char)(digit_value(text[2 * i + 1]) << 4 | digit_value(text[2 * i + 2])) : text[i];
    if (memchr(key->user, '\0', bytes))
        return error_new("a user's name holds a zero byte");
    return NULL;
}

static struct error *parse_line(const char *line, size_t length, struct key *key)
{
    const char *colon = memchr(line, ':', length);
    if (!colon)
        return error_new("expected USER:KEY, there is no ':'");
    size_t user_bytes = (size_t)(colon - line);
    if (user_bytes == 0)
        return error_new("there is no user's name before the ':'");
    struct error *err = parse_user(line, user_bytes, key);
    return err ? err : parse_digits(colon + 1, length - user_bytes - 1, key);
}

/* "#616c:0011": a user whose name is in digits; other lines that begin so are remarks. */
static bool is_remark(const char *line, size_t length)
{
    const char *colon = memchr(line, ':', length);
    return *line == '#' && !(colon && colon > line + 1 && all_digits(line + 1, (size_t)(colon - line) - 1));
}

static struct error *add_line(struct tls_keys *keys, const char *line, size_t length)
{
    if (length > 0 && line[length - 1] == '\r')
        length--;
    if (length == 0 || is_remark(line, length))
        return NULL;
    if (keys->by_user.count >= TLS_KEYS_MAX)
        return error_new("there are more than %d users", TLS_KEYS_MAX);
    struct key *key = xcalloc(1, sizeof(*key));
    struct error *err = parse_line(line, length, key);
    if (!err && hash_find_string(&keys->by_user, key->user))
        err = error_new("user '%s' has a key already", key->user);
    if (!err) {
        hash_insert_string(&keys->by_user, &key->by_user, key->user);
        return NULL;
    }
    explicit_bzero(key, sizeof(*key));
    free(key);
    return err;
}

struct error *tls_keys_parse(const char *text, size_t bytes, struct tls_keys **out)
{
    CLEANUP(tls_keys_free) struct tls_keys *keys = xcalloc(1, sizeof(*keys));
    const char *end = text + bytes;
    hash_init(&keys->by_user);
    for (unsigned line = 1; text < end; line++) {
        const char *feed = memchr(text, '\n', (size_t)(end - text));
        const char *end_of_line = feed ? feed : end;
        struct error *err = add_line(keys, text, (size_t)(end_of_line - text));
        if (err)
            return error_wrap(err, "line %u", line);
        text = feed ? feed + 1 : end;
    }
    *out = steal(&keys);
    return NULL;
}
