#include "blockcore/runtime/small_file.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/path_policy.h"
#include "blockcore/runtime/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

#define FIRST_ROOM 4096

struct small_file {
    const char *path;
    size_t bytes_max;
    char *text;
    size_t bytes;
    size_t room;
    struct error *refusal;
};

/* 1: there is more; 0: that was all; or -errno. */
static int read_some(struct small_file *file, int fd)
{
    if (file->bytes == file->room) {
        file->room = file->room ? file->room * 2 : FIRST_ROOM;
        file->text = xrealloc_array(file->text, file->room + 1, 1);
    }
    ssize_t got = read(fd, file->text + file->bytes, file->room - file->bytes);
    if (got < 0)
        return errno == EINTR ? 1 : -errno;
    file->bytes += (size_t)got;
    if (file->bytes > file->bytes_max)
        return -EFBIG;
    return got > 0;
}

static int read_all(void *arg)
{
    struct small_file *file = arg;
    CLEANUP(close_fd) int fd = path_open(file->path, O_RDONLY, 0, &file->refusal);
    if (fd < 0)
        return fd;
    int ret;
    while ((ret = read_some(file, fd)) > 0)
        ;
    return ret;
}

static struct error *finish(struct small_file *file, int ret, char **text, size_t *bytes)
{
    if (ret < 0) {
        free(file->text);
        if (file->refusal)
            return file->refusal;
        return ret == -EFBIG ? error_new("'%s' is longer than %zu bytes", file->path, file->bytes_max)
                             : error_errno(-ret, "cannot read '%s'", file->path);
    }
    file->text[file->bytes] = '\0';
    *text = file->text;
    *bytes = file->bytes;
    return NULL;
}

struct error *small_file_read(const char *path, size_t bytes_max, char **text, size_t *bytes)
{
    struct small_file file = { .path = path, .bytes_max = bytes_max };
    struct pool_domain *domain = pool_domain_create(path, 1);
    int ret = co_blocking(domain, read_all, &file);
    pool_domain_unref(domain);
    return finish(&file, ret, text, bytes);
}

struct error *small_file_read_now(const char *path, size_t bytes_max, char **text, size_t *bytes)
{
    struct small_file file = { .path = path, .bytes_max = bytes_max };
    return finish(&file, read_all(&file), text, bytes);
}
