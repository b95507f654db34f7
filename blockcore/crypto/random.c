#include "blockcore/crypto/random.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

struct error *random_fill(void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t got = getrandom((uint8_t *)data + done, bytes - done, 0);
        if (got < 0 && errno != EINTR)
            return error_errno(errno, "cannot get random bytes");
        done += got > 0 ? (size_t)got : 0;
    }
    return NULL;
}

struct error *random_uuid(char text[UUID_TEXT_BYTES])
{
    uint8_t bytes[16];
    struct error *err = random_fill(bytes, sizeof(bytes));
    if (err)
        return err;
    bytes[6] = (uint8_t)(0x40 | (bytes[6] & 0x0f)); /* version: random */
    bytes[8] = (uint8_t)(0x80 | (bytes[8] & 0x3f)); /* variant */
    char *out = text;
    for (size_t i = 0; i < sizeof(bytes); i++)
        out += sprintf(out, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", bytes[i]);
    return NULL;
}

struct key_bytes *key_bytes_new(size_t bytes)
{
    struct key_bytes *key = calloc(1, sizeof(*key) + bytes);
    if (key)
        key->bytes = bytes;
    return key;
}

void key_bytes_free(struct key_bytes *key)
{
    if (key)
        explicit_bzero(key, sizeof(*key) + key->bytes);
    free(key);
}
