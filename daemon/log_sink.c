#include "daemon/log_sink.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device;
    unsigned long long inode;
    struct stat stat;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &stat) == 0 &&
           (unsigned long long)stat.st_dev == device && (unsigned long long)stat.st_ino == inode;
}

/* A pipe that is ready takes PIPE_BUF bytes. */
static size_t write_piece(const char *text, size_t length)
{
    struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };
    if (poll(&fd, 1, 0) <= 0 || !(fd.revents & POLLOUT))
        return 0;
    ssize_t count = write(STDERR_FILENO, text, length < PIPE_BUF ? length : PIPE_BUF);
    return count > 0 ? (size_t)count : 0;
}

bool stderr_write(const char *text, size_t length)
{
    while (length > 0) {
        size_t count = write_piece(text, length);
        if (count == 0)
            return false;
        text += count;
        length -= count;
    }
    return true;
}

static int journal_fd(void)
{
    static int fd = -1;
    if (fd < 0)
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd;
}

/* To its name each time: a journal that was started anew is found again. */
bool journal_send(const char *path, const char *entry, size_t length)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(address.sun_path))
        return false;
    strcpy(address.sun_path, path);
    int fd = journal_fd();
    return fd >= 0 && sendto(fd, entry, length, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&address,
                             sizeof(address)) == (ssize_t)length;
}
