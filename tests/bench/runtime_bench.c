/* What the runtime costs by itself. Usage: runtime_bench [DIRECTORY-FOR-A-FILE]; it prints one figure per line. */
#include "blockcore/base/memory.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/file_io.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/pool.h"
#include "blockcore/runtime/ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES (64u * 1024 * 1024)
#define BLOCK_BYTES 4096u
#define DEPTH 32

static double wall_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double processor_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct measurement {
    double wall;
    double processor;
};

static struct measurement begin(void)
{
    return (struct measurement){ .wall = wall_seconds(), .processor = processor_seconds() };
}

static void end_ns_each(struct measurement begun, const char *what, double count)
{
    printf("%-58s %10.1f ns\n", what, (wall_seconds() - begun.wall) * 1e9 / count);
}

static void end_rate(struct measurement begun, const char *what, double count)
{
    double wall = wall_seconds() - begun.wall;
    double processor = processor_seconds() - begun.processor;
    printf("%-58s %10.0f /s %10.0f /CPU s %8.2f us CPU\n", what, count / wall, count / processor,
           processor / count * 1e6);
}

static void do_nothing(void *arg)
{
    (void)arg;
}

static int return_nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void bench_create(void)
{
    enum { COUNT = 10000000 };
    struct measurement begun = begin();
    for (int i = 0; i < COUNT; i++)
        co_start("nothing", do_nothing, NULL);
    end_ns_each(begun, "coroutine: create, run, destroy", COUNT);
}

static void yield_often(void *arg)
{
    for (int i = *(int *)arg; i > 0; i--)
        co_yield ();
}

/* Each yield is two switches: to the loop and to the next coroutine. */
static void bench_switch(void)
{
    static int yields = 5000000;
    struct co_group group;
    co_group_init(&group);
    struct measurement begun = begin();
    for (int i = 0; i < 2; i++)
        co_group_start(&group, "yields", yield_often, &yields);
    co_group_join(&group);
    end_ns_each(begun, "coroutine: switch (half of a yield, with its queue)", 4.0 * yields);
}

static void bench_pool(void)
{
    enum { COUNT = 100000 };
    struct measurement begun = begin();
    for (int i = 0; i < COUNT; i++)
        co_blocking(NULL, return_nothing, NULL);
    end_rate(begun, "pool: await a call, one at a time", COUNT);
}

static void bench_other_loop(void)
{
    enum { COUNT = 100000 };
    struct measurement begun = begin();
    for (int i = 0; i < COUNT; i++)
        co_call_on(loop_io(0), "nothing", return_nothing, NULL);
    end_rate(begun, "loop: call on another loop, one at a time", COUNT);
}

struct load {
    struct file_io *file;
    int requests; /* left */
    unsigned random;
    bool by_ring;
    bool write;
};

static uint64_t next_offset(struct load *load)
{
    load->random = load->random * 1664525u + 1013904223u;
    return (uint64_t)(load->random >> 8) % (FILE_BYTES / BLOCK_BYTES) * BLOCK_BYTES;
}

static void request_often(void *arg)
{
    struct load *load = arg;
    char *data = buffer_get(BLOCK_BYTES);
    struct iovec vec;
    struct iov iov = iov_of(&vec, data, BLOCK_BYTES);
    while (load->requests-- > 0) {
        uint64_t offset = next_offset(load);
        int ret;
        if (load->by_ring)
            ret = ring_preadv(file_io_fd(load->file), &vec, 1, offset, 0) == (int)BLOCK_BYTES ? 0 : -EIO;
        else if (load->write)
            ret = file_io_pwritev(load->file, offset, &iov);
        else
            ret = file_io_preadv(load->file, offset, &iov);
        if (ret < 0) {
            fprintf(stderr, "a request failed: %s\n", strerror(-ret));
            exit(1);
        }
    }
    buffer_put(data, BLOCK_BYTES);
}

static void bench_requests(const char *what, struct load load, int depth)
{
    struct co_group group;
    int requests = load.requests;
    co_group_init(&group);
    struct measurement begun = begin();
    for (int i = 0; i < depth; i++)
        co_group_start(&group, "requests", request_often, &load);
    co_group_join(&group);
    end_rate(begun, what, requests);
}

/* The same system call without anything around it. */
static void bench_floor(struct file_io *file, int requests)
{
    struct load load = { .file = file };
    char *data = buffer_get(BLOCK_BYTES);
    struct measurement begun = begin();
    for (int i = 0; i < requests; i++) {
        if (pread(file_io_fd(file), data, BLOCK_BYTES, (off_t)next_offset(&load)) != (ssize_t)BLOCK_BYTES)
            exit(1);
    }
    end_rate(begun, "cached 4 KiB read: plain pread(2), for comparison", requests);
    buffer_put(data, BLOCK_BYTES);
}

/* NULL when there is no O_DIRECT here. */
static struct file_io *make_file(const char *directory, bool direct)
{
    char *path = xasprintf("%s/runtime_bench.%d", directory, (int)getpid());
    int fd = co_open(NULL, path, O_RDWR | O_CREAT | O_EXCL | (direct ? O_DIRECT : 0), 0600);
    if (direct && fd == -EINVAL) {
        unlink(path);
        free(path);
        return NULL;
    }
    if (fd < 0) {
        fprintf(stderr, "cannot create '%s': %s\n", path, strerror(-fd));
        exit(1);
    }
    unlink(path);
    free(path);
    struct file_io_options options = { .direct = direct };
    struct file_io *file = file_io_create(fd, pool_domain_create("bench", 0), &options);
    char *data = buffer_get(1024 * 1024);
    memset(data, 0x5a, 1024 * 1024);
    struct iovec vec;
    struct iov iov = iov_of(&vec, data, 1024 * 1024);
    for (uint64_t offset = 0; offset < FILE_BYTES; offset += iov.bytes)
        file_io_pwritev(file, offset, &iov);
    buffer_put(data, 1024 * 1024);
    return file;
}

static int bench_file(void *directory)
{
    struct file_io *file = make_file(directory, false);
    bench_floor(file, 2000000);
    bench_requests("cached 4 KiB read: as file_io does, depth 1", (struct load){ .file = file, .requests = 2000000 },
                   1);
    bench_requests("cached 4 KiB read: as file_io does, depth 32", (struct load){ .file = file, .requests = 2000000 },
                   DEPTH);
    if (ring_available())
        bench_requests("cached 4 KiB read: io_uring, depth 32",
                       (struct load){ .file = file, .requests = 500000, .by_ring = true }, DEPTH);
    bench_requests("4 KiB write: as file_io does, depth 1",
                   (struct load){ .file = file, .requests = 200000, .write = true }, 1);
    bench_requests("4 KiB write: as file_io does, depth 32",
                   (struct load){ .file = file, .requests = 200000, .write = true }, DEPTH);
    file_io_destroy(file);
    return 0;
}

static int bench_direct(void *directory)
{
    struct file_io *file = make_file(directory, true);
    if (!file)
        return 0;
    bench_requests("4 KiB direct read, depth 32", (struct load){ .file = file, .requests = 100000 }, DEPTH);
    bench_requests("4 KiB direct write, depth 32", (struct load){ .file = file, .requests = 100000, .write = true },
                   DEPTH);
    file_io_destroy(file);
    return 0;
}

static void run(void *directory)
{
    bench_create();
    bench_switch();
    bench_pool();
    bench_other_loop();
    co_call_on(loop_io(0), "file", bench_file, directory);
    co_call_on(loop_io(0), "direct", bench_direct, directory);
}

int main(int argc, char **argv)
{
    char here[] = ".";
    struct error *err = runtime_start(&(struct runtime_options){ .io_loops = 1 });
    if (err) {
        fprintf(stderr, "%s\n", error_message(err));
        return 1;
    }
    runtime_run_coroutine("bench", run, argc > 1 ? argv[1] : here);
    runtime_stop(false);
    return 0;
}
