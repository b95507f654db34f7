/* The driver 'luks', with qemu-img and qemu-io as witnesses in both directions.
 *
 *     crypt0 (luks) --file--> disk0 (a.luks)              crypt0 --header--> header0 (a.header), --file--> disk0 */
#include "tests/unit/drivers/nodes.h"

#include "blockcore/crypto/luks_header.h"
#include "blockcore/objects/object.h"

#define PASSWORD "open sesame"
#define PAYLOAD 2068480 /* where data begins with aes-256 in mode xts */

static void add_secret(const char *id, const char *data)
{
    struct object_options options = { .qom_type = OBJECT_TYPE_SECRET, .id = id, .u.secret = { .data = data } };
    expect_success(object_add(&options));
}

static void add_secrets(void)
{
    add_secret("sec0", PASSWORD);
    add_secret("wrong", "Open Sesame");
}

static struct blockdev_create_options creation(const char *file, uint64_t size)
{
    return (struct blockdev_create_options){
        .driver = BLOCKDEV_DRIVER_LUKS,
        .u.luks = { .file = by_name(file),
                    .key_secret = "sec0",
                    .size = size,
                    .cipher_alg = Q_CRYPTO_CIPHER_ALGO_AES_256,
                    .cipher_mode = Q_CRYPTO_CIPHER_MODE_XTS,
                    .ivgen_alg = Q_CRYPTO_IV_GEN_ALGO_PLAIN64,
                    .hash_alg = Q_CRYPTO_HASH_ALGO_SHA256,
                    .iter_time = 10 },
    };
}

static struct error *create(struct blockdev_create_options options)
{
    return driver_find("luks")->create(&options);
}

static struct blockdev_options luks_options(const char *secret)
{
    return (struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_LUKS,
        .node_name = "crypt0",
        .u.luks = { .file = by_name("disk0"), .key_secret = secret },
    };
}

/* A new volume of @size bytes, open as crypt0. */
static struct handle *make_volume(uint64_t size)
{
    add_secrets();
    make_file("a.luks", 0);
    add(file_options("disk0", in_dir("a.luks")));
    expect_success(create(creation("disk0", size)));
    add(luks_options("sec0"));
    return open_handle("crypt0", READ_WRITE_RESIZE);
}

static void finish(struct handle *handle)
{
    handle_close(handle);
    blockdev_del_all();
    object_del_all();
}

/* False when QEMU's tools are not installed. */
static bool PRINTF_LIKE(1, 2) witness(const char *format, ...)
{
    char command[600];
    char output[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    int status = run_command(command, output, sizeof(output));
    if (status == 0 && !strstr(output, "Pattern verification failed"))
        return true;
    if (status < 0) {
        print_message("no witness: %s\n", command);
        return false;
    }
    print_error("%s: %s\n", command, output);
    abort();
}

#define QEMU_SECRET "--object secret,id=s,data='" PASSWORD "'"
#define QEMU_IMAGE "driver=luks,key-secret=s,file.filename=%s"

/* What others have made ------------------------------------------------------------------------------------------ */

static void read_foreign(const char *options)
{
    /* Their clock is too coarse for some runs of theirs, for many where the machine is busy. */
    bool there = witness("for i in $(seq 60); do qemu-img create -q " QEMU_SECRET
                         " -f luks -o key-secret=s,iter-time=50%s %s 1M && exit 0; done; exit 1",
                         options, in_dir("a.luks"));
    if (!there)
        return;
    witness("qemu-io " QEMU_SECRET " --image-opts " QEMU_IMAGE " -c 'write -P 0x5a 0 1M' -c 'write -P 0xa5 4608 1024'",
            in_dir("a.luks"));
    add_secrets();
    add(file_options("disk0", in_dir("a.luks")));
    add(luks_options("sec0"));
    struct handle *handle = open_handle("crypt0", READ_WRITE);
    expect_int(node_length(handle_node(handle)), MIB);
    expect(reads_as(handle, 0, 4608, 0x5a));
    expect(reads_as(handle, 4608, 1024, 0xa5));
    expect(reads_as(handle, 5632, MIB - 5632, 0x5a));
    expect_int(put(handle, 1000, 5000, 0x11), 0); /* no multiple of a sector: read, changed, written */
    finish(handle);
    witness("qemu-io " QEMU_SECRET " --image-opts " QEMU_IMAGE
            " -c 'read -P 0x5a 0 1000' -c 'read -P 0x11 1000 5000' -c 'read -P 0x5a 6000 1042576'",
            in_dir("a.luks"));
}

NODE_TEST(volumes_of_qemu_are_read_and_written)
{
    /* Each costs QEMU seconds, and aes-192 crashes it. */
    read_foreign(",cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha1");
    read_foreign(",cipher-alg=aes-128,hash-alg=ripemd160");
}

/* What we make --------------------------------------------------------------------------------------------------- */

static void create_for_others(struct blockdev_create_options options)
{
    add_secrets();
    make_file("a.luks", 12345);
    add(file_options("disk0", in_dir("a.luks")));
    options.u.luks.file = by_name("disk0");
    expect_success(create(options));
    add(luks_options("sec0"));
    struct handle *handle = open_handle("crypt0", READ_WRITE);
    expect_int(put(handle, 0, 3 * MIB, 0x33), 0);
    expect_int(put(handle, 512, 512, 0x44), 0);
    finish(handle);
    witness("qemu-io " QEMU_SECRET " --image-opts " QEMU_IMAGE
            " -c 'read -P 0x33 0 512' -c 'read -P 0x44 512 512' -c 'read -P 0x33 1024 3144704'",
            in_dir("a.luks"));
}

NODE_TEST(what_we_make_qemu_reads)
{
    struct blockdev_create_options options = creation("disk0", 3 * MIB);
    create_for_others(options);
    options.u.luks.cipher_alg = Q_CRYPTO_CIPHER_ALGO_AES_128;
    options.u.luks.hash_alg = Q_CRYPTO_HASH_ALGO_SHA512;
    create_for_others(options);
    options.u.luks.cipher_mode = Q_CRYPTO_CIPHER_MODE_CBC;
    options.u.luks.ivgen_alg = Q_CRYPTO_IV_GEN_ALGO_ESSIV;
    create_for_others(options);
}

/* Random requests against a plain copy; then everything once more, by QEMU. */
NODE_TEST(random_requests_agree_with_a_model)
{
    enum { BYTES = 4 * MIB, LARGEST = 3 * MIB };
    static uint8_t model[BYTES];
    static uint8_t data[LARGEST];
    uint64_t random = 1;
    struct handle *handle = make_volume(BYTES);
    memset(model, 0, sizeof(model));
    expect_int(put(handle, 0, BYTES, 0), 0);
    for (unsigned i = 0; i < 150; i++) {
        size_t bytes = 1 + next_random(&random) % (i % 10 ? 20000 : LARGEST);
        uint64_t offset = next_random(&random) % (BYTES - bytes + 1);
        if (i % 3) {
            for (size_t k = 0; k < bytes; k++)
                data[k] = (uint8_t)next_random(&random);
            memcpy(model + offset, data, bytes);
            expect_int(put_bytes(handle, offset, data, bytes), 0);
        } else {
            expect_int(get_bytes(handle, offset, data, bytes), 0);
            expect(memcmp(model + offset, data, bytes) == 0);
        }
    }
    finish(handle);
    int fd = open(in_dir("model"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    expect(fd >= 0 && write(fd, model, BYTES) == BYTES);
    close(fd);
    witness("qemu-img compare " QEMU_SECRET " --image-opts " QEMU_IMAGE " driver=raw,file.filename=%s",
            in_dir("a.luks"), in_dir("model"));
}

/* Nothing of what is written can be found in the file, and equal sectors are not alike there. */
NODE_TEST(the_file_shows_nothing)
{
    static uint8_t raw[64 * KIB];
    struct handle *handle = make_volume(64 * KIB);
    expect_int(put(handle, 0, 64 * KIB, 'x'), 0);
    struct handle *below = open_handle("disk0", READ);
    expect_int(get_bytes(below, PAYLOAD, raw, sizeof(raw)), 0);
    for (size_t at = 0; at + 512 < sizeof(raw); at += 512) {
        expect(memcmp(raw + at, raw + at + 512, 512) != 0);
        expect(memmem(raw + at, 512, "xxxxxxxx", 8) == NULL);
    }
    handle_close(below);
    finish(handle);
}

NODE_TEST(block_status_is_data_that_lies_nowhere)
{
    struct handle *handle = make_volume(64 * KIB);
    expect_text(map_text(handle, ASK_ALL), "0+64d");
    finish(handle);
}

/* Lengths ---------------------------------------------------------------------------------------------------------- */

NODE_TEST(what_is_added_reads_as_zeroes)
{
    struct handle *handle = make_volume(64 * KIB);
    expect_int(put(handle, 0, 64 * KIB, 1), 0);
    expect_int(handle_truncate(handle, 3 * MIB, TRUNCATE_SPARSE), 0);
    expect(reads_as(handle, 0, 64 * KIB, 1));
    expect(reads_as(handle, 64 * KIB, 3 * MIB - 64 * KIB, 0));
    expect_int(handle_truncate(handle, 4096, TRUNCATE_SPARSE), 0);
    expect_int(handle_truncate(handle, 8 * KIB + 100, TRUNCATE_SPARSE), 0); /* whole sectors */
    expect_int(node_length(handle_node(handle)), 8 * KIB + 512);
    expect(reads_as(handle, 0, 4096, 1));
    expect(reads_as(handle, 4096, 4096 + 512, 0));
    finish(handle);
}

/* A format above writes past the end, as it does on a file. */
NODE_TEST(a_write_behind_the_end_leaves_zeroes_before_it)
{
    struct handle *handle = make_volume(4 * KIB);
    char data[700];
    memset(data, 2, sizeof(data));
    expect_int(append_bytes(handle, 100 * KIB, data, sizeof(data)), 0);
    expect_int(node_length(handle_node(handle)), 100 * KIB + 1024);
    expect(reads_as(handle, 4 * KIB, 96 * KIB, 0));
    expect(reads_as(handle, 100 * KIB, 700, 2));
    expect(reads_as(handle, 100 * KIB + 700, 324, 0));
    finish(handle);
    add_secrets();
    add(file_options("disk0", in_dir("a.luks")));
    add(luks_options("sec0"));
    handle = open_handle("crypt0", READ);
    expect(reads_as(handle, 4 * KIB, 96 * KIB, 0));
    expect(reads_as(handle, 100 * KIB, 700, 2));
    finish(handle);
}

struct append {
    struct handle *handle;
    uint64_t offset;
    int fill;
};

static void append(void *arg)
{
    const struct append *work = arg;
    char data[4096];
    memset(data, work->fill, sizeof(data));
    expect_int(append_bytes(work->handle, work->offset, data, sizeof(data)), 0);
}

NODE_TEST(writes_behind_the_end_do_not_zero_each_other)
{
    struct handle *handle = make_volume(4 * KIB);
    struct append works[16];
    struct co_group group;
    co_group_init(&group);
    for (unsigned i = 0; i < ARRAY_SIZE(works); i++) {
        works[i] = (struct append){ handle, (uint64_t)(16 - i) * 64 * KIB, (int)i + 1 };
        co_group_start(&group, "append", append, &works[i]);
    }
    co_group_join(&group);
    for (unsigned i = 0; i < ARRAY_SIZE(works); i++) {
        expect(reads_as(handle, works[i].offset, 4096, works[i].fill));
        expect(reads_as(handle, works[i].offset - 60 * KIB, 60 * KIB, 0));
    }
    finish(handle);
}

NODE_TEST(a_file_that_ends_inside_a_sector)
{
    struct handle *handle = make_volume(64 * KIB);
    finish(handle);
    expect(truncate(in_dir("a.luks"), PAYLOAD + 1000) == 0);
    add_secrets();
    add(file_options("disk0", in_dir("a.luks")));
    add(luks_options("sec0"));
    expect_int(node_length(node_find("crypt0")), 512);
    expect_success(blockdev_del("crypt0"));
    expect_success(blockdev_del("disk0"));
    expect(truncate(in_dir("a.luks"), PAYLOAD - 1) == 0);
    add(file_options("disk0", in_dir("a.luks")));
    add_fails(luks_options("sec0"), "ends before the data, which begins at 2068480");
    finish(NULL);
}

/* Keys ------------------------------------------------------------------------------------------------------------ */

NODE_TEST(a_volume_opens_with_its_password_only)
{
    struct handle *handle = make_volume(64 * KIB);
    finish(handle);
    add_secrets();
    add(file_options("disk0", in_dir("a.luks")));
    add_fails(luks_options(NULL), "key-secret: is missing");
    add_fails(luks_options("none"), "key-secret: object 'none' not found (a 'secret' is wanted)");
    add_fails(luks_options("wrong"), "invalid password, cannot unlock any key slot");
    add(luks_options("sec0"));
    /* The secret has done its work. */
    object_del_all();
    handle = open_handle("crypt0", READ_WRITE);
    expect_int(put(handle, 0, 64 * KIB, 7), 0);
    expect(reads_as(handle, 0, 64 * KIB, 7));
    finish(handle);
}

NODE_TEST(damaged_headers_are_refused)
{
    finish(make_volume(64 * KIB));
    int fd = open(in_dir("a.luks"), O_RDWR | O_CLOEXEC);
    expect(fd >= 0 && pwrite(fd, "Z", 1, 3) == 1);
    add_secrets();
    add(file_options("disk0", in_dir("a.luks")));
    add_fails(luks_options("sec0"), "not a LUKS volume");
    expect(pwrite(fd, "S", 1, 3) == 1);
    /* One bit of one stripe: the key does not come back. */
    uint8_t byte;
    expect(pread(fd, &byte, 1, 4096 + 100000) == 1);
    byte ^= 1;
    expect(pwrite(fd, &byte, 1, 4096 + 100000) == 1);
    add_fails(luks_options("sec0"), "invalid password");
    close(fd);
    finish(NULL);
}

/* Detached headers --------------------------------------------------------------------------------------------------
 */

NODE_TEST(the_header_may_be_in_a_file_of_its_own)
{
    add_secrets();
    make_file("a.luks", 0);
    make_file("a.header", 0);
    add(file_options("disk0", in_dir("a.luks")));
    add(file_options("header0", in_dir("a.header")));
    struct blockdev_create_options options = creation("disk0", 64 * KIB);
    options.u.luks.header = by_name("header0");
    expect_success(create(options));
    expect_int(node_length(node_find("disk0")), 64 * KIB);
    struct blockdev_options crypt = luks_options("sec0");
    add_fails(crypt, "not a LUKS volume");
    crypt.u.luks.header = by_name("header0");
    add(crypt);
    struct handle *handle = open_handle("crypt0", READ_WRITE_RESIZE);
    expect_int(node_length(handle_node(handle)), 64 * KIB);
    expect_int(put(handle, 0, 64 * KIB, 3), 0);
    expect(reads_as(handle, 0, 64 * KIB, 3));
    handle_close(handle);
    expect_success(blockdev_del("crypt0"));
    /* The header alone has no data behind it. */
    struct blockdev_options wrong = luks_options("sec0");
    wrong.u.luks.file = by_name("header0");
    add_fails(wrong, "the data is elsewhere: it belongs into child 'header'");
    finish(NULL);
}

NODE_TEST(creations_that_make_no_sense_are_refused)
{
    add_secrets();
    make_file("a.luks", 100);
    add(file_options("disk0", in_dir("a.luks")));
    struct blockdev_create_options options = creation("disk0", 1000);
    expect_error(create(options), "size: 1000 is not a multiple of 512");
    options = creation("disk0", UINT64_MAX - 511);
    expect_error(create(options), "is too large");
    options = creation("disk0", MIB);
    options.u.luks.key_secret = NULL;
    expect_error(create(options), "key-secret: is missing");
    options = creation("disk0", MIB);
    options.u.luks.cipher_alg = Q_CRYPTO_CIPHER_ALGO_TWOFISH_256;
    expect_error(create(options), "cipher 'twofish-256' is not supported");
    options = creation("disk0", MIB);
    options.u.luks.has_preallocation = true;
    options.u.luks.preallocation = PREALLOC_MODE_METADATA;
    expect_error(create(options), "preallocation: 'metadata' is not supported");
    options = creation("disk0", MIB);
    options.u.luks.file = NULL;
    expect_error(create(options), "file: is missing");
    expect_int(node_length(node_find("disk0")), 100); /* nothing was touched */
    finish(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(volumes_of_qemu_are_read_and_written),
        cmocka_unit_test(what_we_make_qemu_reads),
        cmocka_unit_test(random_requests_agree_with_a_model),
        cmocka_unit_test(the_file_shows_nothing),
        cmocka_unit_test(block_status_is_data_that_lies_nowhere),
        cmocka_unit_test(what_is_added_reads_as_zeroes),
        cmocka_unit_test(a_write_behind_the_end_leaves_zeroes_before_it),
        cmocka_unit_test(writes_behind_the_end_do_not_zero_each_other),
        cmocka_unit_test(a_file_that_ends_inside_a_sector),
        cmocka_unit_test(a_volume_opens_with_its_password_only),
        cmocka_unit_test(damaged_headers_are_refused),
        cmocka_unit_test(the_header_may_be_in_a_file_of_its_own),
        cmocka_unit_test(creations_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
