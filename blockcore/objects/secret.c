#include "blockcore/objects/secret.h"

#include "blockcore/base/memory.h"
#include "blockcore/crypto/base64.h"
#include "blockcore/crypto/cipher.h"
#include "blockcore/objects/kinds.h"
#include "blockcore/runtime/path_policy.h"
#include "blockcore/runtime/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MASTER_KEY_BYTES 32
#define BLOCK_BYTES 16 /* of AES */

struct secret {
    struct key_bytes *value;
    enum q_crypto_secret_format format;
    char *keyid; /* these as they were given; NULL: not given */
    char *iv;
    char *file;
    int32_t serial;
};

/* What the options of both kinds have in common, and where the bytes are: data, file, or else the key of that number.
 */
struct source {
    enum q_crypto_secret_format format;
    const char *keyid;
    const char *iv;
    const char *data;
    const char *file;
    int32_t serial;
};

static struct error *find_secret(const char *id, struct object **out)
{
    *out = object_find(id);
    if (*out && object_kind_of(*out)->type == OBJECT_TYPE_SECRET_KEYRING)
        return NULL;
    return object_find_type(id, OBJECT_TYPE_SECRET, out);
}

struct error *secret_get(const char *id, struct key_bytes **out)
{
    struct object *object;
    struct error *err = find_secret(id, &object);
    if (err)
        return err;
    const struct secret *secret = object_state(object);
    struct key_bytes *copy = key_bytes_new(secret->value->bytes);
    if (!copy)
        return error_errno(ENOMEM, "secret '%s'", id);
    memcpy(copy->data, secret->value->data, copy->bytes);
    *out = copy;
    return NULL;
}

/* From a file or a keyring ----------------------------------------------------------------------------------------- */

struct reading {
    const struct source *source;
    struct key_bytes *value; /* SECRET_BYTES_MAX + 1 bytes of room */
    size_t bytes;
    struct error *refusal;
};

/* 0 or -errno. */
static int read_file(void *arg)
{
    struct reading *job = arg;
    CLEANUP(close_fd) int fd = path_open(job->source->file, O_RDONLY, 0, &job->refusal);
    if (fd < 0)
        return fd;
    while (job->bytes < job->value->bytes) {
        ssize_t got = read(fd, job->value->data + job->bytes, job->value->bytes - job->bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : 0;
        job->bytes += (size_t)got;
    }
    return -EFBIG;
}

/* The kernel tells the length also where the bytes did not fit. */
static int read_keyring(void *arg)
{
    struct reading *job = arg;
    long got = syscall(SYS_keyctl, KEYCTL_READ, job->source->serial, job->value->data, job->value->bytes, 0);
    if (got < 0)
        return -errno;
    job->bytes = (size_t)got;
    return job->bytes > SECRET_BYTES_MAX ? -EFBIG : 0;
}

static struct error *reading_error(const struct source *source, int ret)
{
    CLEANUP(free)
    char *what = source->file ? xasprintf("file: '%s'", source->file) : xasprintf("serial: key %d", source->serial);
    if (ret == -EFBIG)
        return error_new("%s is longer than %d bytes", what, SECRET_BYTES_MAX);
    return source->file ? error_errno(-ret, "file: cannot read '%s'", source->file)
                        : error_errno(-ret, "serial: cannot read key %d", source->serial);
}

/* In a domain of its own: a file on a server that does not answer costs itself only. */
static struct error *read_source(const struct source *source, struct key_bytes **out)
{
    CLEANUP(key_bytes_free) struct key_bytes *value = key_bytes_new(SECRET_BYTES_MAX + 1);
    struct reading job = { .source = source, .value = value };
    struct pool_domain *domain = pool_domain_create(source->file ? source->file : "keyring", 1);
    int ret = value ? co_blocking(domain, source->file ? read_file : read_keyring, &job) : -ENOMEM;
    pool_domain_unref(domain);
    if (job.refusal)
        return error_wrap(job.refusal, "file");
    if (ret < 0)
        return reading_error(source, ret);
    CLEANUP(key_bytes_free) struct key_bytes *exact = key_bytes_new(job.bytes);
    if (!exact)
        return reading_error(source, -ENOMEM);
    memcpy(exact->data, value->data, job.bytes);
    *out = steal(&exact);
    return NULL;
}

/* Unwrapping ---------------------------------------------------------------------------------------------------- */

/* The memory stays as long as it was; what is behind the value is overwritten. */
static void shorten(struct key_bytes *value, size_t bytes)
{
    explicit_bzero(value->data + bytes, value->bytes - bytes);
    value->bytes = bytes;
}

static struct error *decode(struct key_bytes **value, const char *what)
{
    CLEANUP(key_bytes_free) struct key_bytes *decoded = key_bytes_new(base64_bytes_max((*value)->bytes));
    if (!decoded)
        return error_errno(ENOMEM, "%s", what);
    size_t bytes;
    if (!base64_decode((*value)->data, (*value)->bytes, decoded->data, &bytes))
        return error_new("%s: is not valid base64", what);
    shorten(decoded, bytes);
    key_bytes_free(*value);
    *value = steal(&decoded);
    return NULL;
}

static struct error *parse_vector(const char *text, uint8_t vector[BLOCK_BYTES])
{
    if (!text)
        return error_new("iv: is missing; it goes with keyid");
    size_t length = strlen(text);
    uint8_t bytes[64];
    size_t count;
    if (length > sizeof(bytes) / 2 || !base64_decode((const uint8_t *)text, length, bytes, &count))
        return error_new("iv: is not base64 of %d bytes", BLOCK_BYTES);
    if (count != BLOCK_BYTES)
        return error_new("iv: has %zu bytes, it needs %d", count, BLOCK_BYTES);
    memcpy(vector, bytes, BLOCK_BYTES);
    return NULL;
}

/* The padding tells how long it is; a wrong key shows there, most of the time. */
static struct error *remove_padding(struct key_bytes *value, const char *keyid)
{
    uint8_t padding = value->data[value->bytes - 1];
    bool right = padding >= 1 && padding <= BLOCK_BYTES;
    for (size_t i = 1; right && i <= padding; i++)
        right = value->data[value->bytes - i] == padding;
    if (!right)
        return error_new("cannot be decrypted with secret '%s'", keyid);
    shorten(value, value->bytes - padding);
    return NULL;
}

static struct error *decrypt(const struct source *source, struct key_bytes *value)
{
    uint8_t vector[BLOCK_BYTES];
    CLEANUP(key_bytes_free) struct key_bytes *key = NULL;
    struct error *err = secret_get(source->keyid, &key);
    if (err)
        return error_wrap(err, "keyid");
    if (key->bytes != MASTER_KEY_BYTES)
        return error_new("keyid: secret '%s' has %zu bytes, a key has %d", source->keyid, key->bytes, MASTER_KEY_BYTES);
    err = parse_vector(source->iv, vector);
    if (!err && (value->bytes == 0 || value->bytes % BLOCK_BYTES))
        err = error_new("%zu bytes are not encrypted data: that comes in blocks of %d", value->bytes, BLOCK_BYTES);
    if (!err)
        err = cipher_decrypt_cbc(key->data, vector, value->data, value->bytes);
    return err ? err : remove_padding(value, source->keyid);
}

static struct error *take_bytes(const struct source *source, struct key_bytes **out)
{
    if (!source->data)
        return read_source(source, out);
    size_t bytes = strlen(source->data);
    if (bytes > SECRET_BYTES_MAX)
        return error_new("data: is longer than %d bytes", SECRET_BYTES_MAX);
    struct key_bytes *value = key_bytes_new(bytes);
    if (!value)
        return error_errno(ENOMEM, "data");
    memcpy(value->data, source->data, bytes);
    *out = value;
    return NULL;
}

static struct error *load(const struct source *source, struct key_bytes **out)
{
    CLEANUP(key_bytes_free) struct key_bytes *value = NULL;
    struct error *err = take_bytes(source, &value);
    if (!err && source->format == Q_CRYPTO_SECRET_FORMAT_BASE64)
        err = decode(&value, source->data ? "data" : source->file ? source->file : "serial");
    if (!err && source->keyid)
        err = decrypt(source, value);
    if (!err)
        *out = steal(&value);
    return err;
}

/* The kinds of objects ---------------------------------------------------------------------------------------- */

static struct error *check_keyid(const char *keyid, const char *iv)
{
    uint8_t vector[BLOCK_BYTES];
    return keyid ? parse_vector(iv, vector) : NULL;
}

static struct error *secret_check(const struct object_options *options)
{
    const struct secret_properties *properties = &options->u.secret;
    struct error *err = NULL;
    if (!properties->data == !properties->file)
        err = error_new(properties->data ? "data and file cannot both be given" : "data or file: one is needed");
    else
        err = check_keyid(properties->keyid, properties->iv);
    return error_wrap(err, "secret '%s'", options->id);
}

static struct error *secret_keyring_check(const struct object_options *options)
{
    const struct secret_keyring_properties *properties = &options->u.secret_keyring;
    struct error *err = check_keyid(properties->keyid, properties->iv);
    if (!err && properties->serial == 0)
        err = error_new("serial: 0 is no key");
    return error_wrap(err, "secret '%s'", options->id);
}

static struct error *create_from(struct object *object, const struct source *source) CO_FN CONTROL_FN;

static struct error *create_from(struct object *object, const struct source *source)
{
    struct secret *secret = object_state(object);
    struct error *err = load(source, &secret->value);
    if (err)
        return error_wrap(err, "secret '%s'", object_id(object));
    secret->format = source->format;
    secret->keyid = xstrdup_or_null(source->keyid);
    secret->iv = xstrdup_or_null(source->iv);
    secret->file = xstrdup_or_null(source->file);
    secret->serial = source->serial;
    return NULL;
}

static struct error *secret_create(struct object *object, const struct object_options *options)
{
    const struct secret_properties *properties = &options->u.secret;
    const struct source source = {
        .format = properties->format,
        .keyid = properties->keyid,
        .iv = properties->iv,
        .data = properties->data,
        .file = properties->file,
    };
    return create_from(object, &source);
}

static struct error *secret_keyring_create(struct object *object, const struct object_options *options)
{
    const struct secret_keyring_properties *properties = &options->u.secret_keyring;
    const struct source source = {
        .format = properties->format,
        .keyid = properties->keyid,
        .iv = properties->iv,
        .serial = properties->serial,
    };
    return create_from(object, &source);
}

static void secret_destroy(struct object *object)
{
    struct secret *secret = object_state(object);
    key_bytes_free(secret->value);
    free(secret->keyid);
    free(secret->iv);
    free(secret->file);
}

static void secret_describe(const struct object *object, struct object_options *now, struct arena *arena)
{
    const struct secret *secret = object_state(object);
    (void)arena;
    now->u.secret = (struct secret_properties){
        .has_format = true,
        .format = secret->format,
        .keyid = secret->keyid,
        .iv = secret->iv,
        .file = secret->file,
    };
}

static void secret_keyring_describe(const struct object *object, struct object_options *now, struct arena *arena)
{
    const struct secret *secret = object_state(object);
    (void)arena;
    now->u.secret_keyring = (struct secret_keyring_properties){
        .has_format = true,
        .format = secret->format,
        .keyid = secret->keyid,
        .iv = secret->iv,
        .serial = secret->serial,
    };
}

const struct object_kind secret_kind = {
    .type = OBJECT_TYPE_SECRET,
    .parent = "secret_common",
    .state_size = sizeof(struct secret),
    .check = secret_check,
    .create = secret_create,
    .destroy = secret_destroy,
    .describe = secret_describe,
};

const struct object_kind secret_keyring_kind = {
    .type = OBJECT_TYPE_SECRET_KEYRING,
    .parent = "secret_common",
    .state_size = sizeof(struct secret),
    .check = secret_keyring_check,
    .create = secret_keyring_create,
    .destroy = secret_destroy,
    .describe = secret_keyring_describe,
};
