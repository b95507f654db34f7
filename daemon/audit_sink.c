#include "daemon/audit_sink.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "daemon/path.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct audit_sink {
    char *path;
    bool journal;
    int fd;
    struct stat opened; /* of a file */
};

/* In the file ---------------------------------------------------------------------------------------------------- */

/* Without waiting for the other end of a FIFO, which it must not be. */
static int open_file(struct audit_sink *sink)
{
    CLEANUP(close_fd)
    int fd = open(sink->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (fd < 0 || fstat(fd, &sink->opened) < 0)
        return -errno;
    if (!S_ISREG(sink->opened.st_mode))
        return -EINVAL;
    if (sink->fd >= 0)
        close(sink->fd);
    sink->fd = steal_fd(&fd);
    return 0;
}

static bool was_replaced(const struct audit_sink *sink)
{
    struct stat now;
    return stat(sink->path, &now) < 0 || now.st_dev != sink->opened.st_dev || now.st_ino != sink->opened.st_ino;
}

static size_t begin_of_line(const char *text, size_t at)
{
    while (at > 0 && text[at - 1] != '\n')
        at--;
    return at;
}

static int write_file(struct audit_sink *sink, const char *text, size_t bytes, size_t *done)
{
    if (was_replaced(sink)) {
        int ret = open_file(sink);
        if (ret < 0)
            return ret;
        *done = begin_of_line(text, *done);
    }
    while (*done < bytes) {
        ssize_t n = write(sink->fd, text + *done, bytes - *done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        *done += (size_t)n;
    }
    return 0;
}

/* In the journal: a datagram a line, fields of NAME=value (systemd.io, "Native Journal Protocol") ------------------ */

static int connect_journal(struct audit_sink *sink)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(sink->path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    strcpy(address.sun_path, sink->path);
    CLEANUP(close_fd) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    if (sink->fd >= 0)
        close(sink->fd);
    sink->fd = steal_fd(&fd);
    return 0;
}

static int send_line(const struct audit_sink *sink, const char *line, size_t bytes)
{
    static const char fields[] = "SYSLOG_IDENTIFIER=cairnd\nPRIORITY=5\nCAIRN_AUDIT=1\nMESSAGE=";
    struct iovec parts[] = {
        { (char *)(uintptr_t)fields, sizeof(fields) - 1 },
        { (char *)(uintptr_t)line, bytes },
    };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = ARRAY_SIZE(parts) };
    return sendmsg(sink->fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* A journal that was restarted has a new socket. */
static int write_journal(struct audit_sink *sink, const char *text, size_t bytes, size_t *done)
{
    bool again = false;
    while (*done < bytes) {
        const char *end = memchr(text + *done, '\n', bytes - *done);
        size_t line = (size_t)(end - (text + *done)) + 1;
        int ret = send_line(sink, text + *done, line);
        if (ret < 0 && !again && ret != -EAGAIN && ret != -EINTR) {
            ret = connect_journal(sink);
            again = true;
            if (ret == 0)
                continue;
        }
        if (ret < 0)
            return ret;
        again = false;
        *done += line;
    }
    return 0;
}

/* Either ---------------------------------------------------------------------------------------------------------- */

struct error *audit_sink_create(const struct audit_options *options, struct audit_sink **out)
{
    struct audit_sink *sink = xcalloc(1, sizeof(*sink));
    sink->fd = -1;
    sink->journal = options->journal != NULL;
    sink->path = path_for_later(sink->journal ? options->journal : options->path);
    int ret = sink->journal ? connect_journal(sink) : open_file(sink);
    if (ret == 0) {
        *out = sink;
        return NULL;
    }
    struct error *err = ret == -EINVAL ? error_new("the audit log '%s' is no regular file", sink->path)
                                       : error_errno(-ret, "cannot open the audit log '%s'", sink->path);
    audit_sink_destroy(sink);
    return err;
}

void audit_sink_destroy(struct audit_sink *sink)
{
    if (!sink)
        return;
    if (sink->fd >= 0)
        close(sink->fd);
    free(sink->path);
    free(sink);
}

int audit_sink_write(struct audit_sink *sink, const char *text, size_t bytes, size_t *done)
{
    return sink->journal ? write_journal(sink, text, bytes, done) : write_file(sink, text, bytes, done);
}
