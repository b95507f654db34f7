#include "daemon/daemonize.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

/* The end of the pipe at which the parent waits for a byte; -1: no parent waits. */
static int ready_fd = -1;

/* The child's end closes when it dies, whatever kills it. */
static void NORETURN wait_for_child(int fd)
{
    char byte;
    ssize_t count;
    do
        count = read(fd, &byte, 1);
    while (count < 0 && errno == EINTR);
    _exit(count == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
}

struct error *daemonize_begin(void)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_errno(errno, "cannot make a pipe");
    pid_t pid = fork();
    if (pid < 0) {
        int errnum = errno;
        close(fds[0]);
        close(fds[1]);
        return error_errno(errnum, "cannot fork");
    }
    if (pid > 0) {
        close(fds[1]);
        wait_for_child(fds[0]);
    }
    close(fds[0]);
    ready_fd = fds[1];
    setsid();

    /* A session leader could get a terminal again by opening one; its child cannot. */
    pid = fork();
    if (pid < 0)
        return error_errno(errno, "cannot fork");
    if (pid > 0)
        _exit(EXIT_SUCCESS);
    return NULL;
}

static struct error *leave_terminal(void)
{
    CLEANUP(close_fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return error_errno(errno, "cannot open '/dev/null'");
    if (chdir("/") < 0)
        return error_errno(errno, "cannot change to directory '/'");
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (dup2(null, fd) < 0)
            return error_errno(errno, "cannot redirect a standard stream to '/dev/null'");
    }
    return NULL;
}

struct error *daemonize_ready(void)
{
    if (ready_fd < 0)
        return NULL;
    struct error *err = leave_terminal();
    if (err)
        return err;
    if (write(ready_fd, "", 1) != 1)
        return error_errno(errno, "cannot tell the parent process");
    close(ready_fd);
    ready_fd = -1;
    return NULL;
}
