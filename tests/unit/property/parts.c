#include "tests/unit/property/world.h"

#include "tests/unit/drivers/loop_device.h"

#define SECRET "sec0"
#define GROUP "limits0"

static const enum blockdev_driver drivers[PART_KINDS] = {
    [PART_FILE] = BLOCKDEV_DRIVER_FILE,
    [PART_HOST_DEVICE] = BLOCKDEV_DRIVER_HOST_DEVICE,
    [PART_NULL] = BLOCKDEV_DRIVER_NULL_CO,
    [PART_NULL_AIO] = BLOCKDEV_DRIVER_NULL_AIO,
    [PART_RAW] = BLOCKDEV_DRIVER_RAW,
    [PART_QCOW2] = BLOCKDEV_DRIVER_QCOW2,
    [PART_LUKS] = BLOCKDEV_DRIVER_LUKS,
    [PART_QUORUM] = BLOCKDEV_DRIVER_QUORUM,
    [PART_REMOTE] = BLOCKDEV_DRIVER_NBD,
    [PART_GATE] = BLOCKDEV_DRIVER_GATE,
    [PART_BLKDEBUG] = BLOCKDEV_DRIVER_BLKDEBUG,
    [PART_THROTTLE] = BLOCKDEV_DRIVER_THROTTLE,
    [PART_COPY_ON_READ] = BLOCKDEV_DRIVER_COPY_ON_READ,
    [PART_COMPRESS] = BLOCKDEV_DRIVER_COMPRESS,
    [PART_PREALLOCATE] = BLOCKDEV_DRIVER_PREALLOCATE,
    [PART_LOG_WRITES] = BLOCKDEV_DRIVER_BLKLOGWRITES,
    [PART_COPY_BEFORE_WRITE] = BLOCKDEV_DRIVER_COPY_BEFORE_WRITE,
    [PART_VERIFY] = BLOCKDEV_DRIVER_BLKVERIFY,
};

struct part *part_new(struct world *world, enum part_kind kind)
{
    expect(world->count < PARTS_MAX);
    struct part *part = &world->parts[world->count];
    *part = (struct part){ .kind = kind };
    snprintf(part->name, sizeof(part->name), "n%u", world->count++);
    snprintf(part->about, sizeof(part->about), "%s", blockdev_driver_name(drivers[kind]));
    return part;
}

bool part_is_filter(const struct part *part)
{
    return part->kind >= PART_GATE;
}

/* Options --------------------------------------------------------------------------------------------------------- */

static void refer(struct part *part)
{
    for (int i = 0; i < BELOW_MAX; i++) {
        part->refs[i] = (struct blockdev_ref){ .kind = BLOCKDEV_REF_KIND_REFERENCE };
        part->refs[i].u.reference = part->below[i] ? part->below[i]->name : NULL;
    }
    part->backing_ref.kind = part->backing ? BLOCKDEV_REF_OR_NULL_KIND_REFERENCE : BLOCKDEV_REF_OR_NULL_KIND_NULL;
    if (part->backing)
        part->backing_ref.u.reference = part->backing->name;
    part->encryption = (struct blockdev_qcow2_encryption){ .format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_LUKS,
                                                           .u.luks = { .key_secret = SECRET } };
}

static void image_part_options(struct part *part, struct blockdev_options_qcow2 *own)
{
    own->file = &part->refs[0];
    own->data_file = part->below[1] ? &part->refs[1] : NULL;
    own->backing = &part->backing_ref;
    own->encrypt = part->encrypted ? &part->encryption : NULL;
    if (!part->small_caches)
        return;
    own->has_l2_cache_size = true;
    own->l2_cache_size = 1024;
    own->has_l2_cache_entry_size = true;
    own->l2_cache_entry_size = 512;
}

static void quorum_part_options(struct part *part, struct blockdev_options_quorum *own)
{
    own->children = part->refs;
    own->vote_threshold = 2;
    own->rewrite_corrupted = part->rewrites;
    while (own->children_count < BELOW_MAX && part->below[own->children_count])
        own->children_count++;
}

struct blockdev_options part_options(struct part *part)
{
    refer(part);
    struct blockdev_options options = { .driver = drivers[part->kind], .node_name = part->name };
    options.has_detect_zeroes = true;
    options.detect_zeroes = part->detect_zeroes;
    const struct blockdev_ref *file = &part->refs[0];
    switch (part->kind) {
    case PART_FILE:
        options.u.file.filename = part->path;
        break;
    case PART_HOST_DEVICE:
        options.u.host_device.filename = part->path;
        break;
    case PART_NULL_AIO:
        options.u.null_aio = (struct blockdev_options_null){
            .has_size = true, .size = (int64_t)part->size, .has_read_zeroes = true, .read_zeroes = true
        };
        break;
    case PART_NULL:
        options = null_options(part->name, (int64_t)part->size);
        break;
    case PART_RAW:
        options.u.raw = (struct blockdev_options_raw){ .file = file };
        options.u.raw.has_offset = options.u.raw.has_size = part->windowed;
        options.u.raw.offset = (int64_t)part->offset;
        options.u.raw.size = (int64_t)part->size;
        break;
    case PART_QCOW2:
        image_part_options(part, &options.u.qcow2);
        break;
    case PART_LUKS:
        options.u.luks = (struct blockdev_options_luks){ .file = file, .key_secret = SECRET };
        break;
    case PART_QUORUM:
        quorum_part_options(part, &options.u.quorum);
        break;
    case PART_REMOTE:
        part->server = (struct socket_address){ .type = SOCKET_ADDRESS_TYPE_UNIX, .u.unix_ = { .path = part->path } };
        options.u.nbd = (struct blockdev_options_nbd){ .server = &part->server, .export_ = part->name };
        break;
    case PART_BLKDEBUG:
        options.u.blkdebug =
            (struct blockdev_options_blkdebug){ .image = file, .has_align = part->align, .align = part->align };
        break;
    case PART_THROTTLE:
        options.u.throttle = (struct blockdev_options_throttle){ .throttle_group = GROUP, .file = file };
        break;
    case PART_LOG_WRITES:
        options.u.blklogwrites = (struct blockdev_options_blklogwrites){
            .file = file, .log = &part->refs[1], .log_sector_size = 512, .log_super_update_interval = 4096
        };
        break;
    case PART_COPY_BEFORE_WRITE:
        options.u.copy_before_write = (struct blockdev_options_cbw){ .file = file, .target = &part->refs[1] };
        break;
    case PART_VERIFY:
        options.u.blkverify = (struct blockdev_options_blkverify){ .raw = file, .test = &part->refs[1] };
        break;
    case PART_PREALLOCATE:
        options.u.preallocate = (struct blockdev_options_preallocate){
            .file = file,
            .has_prealloc_size = true,
            .prealloc_size = MIB,
            .has_prealloc_align = true,
            .prealloc_align = 4096,
        };
        break;
    default: /* gate, compress, copy-on-read: nothing but what they stand on */
        options.u.gate.file = file;
    }
    return with_discard(options);
}

static struct error *serve(const struct part *part, const char *name)
{
    return export_add(&(struct block_export_options){
        .type = BLOCK_EXPORT_TYPE_NBD,
        .id = name,
        .node_name = part->name,
        .has_writable = true,
        .writable = true,
        .u.nbd = { .name = name },
    });
}

struct error *part_open(struct part *part)
{
    struct error *err = NULL;
    if (!part || node_find(part->name))
        return NULL;
    for (int i = 0; i < BELOW_MAX && !err; i++)
        err = part_open(part->below[i]);
    if (!err)
        err = part_open(part->backing);
    if (!err && part->kind == PART_REMOTE)
        err = serve(part->below[0], part->name);
    if (err)
        return err;
    struct blockdev_options options = part_options(part);
    return blockdev_add(&options);
}

/* True when the node has been closed, or was. */
static bool try_close(struct part *part)
{
    struct error *err = node_find(part->name) ? blockdev_del(part->name) : NULL;
    bool closed = !err;
    error_free(err);
    if (closed && part->kind == PART_REMOTE && export_find(part->name))
        expect_success(export_del(part->name, BLOCK_EXPORT_REMOVE_MODE_HARD));
    return closed;
}

void close_nodes(struct world *world)
{
    if (!export_next(NULL))
        blockdev_del_all();
    for (bool all = false; !all;) {
        all = true;
        for (unsigned i = 0; i < world->count; i++)
            all = try_close(&world->parts[i]) && all;
    }
}

/* Making ---------------------------------------------------------------------------------------------------------- */

struct part *make_file_part(struct world *world, uint64_t length)
{
    struct part *part = part_new(world, PART_FILE);
    snprintf(part->path, sizeof(part->path), "%s/%s", world->dir, part->name);
    int fd = open(part->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    expect(fd >= 0 && ftruncate(fd, (off_t)length) == 0);
    close(fd);
    snprintf(part->about, sizeof(part->about), "file, %llu bytes at first", (unsigned long long)length);
    expect_success(part_open(part));
    return part;
}

struct shape {
    uint64_t cluster;
    unsigned refcount_bits;
    bool version_2;
    bool subclusters;
    bool preallocated;
    bool encrypted;
    bool zstd;
    bool data_file;
};

/* What is preallocated hides what the image is put on later. */
static struct shape choose_shape(struct world *world, bool overlay)
{
    struct shape shape = { .cluster = UINT64_C(512) << choose(world, chance(world, 8) ? 13 : 8), .refcount_bits = 16 };
    shape.version_2 = chance(world, 5);
    shape.preallocated = !overlay && chance(world, 3);
    if (!shape.version_2) {
        shape.refcount_bits = 1u << choose(world, 7);
        shape.subclusters = chance(world, 3);
        shape.zstd = chance(world, 3);
        shape.data_file = chance(world, 6);
    }
    if (shape.subclusters && shape.cluster < 16384)
        shape.cluster = UINT64_C(16384) << choose(world, 3);
    shape.encrypted = chance(world, 8);
    return shape;
}

static struct error *create_image(struct part *part, const struct shape *shape, uint64_t length)
{
    struct q_crypto_block_create_options encrypt = {
        .format = Q_CRYPTO_BLOCK_FORMAT_LUKS,
        .u.luks = { .key_secret = SECRET, .has_iter_time = true, .iter_time = 10 },
    };
    struct blockdev_create_options options = {
        .driver = BLOCKDEV_DRIVER_QCOW2,
        .u.qcow2 = { .file = by_name(part->below[0]->name), .size = length, .has_version = true },
    };
    struct blockdev_create_options_qcow2 *own = &options.u.qcow2;
    own->version = shape->version_2 ? BLOCKDEV_QCOW2_VERSION_V2 : BLOCKDEV_QCOW2_VERSION_V3;
    own->data_file = part->below[1] ? by_name(part->below[1]->name) : NULL;
    own->has_cluster_size = own->has_refcount_bits = true;
    own->cluster_size = shape->cluster;
    own->refcount_bits = shape->refcount_bits;
    own->has_extended_l2 = own->extended_l2 = shape->subclusters;
    own->has_preallocation = shape->preallocated;
    own->preallocation = PREALLOC_MODE_METADATA;
    own->encrypt = shape->encrypted ? &encrypt : NULL;
    own->has_compression_type = shape->zstd;
    own->compression_type = QCOW2_COMPRESSION_TYPE_ZSTD;
    return driver_find("qcow2")->create(&options);
}

/* The file is closed meanwhile: it gets longer behind our back. */
static void create_image_by_witness(struct part *part, const struct shape *shape, uint64_t length)
{
    expect_success(blockdev_del(part->below[0]->name));
    char options[200];
    snprintf(options, sizeof(options), "cluster_size=%llu,compat=%s,preallocation=%s%s%s",
             (unsigned long long)shape->cluster, shape->version_2 ? "0.10" : "1.1",
             shape->preallocated ? "metadata" : "off", shape->subclusters ? ",extended_l2=on" : "",
             shape->zstd ? ",compression_type=zstd" : "");
    run_program("qemu-img create -q -f qcow2 -o %s,refcount_bits=%u '%s' %llu", options, shape->refcount_bits,
                part->below[0]->path, (unsigned long long)length);
}

struct part *make_image(struct world *world, struct part *file, uint64_t length, bool overlay)
{
    struct shape shape = choose_shape(world, overlay);
    bool own_file = !file;
    if (own_file)
        file = make_file_part(world, 0);
    if (shape.data_file)
        shape.data_file = own_file && !shape.encrypted;
    bool foreign = own_file && !shape.encrypted && !shape.data_file && chance(world, 4);
    struct part *data = shape.data_file ? make_file_part(world, 0) : NULL;
    struct part *part = part_new(world, PART_QCOW2);
    part->below[0] = file;
    part->below[1] = data;
    part->encrypted = shape.encrypted;
    part->small_caches = chance(world, 3);
    part->detect_zeroes = (enum blockdev_detect_zeroes_options)choose(world, 3);
    snprintf(part->about, sizeof(part->about), "qcow2, clusters of %llu, refcounts of %u bits%s%s%s%s%s",
             (unsigned long long)shape.cluster, shape.refcount_bits, shape.version_2 ? ", v2" : "",
             shape.subclusters ? ", subclusters" : "", shape.preallocated ? ", preallocated" : "",
             shape.encrypted ? ", encrypted" : "", foreign ? ", by qemu-img" : "");
    length = align_up(length, 512);
    if (foreign)
        create_image_by_witness(part, &shape, length);
    struct error *err = foreign ? NULL : create_image(part, &shape, length);
    part->made = !err;
    if (!err)
        return part;
    tell("   (no image: %s)", error_message(err));
    error_free(err);
    return NULL;
}

static struct part *make_luks(struct world *world)
{
    struct part *part = part_new(world, PART_LUKS);
    part->below[0] = make_file_part(world, 0);
    struct blockdev_create_options options = {
        .driver = BLOCKDEV_DRIVER_LUKS,
        .u.luks = { .file = by_name(part->below[0]->name),
                    .key_secret = SECRET,
                    .size = 512 * (1 + choose(world, LENGTH_MAX / 1024)),
                    .cipher_alg = Q_CRYPTO_CIPHER_ALGO_AES_256,
                    .cipher_mode = Q_CRYPTO_CIPHER_MODE_XTS,
                    .ivgen_alg = Q_CRYPTO_IV_GEN_ALGO_PLAIN64,
                    .hash_alg = Q_CRYPTO_HASH_ALGO_SHA256,
                    .iter_time = 10 },
    };
    expect_success(driver_find("luks")->create(&options));
    return part;
}

static struct part *make_quorum(struct world *world)
{
    struct part *part = part_new(world, PART_QUORUM);
    uint64_t length = 1 + choose(world, LENGTH_MAX / 2);
    unsigned count = 2 + (unsigned)choose(world, 2);
    part->rewrites = chance(world, 2);
    for (unsigned i = 0; i < count; i++)
        part->below[i] = make_file_part(world, length);
    return part;
}

static struct part *make_device(struct world *world)
{
    struct loop_device device;
    struct part *file = make_file_part(world, 512 * (1 + choose(world, LENGTH_MAX / 1024)));
    if (!loop_attach(&device, file->path, false))
        return file;
    struct part *part = part_new(world, PART_HOST_DEVICE);
    snprintf(part->path, sizeof(part->path), "%s", device.path);
    world->loop = device.fd;
    return part;
}

static struct part *make_null(struct world *world)
{
    struct part *part = part_new(world, chance(world, 2) ? PART_NULL : PART_NULL_AIO);
    part->size = 1 + choose(world, LENGTH_MAX / 2);
    return part;
}

struct part *make_bottom(struct world *world)
{
    switch (choose(world, 13)) {
    case 0:
        return make_luks(world);
    case 1:
        return make_quorum(world);
    case 2:
        return make_null(world);
    case 3:
        return make_device(world);
    case 4:
    case 5:
        return make_file_part(world, 1 + choose(world, LENGTH_MAX / 2));
    default: {
        struct part *image = NULL;
        while (!image)
            image = make_image(world, NULL, 512 * (1 + choose(world, LENGTH_MAX / 1024)), false);
        return image;
    }
    }
}

struct part *make_filter(struct world *world, struct part *part)
{
    static const enum part_kind kinds[] = {
        PART_GATE,         PART_BLKDEBUG, PART_BLKDEBUG,    PART_THROTTLE,
        PART_COPY_ON_READ, PART_COMPRESS, PART_PREALLOCATE, PART_LOG_WRITES,
    };
    enum part_kind kind = kinds[choose(world, ARRAY_SIZE(kinds))];
    struct part *log = kind == PART_LOG_WRITES ? make_file_part(world, 0) : NULL;
    struct part *filter = part_new(world, kind);
    filter->below[0] = part;
    filter->below[1] = log;
    filter->detect_zeroes =
        chance(world, 4) ? BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP : BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    if (kind == PART_BLKDEBUG && chance(world, 2)) {
        filter->align = 1u << choose(world, 13);
        snprintf(filter->about, sizeof(filter->about), "blkdebug, units of %u", filter->align);
    }
    return filter;
}
