#include "blockcore/crypto/luks_header.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/range.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES 32
#define SLOT_ACTIVE 0x00ac71f3u
#define SLOT_INACTIVE 0x0000deadu
#define SLOT_ALIGNMENT 4096 /* of what we make */

enum field {
    FIELD_VERSION = 6,
    FIELD_CIPHER = 8,
    FIELD_MODE = 40,
    FIELD_HASH = 72,
    FIELD_PAYLOAD = 104,
    FIELD_KEY_BYTES = 108,
    FIELD_DIGEST = 112,
    FIELD_DIGEST_SALT = 132,
    FIELD_DIGEST_ITERATIONS = 164,
    FIELD_UUID = 168,
    FIELD_SLOTS = 208,
};

enum slot_field {
    SLOT_STATE = 0,
    SLOT_ITERATIONS = 4,
    SLOT_SALT = 8,
    SLOT_OFFSET = 40,
    SLOT_STRIPES = 44,
};

static const uint8_t magic[] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };

/* A text of @bytes bytes at most that ends with a zero byte, of characters that can be shown. */
static struct error *take_text(const uint8_t *data, size_t bytes, const char *what, char *out)
{
    size_t length = strnlen((const char *)data, bytes);
    if (length == bytes)
        return error_new("the %s in the header has no end", what);
    for (size_t i = 0; i < length; i++) {
        if (data[i] <= ' ' || data[i] > '~')
            return error_new("the %s in the header has a byte 0x%02x in it", what, data[i]);
    }
    memcpy(out, data, length);
    out[length] = '\0';
    return NULL;
}

static struct error *find_hash(const char *name, enum q_crypto_hash_algo *out)
{
    for (int i = 0; i < Q_CRYPTO_HASH_ALGO__MAX; i++) {
        if (strcmp(name, q_crypto_hash_algo_name((enum q_crypto_hash_algo)i)) == 0) {
            *out = (enum q_crypto_hash_algo)i;
            return NULL;
        }
    }
    return error_new("digest '%s' is not supported", name);
}

/* "plain64" or "essiv:sha256" */
static struct error *parse_ivgen(const char *name, struct cipher_spec *spec)
{
    if (strncmp(name, "essiv:", 6) == 0) {
        spec->ivgen = Q_CRYPTO_IV_GEN_ALGO_ESSIV;
        return find_hash(name + 6, &spec->ivgen_hash);
    }
    if (strcmp(name, "plain64") == 0)
        spec->ivgen = Q_CRYPTO_IV_GEN_ALGO_PLAIN64;
    else if (strcmp(name, "plain") == 0)
        spec->ivgen = Q_CRYPTO_IV_GEN_ALGO_PLAIN;
    else
        return error_new("initialization vectors of kind '%s' are not supported", name);
    return NULL;
}

/* "xts-plain64", "cbc-essiv:sha256", "ecb" */
static struct error *parse_mode(char *text, struct cipher_spec *spec)
{
    char *ivgen = strchr(text, '-');
    if (ivgen)
        *ivgen++ = '\0';
    if (strcmp(text, "xts") == 0)
        spec->mode = Q_CRYPTO_CIPHER_MODE_XTS;
    else if (strcmp(text, "cbc") == 0)
        spec->mode = Q_CRYPTO_CIPHER_MODE_CBC;
    else if (strcmp(text, "ecb") == 0)
        spec->mode = Q_CRYPTO_CIPHER_MODE_ECB;
    else
        return error_new("cipher mode '%s' is not supported", text);
    spec->ivgen = Q_CRYPTO_IV_GEN_ALGO_PLAIN64;
    if (!ivgen)
        return spec->mode == Q_CRYPTO_CIPHER_MODE_ECB ? NULL
                                                      : error_new("cipher mode '%s' does not say how initialization "
                                                                  "vectors are made",
                                                                  text);
    return parse_ivgen(ivgen, spec);
}

/* The header says "aes" and how long the key is. */
static struct error *parse_cipher(const char *name, uint32_t key_bytes, struct cipher_spec *spec)
{
    if (strcmp(name, "aes") != 0)
        return error_new("cipher '%s' is not supported: OpenSSL has none that suits images but 'aes'", name);
    static const enum q_crypto_cipher_algo algos[] = { Q_CRYPTO_CIPHER_ALGO_AES_128, Q_CRYPTO_CIPHER_ALGO_AES_192,
                                                       Q_CRYPTO_CIPHER_ALGO_AES_256 };
    for (size_t i = 0; i < ARRAY_SIZE(algos); i++) {
        spec->algo = algos[i];
        if (cipher_key_bytes(spec) == key_bytes)
            return cipher_check(spec);
    }
    return error_new("a key of %" PRIu32 " bytes is not valid for cipher '%s' in mode '%s'", key_bytes, name,
                     q_crypto_cipher_mode_name(spec->mode));
}

static struct error *parse_names(const uint8_t *data, struct luks_header *header)
{
    char cipher[NAME_BYTES];
    char mode[NAME_BYTES];
    char hash[NAME_BYTES];
    struct error *err = take_text(data + FIELD_CIPHER, NAME_BYTES, "name of the cipher", cipher);
    if (!err)
        err = take_text(data + FIELD_MODE, NAME_BYTES, "mode of the cipher", mode);
    if (!err)
        err = take_text(data + FIELD_HASH, NAME_BYTES, "name of the digest", hash);
    if (!err)
        err = take_text(data + FIELD_UUID, LUKS_UUID_BYTES, "UUID", header->uuid);
    if (!err)
        err = parse_mode(mode, &header->cipher);
    if (!err)
        err = parse_cipher(cipher, header->key_bytes, &header->cipher);
    return err ? err : find_hash(hash, &header->hash);
}

static struct error *parse_slot(const uint8_t *data, struct luks_slot *slot)
{
    uint32_t state = load_be32(data + SLOT_STATE);
    uint32_t stripes = load_be32(data + SLOT_STRIPES);
    slot->active = state == SLOT_ACTIVE;
    slot->iterations = load_be32(data + SLOT_ITERATIONS);
    slot->offset = (uint64_t)load_be32(data + SLOT_OFFSET) * CIPHER_SECTOR_BYTES;
    memcpy(slot->salt, data + SLOT_SALT, LUKS_SALT_BYTES);
    if (state != SLOT_ACTIVE && state != SLOT_INACTIVE)
        return error_new("its state 0x%08" PRIx32 " is not valid", state);
    if (stripes != LUKS_STRIPES)
        return error_new("%" PRIu32 " stripes are not supported, only %d", stripes, LUKS_STRIPES);
    if (slot->active && (slot->iterations == 0 || slot->iterations > INT32_MAX))
        return error_new("%" PRIu32 " iterations are not valid", slot->iterations);
    return NULL;
}

static struct range slot_range(const struct luks_header *header, unsigned slot)
{
    return range_make(header->slots[slot].offset, luks_stripes_bytes(header));
}

static struct error *check_place(const struct luks_header *header, unsigned slot)
{
    struct range place = slot_range(header, slot);
    if (place.offset < LUKS_HEADER_BYTES)
        return error_new("it overlaps the header");
    if (header->payload_offset && range_end(place) > header->payload_offset)
        return error_new("it overlaps the data");
    for (unsigned i = 0; i < slot; i++) {
        if (range_overlaps(place, slot_range(header, i)))
            return error_new("it overlaps slot %u", i);
    }
    return NULL;
}

static struct error *parse_slots(const uint8_t *data, struct luks_header *header)
{
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        struct error *err = parse_slot(data + luks_slot_field(i), &header->slots[i]);
        if (!err)
            err = check_place(header, i);
        if (err)
            return error_wrap(err, "key slot %u", i);
    }
    return NULL;
}

struct error *luks_header_parse(const void *data, size_t bytes, struct luks_header *out)
{
    const uint8_t *in = data;
    if (bytes < LUKS_HEADER_BYTES || memcmp(in, magic, sizeof(magic)) != 0)
        return error_new("not a LUKS volume");
    uint16_t version = load_be16(in + FIELD_VERSION);
    if (version != 1)
        return error_new("LUKS version %u is not supported, only version 1", version);
    struct luks_header header = {
        .payload_offset = (uint64_t)load_be32(in + FIELD_PAYLOAD) * CIPHER_SECTOR_BYTES,
        .key_bytes = load_be32(in + FIELD_KEY_BYTES),
        .digest_iterations = load_be32(in + FIELD_DIGEST_ITERATIONS),
    };
    memcpy(header.digest, in + FIELD_DIGEST, LUKS_DIGEST_BYTES);
    memcpy(header.digest_salt, in + FIELD_DIGEST_SALT, LUKS_SALT_BYTES);
    if (header.digest_iterations == 0 || header.digest_iterations > INT32_MAX)
        return error_new("%" PRIu32 " iterations for the key are not valid", header.digest_iterations);
    if (header.payload_offset && header.payload_offset < LUKS_HEADER_BYTES)
        return error_new("the data at offset %" PRIu64 " overlaps the header", header.payload_offset);
    struct error *err = parse_names(in, &header);
    if (!err)
        err = parse_slots(in, &header);
    if (!err)
        *out = header;
    return err;
}

/* Making ------------------------------------------------------------------------------------------------------ */

size_t luks_slot_field(unsigned slot)
{
    return FIELD_SLOTS + slot * LUKS_SLOT_FIELD_BYTES;
}

size_t luks_stripes_bytes(const struct luks_header *header)
{
    return (size_t)align_up((uint64_t)header->key_bytes * LUKS_STRIPES, CIPHER_SECTOR_BYTES);
}

uint64_t luks_header_end(const struct luks_header *header)
{
    uint64_t end = LUKS_HEADER_BYTES;
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        end = max_u64(end, range_end(slot_range(header, i)));
    return end;
}

void luks_header_lay_out(struct luks_header *header, bool detached)
{
    uint64_t step = align_up(luks_stripes_bytes(header), SLOT_ALIGNMENT);
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        header->slots[i].offset = SLOT_ALIGNMENT + i * step;
    header->payload_offset = detached ? 0 : SLOT_ALIGNMENT + LUKS_SLOTS * step;
}

void luks_slot_format(const struct luks_slot *slot, void *data)
{
    uint8_t *out = data;
    store_be32(out + SLOT_STATE, slot->active ? SLOT_ACTIVE : SLOT_INACTIVE);
    store_be32(out + SLOT_ITERATIONS, slot->iterations);
    memcpy(out + SLOT_SALT, slot->salt, LUKS_SALT_BYTES);
    store_be32(out + SLOT_OFFSET, (uint32_t)(slot->offset / CIPHER_SECTOR_BYTES));
    store_be32(out + SLOT_STRIPES, LUKS_STRIPES);
}

static void put_mode(const struct cipher_spec *spec, char out[NAME_BYTES])
{
    const char *mode = q_crypto_cipher_mode_name(spec->mode);
    const char *ivgen = q_crypto_iv_gen_algo_name(spec->ivgen);
    if (spec->ivgen == Q_CRYPTO_IV_GEN_ALGO_ESSIV)
        snprintf(out, NAME_BYTES, "%s-%s:%s", mode, ivgen, q_crypto_hash_algo_name(spec->ivgen_hash));
    else
        snprintf(out, NAME_BYTES, "%s-%s", mode, ivgen);
}

void luks_header_format(const struct luks_header *header, void *data)
{
    uint8_t *out = data;
    memset(out, 0, LUKS_HEADER_BYTES);
    memcpy(out, magic, sizeof(magic));
    store_be16(out + FIELD_VERSION, 1);
    strcpy((char *)out + FIELD_CIPHER, "aes");
    put_mode(&header->cipher, (char *)out + FIELD_MODE);
    strcpy((char *)out + FIELD_HASH, q_crypto_hash_algo_name(header->hash));
    store_be32(out + FIELD_PAYLOAD, (uint32_t)(header->payload_offset / CIPHER_SECTOR_BYTES));
    store_be32(out + FIELD_KEY_BYTES, header->key_bytes);
    memcpy(out + FIELD_DIGEST, header->digest, LUKS_DIGEST_BYTES);
    memcpy(out + FIELD_DIGEST_SALT, header->digest_salt, LUKS_SALT_BYTES);
    store_be32(out + FIELD_DIGEST_ITERATIONS, header->digest_iterations);
    memcpy(out + FIELD_UUID, header->uuid, strnlen(header->uuid, LUKS_UUID_BYTES));
    for (unsigned i = 0; i < LUKS_SLOTS; i++)
        luks_slot_format(&header->slots[i], out + luks_slot_field(i));
}
