/* nodes - tests of drivers with the real graph: nodes from options, requests through handles, files to stand on
 *
 *     NODE_TEST(a_window_hides_the_rest)
 *     {
 *         make_file("a.img", 1000);                     in a directory of the test's own
 *         add(file_options("disk", in_dir("a.img")));
 *         struct handle *handle = open_handle("disk", PERM_CONSISTENT_READ);
 *         ...
 *     }                                                 nodes are closed, the directory is removed */
#ifndef CAIRN_TESTS_NODES_H
#define CAIRN_TESTS_NODES_H

#include "blockcore/base/iov.h"
#include "blockcore/graph/change.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/handle.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/block_status.h"
#include "blockcore/io/request.h"
#include "schema/cairn_types.h"
#include "tests/unit/runtime/co_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB 1024
#define MIB (1024 * 1024)
#define GIB (UINT64_C(1) << 30)

#define READ PERM_CONSISTENT_READ
#define READ_WRITE (PERM_CONSISTENT_READ | PERM_WRITE)
#define READ_WRITE_RESIZE (PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE)

#define NODE_TEST(name)                                                                                                \
    static void name##_in_dir(void);                                                                                   \
    CO_TEST(name)                                                                                                      \
    {                                                                                                                  \
        with_directory(name##_in_dir);                                                                                 \
    }                                                                                                                  \
    static void name##_in_dir(void)

/* One for the program, however many of its files include this. Empty outside of with_directory(). */
__attribute__((weak)) char test_dir[64];

static inline void with_directory(void (*body)(void))
{
    const char *base = getenv("CAIRN_TEST_DIR");
    snprintf(test_dir, sizeof(test_dir), "%s/cairn-test-XXXXXX", base ? base : "/tmp");
    expect(mkdtemp(test_dir));
    expect(chmod(test_dir, 0755) == 0);
    body();
    blockdev_del_all();
    char command[96];
    snprintf(command, sizeof(command), "rm -rf '%s'", test_dir);
    expect(system(command) == 0);
    test_dir[0] = '\0';
}

/* The path of a file of the test; valid until the eighth call from now. */
static inline char *in_dir(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    expect(test_dir[0]); /* else it would be a file of the root directory, shared with who knows whom */
    expect(snprintf(path, sizeof(paths[0]), "%s/%s", test_dir, name) < (int)sizeof(paths[0]));
    return path;
}

static inline void make_file(const char *name, uint64_t bytes)
{
    int fd = open(in_dir(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    expect(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    close(fd);
}

/* Errors ------------------------------------------------------------------------------------------------------- */

static inline void expect_success(struct error *err)
{
    if (err) {
        print_error("unexpected error: %s\n", error_message(err));
        abort();
    }
}

static inline void expect_error(struct error *err, const char *part)
{
    expect(err);
    if (!strstr(error_message(err), part)) {
        print_error("\"%s\" does not contain \"%s\"\n", error_message(err), part);
        abort();
    }
    error_free(err);
}

/* A descriptor of this process that leads to @path, or -1. */
static inline int find_descriptor(const char *path)
{
    char fd_path[64];
    char target[256];
    for (int fd = 0; fd < 256; fd++) {
        snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", fd);
        ssize_t length = readlink(fd_path, target, sizeof(target) - 1);
        if (length > 0 && strlen(path) == (size_t)length && memcmp(target, path, (size_t)length) == 0)
            return fd;
    }
    return -1;
}

/* Nodes -------------------------------------------------------------------------------------------------------- */

static inline void add(struct blockdev_options options)
{
    expect_success(blockdev_add(&options));
}

static inline void add_fails(struct blockdev_options options, const char *part)
{
    expect_error(blockdev_add(&options), part);
}

static inline struct blockdev_options file_options(const char *node_name, const char *filename)
{
    return (struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_FILE,
        .node_name = node_name,
        .u.file = { .filename = filename },
    };
}

static inline struct blockdev_options null_options(const char *node_name, int64_t bytes)
{
    return (struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_NULL_CO,
        .node_name = node_name,
        .u.null_co = { .has_size = true, .size = bytes, .has_read_zeroes = true, .read_zeroes = true },
    };
}

/* Discards are ignored by default. */
static inline struct blockdev_options with_discard(struct blockdev_options options)
{
    options.has_discard = true;
    options.discard = BLOCKDEV_DISCARD_OPTIONS_UNMAP;
    return options;
}

/* A reference by name; valid until the eighth call from now. */
static inline struct blockdev_ref *by_name(const char *node_name)
{
    static struct blockdev_ref refs[8];
    static unsigned next;
    struct blockdev_ref *ref = &refs[next++ % 8];
    *ref = (struct blockdev_ref){ .kind = BLOCKDEV_REF_KIND_REFERENCE, .u.reference = node_name };
    return ref;
}

static inline struct handle *open_handle(const char *node_name, unsigned perm)
{
    struct handle *handle;
    expect_success(handle_open(node_find(node_name), "the test", perm, PERM_ALL, &handle));
    return handle;
}

/* Requests ----------------------------------------------------------------------------------------------------- */

static inline int put_bytes(struct handle *handle, uint64_t offset, const void *data, size_t bytes)
{
    struct iovec storage;
    struct iov iov = iov_of(&storage, (void *)(uintptr_t)data, bytes);
    return handle_pwritev(handle, range_make(offset, bytes), &iov, 0);
}

static inline int get_bytes(struct handle *handle, uint64_t offset, void *data, size_t bytes)
{
    struct iovec storage;
    struct iov iov = iov_of(&storage, data, bytes);
    return handle_preadv(handle, range_make(offset, bytes), &iov);
}

static inline int put(struct handle *handle, uint64_t offset, size_t bytes, int fill)
{
    char *data = malloc(bytes);
    expect(data);
    memset(data, fill, bytes);
    int ret = put_bytes(handle, offset, data, bytes);
    free(data);
    return ret;
}

/* As a format does that appends to its file: the edge of a handle with PERM_RESIZE may end past the end of the node. */
static inline int append_bytes(struct handle *handle, uint64_t offset, const void *data, size_t bytes)
{
    struct iovec storage;
    struct iov iov = iov_of(&storage, (void *)(uintptr_t)data, bytes);
    return child_pwritev(handle_edge(handle), range_make(offset, bytes), &iov, 0);
}

/* Do all bytes of the range read as @fill? */
static inline bool reads_as(struct handle *handle, uint64_t offset, size_t bytes, int fill)
{
    unsigned char *data = malloc(bytes);
    expect(data);
    memset(data, ~fill, bytes);
    expect_int(get_bytes(handle, offset, data, bytes), 0);
    bool same = true;
    for (size_t i = 0; i < bytes; i++)
        same = same && data[i] == (unsigned char)fill;
    free(data);
    return same;
}

/* Block status ------------------------------------------------------------------------------------------------- */

/* The answer as text, in KiB: "0+4 data, 4+12 zero"; d: data, z: zero, m: mapped with its offset. */
static inline const char *map_text(struct handle *handle, unsigned ask)
{
    static char text[1024];
    struct extents extents;
    uint64_t length = node_length(handle_node(handle));
    size_t used = 0;
    text[0] = '\0';
    for (uint64_t at = 0; at < length;) {
        extents_init(&extents, 1000);
        expect_int(handle_block_status(handle, range_between(at, length), ask, NULL, false, &extents), 0);
        expect(extents.count > 0 && extents.items[0].offset == at);
        for (size_t i = 0; i < extents.count; i++) {
            const struct extent *extent = &extents.items[i];
            expect(extent->offset == at && extent->bytes > 0);
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%llu+%llu", used ? " " : "",
                                     (unsigned long long)extent->offset / KIB, (unsigned long long)extent->bytes / KIB);
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", extent->flags & EXTENT_DATA ? "d" : "",
                                     extent->flags & EXTENT_ZERO ? "z" : "");
            if (extent->flags & EXTENT_MAPPED)
                used += (size_t)snprintf(text + used, sizeof(text) - used, "@%llu",
                                         (unsigned long long)extent->file_offset / KIB);
            at += extent->bytes;
        }
        extents_fini(&extents);
    }
    expect(used < sizeof(text));
    return text;
}

/* Other programs ----------------------------------------------------------------------------------------------- */

/* Runs a shell command; its exit status, and what it printed in @output. -1: there is no such program. */
static inline int run_command(const char *command, char *output, size_t output_bytes)
{
    char line[1024];
    snprintf(line, sizeof(line), "%s 2>&1", command);
    FILE *pipe = popen(line, "re");
    expect(pipe);
    size_t got = fread(output, 1, output_bytes - 1, pipe);
    output[got] = '\0';
    int status = pclose(pipe);
    expect(WIFEXITED(status));
    return WEXITSTATUS(status) == 127 ? -1 : WEXITSTATUS(status);
}

#endif
