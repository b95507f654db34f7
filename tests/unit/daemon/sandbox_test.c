/* The sandbox, by what the kernel says: each attempt is made in a child that has confined itself. */
#include "daemon/sandbox.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "tests/unit/support/temp.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* in/file may be reached, out/file may not. */
static char folder[TEMP_FOLDER_BYTES];
static char *in_file;
static char *out_file;
static struct path_list list;

static char *path_of(const char *name)
{
    return xasprintf("%s/%s", folder, name);
}

static int set_up(void **state)
{
    static const char *paths[1];
    (void)state;
    temp_folder_make(folder);
    paths[0] = path_of("in");
    list = (struct path_list){ .paths = paths, .count = 1 };
    CLEANUP(free) char *out = path_of("out");
    CLEANUP(free) char *link_out = path_of("in/link");
    in_file = path_of("in/file");
    out_file = path_of("out/file");
    if (mkdir(paths[0], 0700) < 0 || mkdir(out, 0700) < 0 || symlink("../out/file", link_out) < 0)
        return -1;
    close(open(in_file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    close(open(out_file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    CLEANUP(free) char *command = xasprintf("rm -rf '%s'", folder);
    free((char *)(uintptr_t)list.paths[0]);
    free(in_file);
    free(out_file);
    return system(command);
}

enum confinement {
    PATHS = 1,
    CALLS = 2,
};

/* What @attempt returns (0 or an errno) in a child that is confined. */
static int confined(enum confinement how, int (*attempt)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        static const struct sandbox_needs nothing;
        struct error *err = NULL;
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (how & PATHS)
            err = sandbox_confine_paths(&list, &nothing);
        if (!err && how & CALLS)
            err = sandbox_confine_calls();
        if (err)
            fprintf(stderr, "%s\n", error_message(err));
        _exit(err ? 255 : attempt());
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int opened(const char *path, int flags)
{
    CLEANUP(close_fd) int fd = open(path, flags | O_CLOEXEC, 0600);
    return fd < 0 ? errno : 0;
}

static int open_in(void)
{
    return opened(in_file, O_RDWR | O_TRUNC);
}

static int open_out(void)
{
    return opened(out_file, O_RDONLY);
}

static int open_link(void)
{
    CLEANUP(free) char *path = path_of("in/link");
    return opened(path, O_RDONLY);
}

static int open_through_proc(void)
{
    CLEANUP(free) char *path = xasprintf("/proc/self/root%s", out_file);
    return opened(path, O_RDONLY);
}

static int create_in(void)
{
    CLEANUP(free) char *path = path_of("in/new");
    return opened(path, O_RDWR | O_CREAT | O_EXCL);
}

static int create_out(void)
{
    CLEANUP(free) char *path = path_of("out/new");
    return opened(path, O_RDWR | O_CREAT | O_EXCL);
}

static int remove_out(void)
{
    return unlink(out_file) < 0 ? errno : 0;
}

static int move_out(void)
{
    CLEANUP(free) char *path = path_of("out/moved");
    return rename(in_file, path) < 0 ? errno : 0;
}

static int truncate_out(void)
{
    return truncate(out_file, 0) < 0 ? errno : 0;
}

static int make_link(void)
{
    CLEANUP(free) char *path = path_of("in/another-link");
    return symlink("/etc/passwd", path) < 0 ? errno : 0;
}

static int write_system(void)
{
    return opened("/etc/hostname", O_RDWR);
}

static int read_system(void)
{
    return opened("/etc/passwd", O_RDONLY);
}

static int bind_in(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    CLEANUP(free) char *path = path_of(name);
    CLEANUP(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, path);
    return bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? errno : 0;
}

static int socket_in(void)
{
    return bind_in("in/socket");
}

static int socket_out(void)
{
    return bind_in("out/socket");
}

/* seccomp does not see what a ring is asked to do. */
static int open_by_ring(const char *path)
{
    struct io_uring ring;
    int ret = io_uring_queue_init(4, &ring, 0);
    if (ret < 0)
        return 200; /* there is no io_uring here */
    struct io_uring_cqe *done;
    io_uring_prep_openat(io_uring_get_sqe(&ring), AT_FDCWD, path, O_RDONLY, 0);
    io_uring_submit_and_wait(&ring, 1);
    io_uring_wait_cqe(&ring, &done);
    ret = done->res < 0 ? -done->res : 0;
    io_uring_queue_exit(&ring);
    return ret;
}

static int ring_in(void)
{
    return open_by_ring(in_file);
}

static int ring_out(void)
{
    return open_by_ring(out_file);
}

static void *in_thread(void *arg)
{
    *(int *)arg = open_out();
    return NULL;
}

static int thread_out(void)
{
    pthread_t thread;
    int result = 0;
    int ret = pthread_create(&thread, NULL, in_thread, &result);
    if (ret != 0)
        return 201;
    pthread_join(thread, NULL);
    return result;
}

static void paths_are_confined(void **state)
{
    (void)state;
    if (confined(PATHS, open_in) == 255)
        skip();
    assert_int_equal(confined(PATHS, open_in), 0);
    assert_int_equal(confined(PATHS, create_in), 0);
    assert_int_equal(confined(PATHS, socket_in), 0);
    assert_int_equal(confined(PATHS, read_system), 0);
    assert_int_equal(confined(PATHS, open_out), EACCES);
    assert_int_equal(confined(PATHS, open_link), EACCES);
    assert_int_equal(confined(PATHS, open_through_proc), EACCES);
    assert_int_equal(confined(PATHS, create_out), EACCES);
    assert_int_equal(confined(PATHS, remove_out), EACCES);
    assert_int_not_equal(confined(PATHS, move_out), 0);
    assert_int_equal(confined(PATHS, truncate_out), EACCES);
    assert_int_equal(confined(PATHS, make_link), EACCES);
    assert_int_equal(confined(PATHS, write_system), EACCES);
    assert_int_equal(confined(PATHS, socket_out), EACCES);
    assert_int_equal(confined(PATHS, thread_out), EACCES);
    assert_int_equal(open_out(), 0); /* nobody but the children */
}

static void io_uring_is_confined_by_paths_and_not_by_calls(void **state)
{
    (void)state;
    int without = confined(CALLS, ring_out);
    if (without == 200)
        skip();
    assert_int_equal(without, 0);
    assert_int_equal(confined(PATHS | CALLS, ring_in), 0);
    assert_int_equal(confined(PATHS | CALLS, ring_out), EACCES);
}

static int run_program(void)
{
    char name[] = "true";
    char *const arguments[] = { name, NULL };
    execv("/bin/true", arguments);
    return errno;
}

static int spawn_program(void)
{
    pid_t pid;
    char name[] = "true";
    char *const arguments[] = { name, NULL };
    return posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, NULL);
}

static int run_by_descriptor(void)
{
    char *const nothing[] = { NULL };
    CLEANUP(close_fd) int fd = open("/bin/true", O_RDONLY | O_CLOEXEC);
    syscall(SYS_execveat, fd, "", nothing, nothing, AT_EMPTY_PATH);
    return errno;
}

static int make_process(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return pid < 0 ? errno : 0;
}

static int trace_parent(void)
{
    return ptrace(PTRACE_SEIZE, getppid(), NULL, NULL) < 0 ? errno : 0;
}

static int kill_parent(void)
{
    return kill(getppid(), 0) < 0 ? errno : 0;
}

static int mount_something(void)
{
    return mount("none", folder, "tmpfs", 0, NULL) < 0 ? errno : 0;
}

static int raw_socket(void)
{
    CLEANUP(close_fd) int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    return fd < 0 ? errno : 0;
}

static int leave_namespace(void)
{
    return (int)syscall(SYS_unshare, 0) < 0 ? errno : 0;
}

static int load_module(void)
{
    return (int)syscall(SYS_init_module, NULL, 0, "") < 0 ? errno : 0;
}

static int work_goes_on(void)
{
    CLEANUP(close_fd) int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CLEANUP(close_fd) int fd = open(in_file, O_RDWR | O_CLOEXEC);
    pthread_t thread;
    int result;
    if (tcp < 0 || fd < 0 || pwrite(fd, "x", 1, 0) != 1 || fdatasync(fd) < 0 || fallocate(fd, 0, 0, 4096) < 0)
        return errno;
    if (pthread_create(&thread, NULL, in_thread, &result) != 0)
        return 201;
    return pthread_join(thread, NULL);
}

static void calls_are_confined(void **state)
{
    (void)state;
    static int (*const refused[])(void) = {
        run_program, spawn_program,   run_by_descriptor, make_process,    trace_parent,
        kill_parent, mount_something, raw_socket,        leave_namespace, load_module,
    };
    if (confined(CALLS, work_goes_on) == 255)
        skip();
    assert_int_equal(confined(CALLS, work_goes_on), 0);
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
        assert_int_equal(confined(CALLS, refused[i]), EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(paths_are_confined, set_up, tear_down),
        cmocka_unit_test_setup_teardown(io_uring_is_confined_by_paths_and_not_by_calls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(calls_are_confined, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
