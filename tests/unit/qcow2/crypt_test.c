/* Encrypted images, with QEMU's tools as witnesses in both directions. */
#include "blockcore/io/snapshot.h"
#include "blockcore/objects/object.h"
#include "tests/unit/qcow2/images.h"

#define PASSWORD "open sesame"
#define SECRET "--object secret,id=s,data='" PASSWORD "'"
#define IMAGE "driver=qcow2,encrypt.format=%s,encrypt.key-secret=s,file.filename=%s"

static void add_secret(const char *id, const char *data)
{
    struct object_options options = { .qom_type = OBJECT_TYPE_SECRET, .id = id, .u.secret = { .data = data } };
    if (!object_find(id))
        expect_success(object_add(&options));
}

static struct blockdev_qcow2_encryption *luks_with(const char *secret)
{
    static struct blockdev_qcow2_encryption encrypt;
    encrypt = (struct blockdev_qcow2_encryption){ .format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_LUKS,
                                                  .u.luks.key_secret = secret };
    return &encrypt;
}

static struct blockdev_qcow2_encryption *aes_with(const char *secret)
{
    static struct blockdev_qcow2_encryption encrypt;
    encrypt = (struct blockdev_qcow2_encryption){ .format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_AES,
                                                  .u.aes.key_secret = secret };
    return &encrypt;
}

static struct blockdev_options encrypted(const char *name, struct blockdev_qcow2_encryption *encrypt)
{
    struct blockdev_options options = image_options("disk", in_dir(name));
    options.u.qcow2.encrypt = encrypt;
    return options;
}

static struct handle *open_luks(const char *name)
{
    add_secret("sec0", PASSWORD);
    add(encrypted(name, luks_with("sec0")));
    return open_handle("disk", READ_WRITE_RESIZE);
}

/* Neither corruption nor leaks. */
static void check_encrypted(const char *format, const char *name)
{
    qemu_img("check -q " SECRET " --image-opts '" IMAGE "'", format, in_dir(name));
}

static void close_disk(struct handle *disk, const char *name)
{
    handle_close(disk);
    remove_image("disk");
    object_del_all();
    check_encrypted("luks", name);
}

/* What qemu-io reads; @format: "luks" or "aes". */
static void qemu_reads(const char *format, const char *name, const char *commands)
{
    char line[600];
    char output[4096];
    snprintf(line, sizeof(line), "qemu-io " SECRET " --image-opts '" IMAGE "' %s", format, in_dir(name), commands);
    int status = run_command(line, output, sizeof(output));
    if (status != 0 || strstr(output, "failed")) {
        print_error("%s\n%s\n", line, output);
        abort();
    }
}

static void qemu_compares(const char *name, const char *raw)
{
    qemu_img("compare -q " SECRET " --image-opts '" IMAGE "' driver=raw,file.filename='%s'", "luks", in_dir(name),
             in_dir(raw));
}

/* New images ------------------------------------------------------------------------------------------------------ */

static struct q_crypto_block_create_options luks_creation = {
    .format = Q_CRYPTO_BLOCK_FORMAT_LUKS,
    .u.luks = { .key_secret = "sec0",
                .cipher_alg = Q_CRYPTO_CIPHER_ALGO_AES_256,
                .cipher_mode = Q_CRYPTO_CIPHER_MODE_XTS,
                .ivgen_alg = Q_CRYPTO_IV_GEN_ALGO_PLAIN64,
                .hash_alg = Q_CRYPTO_HASH_ALGO_SHA256,
                .iter_time = 10 },
};

static struct blockdev_create_options creation(uint64_t size)
{
    return (struct blockdev_create_options){
        .driver = BLOCKDEV_DRIVER_QCOW2,
        .u.qcow2 = { .file = by_name("file"), .size = size, .encrypt = &luks_creation },
    };
}

static struct error *create(const char *name, struct blockdev_create_options options)
{
    make_file(name, 0);
    add_secret("sec0", PASSWORD);
    add(file_options("file", in_dir(name)));
    options.u.qcow2.file = by_name("file");
    struct error *err = qcow2_driver.create(&options);
    remove_image("file");
    return err;
}

static struct handle *make_image(const char *name, struct blockdev_create_options options)
{
    expect_success(create(name, options));
    check_encrypted("luks", name);
    return open_luks(name);
}

/* Made, checked, read as zeroes, written, checked again, and read by QEMU. */
static void create_and_use(struct blockdev_create_options options)
{
    struct handle *disk = make_image("a.qcow2", options);
    expect(reads_as(disk, 0, 4 * MIB, 0));
    expect_int(put(disk, 5000, 3 * MIB, 0x21), 0);
    expect_int(handle_pwrite_zeroes(disk, range_make(MIB, MIB), 0), 0);
    expect(reads_as(disk, 0, 5000, 0) && reads_as(disk, 5000, MIB - 5000, 0x21) && reads_as(disk, MIB, MIB, 0));
    close_disk(disk, "a.qcow2");
    qemu_reads("luks", "a.qcow2",
               "-c 'read -P 0 0 5000' -c 'read -P 0x21 5000 1043576' -c 'read -P 0 1M 1M' -c 'read -P 0x21 2M 1053576' "
               "-c 'read -P 0 3150728 1043576'");
}

NODE_TEST(images_of_each_kind_are_made)
{
    struct blockdev_create_options options = creation(4 * MIB);
    create_and_use(options);
    options.u.qcow2.has_cluster_size = true;
    options.u.qcow2.cluster_size = 512;
    create_and_use(options);
    options.u.qcow2.cluster_size = 2 * MIB;
    create_and_use(options);
    options.u.qcow2.has_version = true;
    options.u.qcow2.version = BLOCKDEV_QCOW2_VERSION_V2;
    create_and_use(options);
}

NODE_TEST(preallocated_images_read_as_zeroes)
{
    struct blockdev_create_options options = creation(4 * MIB);
    options.u.qcow2.has_preallocation = true;
    options.u.qcow2.preallocation = PREALLOC_MODE_METADATA;
    create_and_use(options);
    options.u.qcow2.has_extended_l2 = true;
    options.u.qcow2.extended_l2 = true;
    create_and_use(options);
    options.u.qcow2.preallocation = PREALLOC_MODE_FULL;
    create_and_use(options);
}

NODE_TEST(images_that_cannot_be_made)
{
    struct blockdev_create_options options = creation(4 * MIB);
    struct q_crypto_block_create_options encrypt = luks_creation;
    options.u.qcow2.encrypt = &encrypt;
    encrypt.u.luks.key_secret = NULL;
    expect_error(create("a.qcow2", options), "encrypt.key-secret: is missing");
    encrypt.u.luks.key_secret = "none";
    expect_error(create("a.qcow2", options), "encrypt.key-secret: object 'none' not found");
    encrypt = luks_creation;
    encrypt.u.luks.cipher_alg = Q_CRYPTO_CIPHER_ALGO_SERPENT_128;
    expect_error(create("a.qcow2", options), "encrypt: cipher 'serpent-128' is not supported");
    encrypt.format = Q_CRYPTO_BLOCK_FORMAT_QCOW;
    expect_error(create("a.qcow2", options), "encrypt.format: 'qcow' is unsafe");
    options = creation(4 * MIB);
    options.u.qcow2.has_version = true;
    options.u.qcow2.version = BLOCKDEV_QCOW2_VERSION_V2;
    options.u.qcow2.has_preallocation = true;
    options.u.qcow2.preallocation = PREALLOC_MODE_METADATA;
    expect_error(create("a.qcow2", options), "preallocation: of an encrypted image needs version 'v3'");
    object_del_all();
}

/* What others have made ------------------------------------------------------------------------------------------- */

NODE_TEST(an_image_of_qemu_is_read_and_written)
{
    char options[] = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=50,cluster_size=4k";
    int attempts = 0; /* their clock is too coarse to measure short times */
    while (try_qemu_img("create -q " SECRET " -f qcow2 -o %s '%s' 2M", options, in_dir("a.qcow2")) != 0)
        expect(++attempts < 20);
    qemu_reads("luks", "a.qcow2", "-c 'write -P 5 0 1M' -c 'write -P 6 9k 3k' -c 'write -z 64k 64k'");
    struct handle *disk = open_luks("a.qcow2");
    expect(reads_as(disk, 0, 9 * KIB, 5) && reads_as(disk, 9 * KIB, 3 * KIB, 6));
    expect(reads_as(disk, 64 * KIB, 64 * KIB, 0) && reads_as(disk, 128 * KIB, 896 * KIB, 5));
    expect_int(put(disk, 1000, 100, 7), 0);                  /* in place */
    expect_int(put(disk, 64 * KIB + 1000, 100, 8), 0);       /* in a cluster that read as zeroes */
    expect_int(put(disk, MIB + 512 * KIB + 100, 100, 9), 0); /* in a new cluster */
    close_disk(disk, "a.qcow2");
    qemu_reads(
        "luks", "a.qcow2",
        "-c 'read -P 5 0 1000' -c 'read -P 7 1000 100' -c 'read -P 5 1100 8116' -c 'read -P 0 64k 1000' "
        "-c 'read -P 8 66536 100' -c 'read -P 0 66636 64436' -c 'read -P 9 1572964 100' -c 'read -P 0 1573064 1000'");
}

/* The password is the key. There is nothing that tells a wrong one. */
NODE_TEST(an_image_with_the_old_cipher_is_read_and_written)
{
    qemu_img("create -q " SECRET " -f qcow2 -o encrypt.format=aes,encrypt.key-secret=s,cluster_size=4k '%s' 1M",
             in_dir("a.qcow2"));
    qemu_reads("aes", "a.qcow2", "-c 'write -P 5 0 512k' -c 'write -P 6 9k 3k'");
    add_secret("sec0", PASSWORD);
    add(encrypted("a.qcow2", aes_with("sec0")));
    struct handle *disk = open_handle("disk", READ_WRITE);
    expect(reads_as(disk, 0, 9 * KIB, 5) && reads_as(disk, 9 * KIB, 3 * KIB, 6));
    expect_int(put(disk, 1000, 100, 7), 0);
    expect_int(put(disk, 700 * KIB + 100, 5000, 9), 0);
    handle_close(disk);
    remove_image("disk");
    object_del_all();
    check_encrypted("aes", "a.qcow2");
    qemu_reads("aes", "a.qcow2",
               "-c 'read -P 5 0 1000' -c 'read -P 7 1000 100' -c 'read -P 0 700k 100' -c 'read -P 9 716900 5000' "
               "-c 'read -P 0 721900 1000'");
    add_secret("wrong", "Open Sesame");
    add(encrypted("a.qcow2", aes_with("wrong")));
    disk = open_handle("disk", READ);
    expect(!reads_as(disk, 0, 512, 5));
    expect(reads_as(disk, 600 * KIB, 4096, 0));
    handle_close(disk);
    remove_image("disk");
    object_del_all();
    check_encrypted("aes", "a.qcow2");
}

/* Requests -------------------------------------------------------------------------------------------------------- */

#define DISK (2 * MIB)

static uint8_t model[DISK];

static void random_request(struct handle *disk)
{
    static uint8_t data[DISK];
    size_t bytes = 1 + random_below(random_below(8) ? 20000 : 600 * KIB);
    uint64_t offset = random_below(DISK - bytes + 1);
    switch (random_below(6)) {
    case 0:
        expect_int(handle_pwrite_zeroes(disk, range_make(offset, bytes), random_below(2) ? REQ_MAY_UNMAP : 0), 0);
        memset(model + offset, 0, bytes);
        break;
    case 1:
        expect_int(get_bytes(disk, offset, data, bytes), 0);
        expect(memcmp(data, model + offset, bytes) == 0);
        break;
    default:
        fill_noise(data, bytes);
        expect_int(put_bytes(disk, offset, data, bytes), 0);
        memcpy(model + offset, data, bytes);
    }
}

/* On a backing file that is not encrypted, and shorter. */
static void random_requests(struct blockdev_create_options options, uint64_t seed)
{
    random_seed(seed);
    fill_noise(model, DISK);
    memset(model + DISK - 100 * KIB, 0, 100 * KIB);
    save("base.raw", model, DISK - 100 * KIB);
    options.u.qcow2.backing_file = in_dir("base.raw");
    options.u.qcow2.has_backing_fmt = true;
    options.u.qcow2.backing_fmt = BLOCKDEV_DRIVER_RAW;
    struct handle *disk = make_image("a.qcow2", options);
    for (unsigned i = 0; i < 300; i++)
        random_request(disk);
    expect_content(disk, model, DISK);
    close_disk(disk, "a.qcow2");
    save("model.raw", model, DISK);
    qemu_compares("a.qcow2", "model.raw");
}

NODE_TEST(random_requests_agree_with_a_model)
{
    struct blockdev_create_options options = creation(DISK);
    random_requests(options, 1);
    options.u.qcow2.has_cluster_size = true;
    options.u.qcow2.cluster_size = 512;
    random_requests(options, 2);
    options.u.qcow2.cluster_size = 64 * KIB;
    options.u.qcow2.has_extended_l2 = true;
    options.u.qcow2.extended_l2 = true;
    random_requests(options, 3);
}

NODE_TEST(snapshots_and_lengths)
{
    struct handle *disk = make_image("a.qcow2", creation(DISK));
    expect_int(put(disk, 0, DISK, 1), 0);
    expect_success(node_snapshot_create(node_find("disk"), "first"));
    expect_int(put(disk, 1000, MIB, 2), 0);
    expect(reads_as(disk, 0, 1000, 1) && reads_as(disk, 1000, MIB, 2) && reads_as(disk, MIB + 1000, 1000, 1));
    handle_close(disk);
    expect_success(node_snapshot_apply(node_find("disk"), NULL, "first"));
    disk = open_handle("disk", READ_WRITE_RESIZE);
    expect(reads_as(disk, 0, DISK, 1));
    close_disk(disk, "a.qcow2");

    disk = make_image("b.qcow2", creation(DISK));
    expect_int(put(disk, 0, DISK, 1), 0);
    for (int mode = TRUNCATE_SPARSE; mode <= TRUNCATE_FULL; mode++) {
        expect_int(handle_truncate(disk, MIB + 512, TRUNCATE_SPARSE), 0);
        expect_int(handle_truncate(disk, DISK + 1024, (enum truncate_mode)mode), 0);
        expect(reads_as(disk, 0, MIB + 512, 1));
        expect(reads_as(disk, MIB + 512, DISK + 512 - MIB, 0));
    }
    close_disk(disk, "b.qcow2");
    qemu_reads("luks", "b.qcow2", "-c 'read -P 1 0 1049088' -c 'read -P 0 1049088 1049088'");
}

/* Bytes of the guest lie nowhere as they are, and cannot be written as they are by somebody else. */
NODE_TEST(block_status_has_no_mapping)
{
    struct handle *disk = make_image("a.qcow2", creation(256 * KIB));
    expect_int(put(disk, 0, 64 * KIB, 1), 0);
    expect_int(put(disk, 64 * KIB, 64 * KIB, 1), 0);
    expect_int(handle_pwrite_zeroes(disk, range_make(64 * KIB, 64 * KIB), 0), 0);
    expect_text(map_text(disk, ASK_ALL), "0+64d 64+64z 128+128z");
    uint8_t cluster[64 * KIB] = { 1 };
    expect_int(put_compressed(disk, 128 * KIB, cluster, sizeof(cluster)), -ENOTSUP);
    close_disk(disk, "a.qcow2");
}

NODE_TEST(the_file_shows_nothing)
{
    struct handle *disk = make_image("a.qcow2", creation(MIB));
    expect_int(put(disk, 100, 200 * KIB, 'x'), 0);
    expect_int(handle_truncate(disk, MIB + 64 * KIB, TRUNCATE_FULL), 0);
    close_disk(disk, "a.qcow2");
    char command[300];
    char output[100];
    snprintf(command, sizeof(command), "grep -q xxxxxxxx '%s'", in_dir("a.qcow2"));
    expect_int(run_command(command, output, sizeof(output)), 1);
}

/* Opening --------------------------------------------------------------------------------------------------------- */

NODE_TEST(an_image_opens_with_its_password_only)
{
    close_disk(make_image("a.qcow2", creation(MIB)), "a.qcow2");
    add_secret("sec0", PASSWORD);
    add_secret("wrong", "Open Sesame");
    add_fails(encrypted("a.qcow2", NULL), "encrypt: is missing; the image is encrypted with format 'luks'");
    add_fails(encrypted("a.qcow2", luks_with(NULL)), "encrypt.key-secret: is missing");
    add_fails(encrypted("a.qcow2", luks_with("none")), "encrypt.key-secret: object 'none' not found");
    add_fails(encrypted("a.qcow2", luks_with("wrong")), "invalid password, cannot unlock any key slot");
    add_fails(encrypted("a.qcow2", aes_with("sec0")), "encrypt.format: the image is encrypted with format 'luks'");
    qemu_img("create -q -f qcow2 '%s' 1M", in_dir("plain.qcow2"));
    add_fails(encrypted("plain.qcow2", luks_with("sec0")), "encrypt: the image is not encrypted");
    object_del_all();
}

/* @bytes at @offset, and back. */
static void damage(uint64_t offset, const void *bytes, size_t count, const char *why)
{
    uint8_t before[64];
    int fd = open(in_dir("a.qcow2"), O_RDWR | O_CLOEXEC);
    expect(fd >= 0 && count <= sizeof(before));
    expect(pread(fd, before, count, (off_t)offset) == (ssize_t)count);
    expect(pwrite(fd, bytes, count, (off_t)offset) == (ssize_t)count);
    add_fails(encrypted("a.qcow2", luks_with("sec0")), why);
    expect(pwrite(fd, before, count, (off_t)offset) == (ssize_t)count);
    close(fd);
}

NODE_TEST(damaged_headers_are_refused)
{
    enum { EXTENSION = 112, LUKS = 4 * 64 * KIB };
    close_disk(make_image("a.qcow2", creation(MIB)), "a.qcow2");
    add_secret("sec0", PASSWORD);
    damage(EXTENSION, "\x11\x22\x33\x44", 4, "does not say where the LUKS header is");
    damage(EXTENSION + 4, "\0\0\0\x08", 4, "the encryption extension is 8 bytes long");
    damage(EXTENSION + 8, "\0\0\0\0\0\0\0\1", 8, "the LUKS header at offset 1 does not start at a cluster");
    damage(EXTENSION + 8, "\0\0\0\0\0\0\0\0", 8, "the LUKS header overlaps the header");
    damage(EXTENSION + 8, "\x7f\0\0\0\0\0\0\0", 8, "ends outside of any file");
    damage(EXTENSION + 8, "\0\0\0\0\x7f\0\0\0", 8, "not a LUKS volume");
    damage(EXTENSION + 16, "\0\0\0\0\0\0\x10\0", 8, "key slots lie behind the end of the LUKS header");
    damage(EXTENSION + 16, "\0\0\0\0\0\0\0\x08", 8, "cannot read the LUKS header");
    damage(LUKS, "nothing", 7, "not a LUKS volume");
    damage(LUKS + 4096 + 777, "nothing", 7, "invalid password");
    damage(32, "\0\0\0\x03", 4, "encryption method 3 is not supported");
    damage(31, "\1", 1, "ends inside a sector");
    add(encrypted("a.qcow2", luks_with("sec0")));
    remove_image("disk");
    object_del_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_of_each_kind_are_made),
        cmocka_unit_test(preallocated_images_read_as_zeroes),
        cmocka_unit_test(images_that_cannot_be_made),
        cmocka_unit_test(an_image_of_qemu_is_read_and_written),
        cmocka_unit_test(an_image_with_the_old_cipher_is_read_and_written),
        cmocka_unit_test(random_requests_agree_with_a_model),
        cmocka_unit_test(snapshots_and_lengths),
        cmocka_unit_test(block_status_has_no_mapping),
        cmocka_unit_test(the_file_shows_nothing),
        cmocka_unit_test(an_image_opens_with_its_password_only),
        cmocka_unit_test(damaged_headers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
