/* images - tests of qcow2 with real files, and qemu-img as a witness that we did not write
 *
 *     NODE_TEST(a_write_can_be_read)
 *     {
 *         qemu_img("create -f qcow2 %s 1M", in_dir("a.qcow2"));
 *         add_image("disk", in_dir("a.qcow2"));
 *         ...
 *         remove_image("disk");
 *         check_image("a.qcow2");                       qemu-img check finds neither corruption nor leaks
 *     } */
#ifndef CAIRN_TESTS_QCOW2_IMAGES_H
#define CAIRN_TESTS_QCOW2_IMAGES_H

#include "blockcore/drivers/drivers.h"
#include "tests/unit/drivers/nodes.h"

#include <stdarg.h>

/* Numbers that are the same in each run with the same CAIRN_TEST_SEED; one sequence for all files of a program. */
__attribute__((weak)) uint64_t random_state = 1;

static inline void random_seed(uint64_t seed)
{
    const char *given = getenv("CAIRN_TEST_SEED");
    random_state = (given ? strtoull(given, NULL, 0) : 0x5eed) * 1000003 + seed;
}

static inline uint64_t random_below(uint64_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random_state >> 20) % limit;
}

/* qemu-img ---------------------------------------------------------------------------------------------------- */

static inline __attribute__((format(printf, 1, 2))) int try_qemu_img(const char *format, ...)
{
    char line[600] = "qemu-img ";
    va_list args;
    va_start(args, format);
    vsnprintf(line + strlen(line), sizeof(line) - strlen(line), format, args);
    va_end(args);
    char output[4096];
    int status = run_command(line, output, sizeof(output));
    if (status != 0)
        print_message("%s\n%s", line, output);
    return status;
}

#define qemu_img(...) expect_int(try_qemu_img(__VA_ARGS__), 0)

/* Neither corruption nor leaks. */
static inline void check_image(const char *name)
{
    qemu_img("check -q -f qcow2 '%s'", in_dir(name));
}

/* Nodes ------------------------------------------------------------------------------------------------------- */

/* A node of a file, inside of options; valid until the eighth call from now. */
static inline struct blockdev_ref *on_file(const char *path)
{
    static struct blockdev_options options[8];
    static struct blockdev_ref refs[8];
    static char paths[8][128];
    static unsigned next;
    unsigned i = next++ % 8;
    snprintf(paths[i], sizeof(paths[i]), "%s", path);
    options[i] = file_options(NULL, paths[i]);
    refs[i] = (struct blockdev_ref){ .kind = BLOCKDEV_REF_KIND_DEFINITION, .u.definition = &options[i] };
    return &refs[i];
}

static inline struct blockdev_options image_options(const char *node_name, const char *path)
{
    return with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_QCOW2,
        .node_name = node_name,
        .u.qcow2 = { .file = on_file(path) },
    });
}

static inline void add_image(const char *node_name, const char *path)
{
    add(image_options(node_name, path));
}

static inline void remove_image(const char *node_name)
{
    expect_success(blockdev_del(node_name));
}

static inline struct blockdev_options read_only(struct blockdev_options options)
{
    options.has_read_only = true;
    options.read_only = true;
    return options;
}

/* Whole clusters, or up to the end of the disk. */
static inline int put_compressed(struct handle *handle, uint64_t offset, const void *data, size_t bytes)
{
    struct iovec storage;
    struct iov iov = iov_of(&storage, (void *)(uintptr_t)data, bytes);
    return handle_pwritev(handle, range_make(offset, bytes), &iov, REQ_COMPRESSED);
}

/* Bytes that nothing can make fewer of. */
static inline void fill_noise(unsigned char *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        data[i] = (unsigned char)random_below(256);
}

/* Does the whole disk read as these bytes? */
static inline void expect_content(struct handle *handle, const unsigned char *expected, size_t bytes)
{
    unsigned char *data = malloc(bytes);
    expect(data);
    expect_int(get_bytes(handle, 0, data, bytes), 0);
    for (size_t i = 0; i < bytes; i++) {
        if (data[i] != expected[i]) {
            print_error("byte %zu is 0x%02x, not 0x%02x\n", i, data[i], expected[i]);
            abort();
        }
    }
    free(data);
}

static inline void save(const char *name, const void *data, size_t bytes)
{
    int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    expect(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    close(fd);
}

#endif
