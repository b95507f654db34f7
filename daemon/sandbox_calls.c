/* seccomp: which system calls there are. */
#include "blockcore/base/late_library.h"
#include "daemon/sandbox.h"

#include <errno.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/socket.h>

#define SECCOMP_FUNCTIONS(F)                                                                                           \
    F(seccomp_init)                                                                                                    \
    F(seccomp_rule_add_array)                                                                                          \
    F(seccomp_attr_set)                                                                                                \
    F(seccomp_load)                                                                                                    \
    F(seccomp_release)                                                                                                 \
    F(seccomp_syscall_resolve_name)

static struct {
    SECCOMP_FUNCTIONS(LATE_MEMBER)
} seccomp;

#define SECCOMP_SYMBOL(name) LATE_SYMBOL(seccomp, name)
static const struct late_symbol symbols[] = { SECCOMP_FUNCTIONS(SECCOMP_SYMBOL) };
static struct late_library library = LATE_LIBRARY("libseccomp.so.2", "libseccomp2", symbols);

/* What is not here is refused with EPERM. */
static const char *const allowed[] = {
    /* memory */
    "brk",
    "madvise",
    "membarrier",
    "memfd_create",
    "mincore",
    "mlock",
    "mlock2",
    "mmap",
    "mprotect",
    "mremap",
    "msync",
    "munlock",
    "munmap",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "process_madvise",
    /* threads, and itself */
    "arch_prctl",
    "capget",
    "exit",
    "exit_group",
    "futex",
    "futex_waitv",
    "get_robust_list",
    "getcpu",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getsid",
    "gettid",
    "getuid",
    "prctl",
    "prlimit64",
    "restart_syscall",
    "rseq",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_setaffinity",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "setpriority",
    "setrlimit",
    "sysinfo",
    "tgkill",
    "times",
    "umask",
    "uname",
    "wait4",
    "waitid",
    /* signals and time */
    "alarm",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "getitimer",
    "gettimeofday",
    "nanosleep",
    "pause",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "setitimer",
    "sigaltstack",
    "signalfd4",
    "time",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_settime",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    /* waiting */
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd",
    "eventfd2",
    "inotify_add_watch",
    "inotify_init1",
    "inotify_rm_watch",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "poll",
    "ppoll",
    "pselect6",
    "select",
    /* files */
    "access",
    "chdir",
    "chmod",
    "chown",
    "close",
    "close_range",
    "copy_file_range",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "fcntl",
    "fdatasync",
    "fgetxattr",
    "flock",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "getcwd",
    "getdents",
    "getdents64",
    "getxattr",
    "ioctl",
    "lgetxattr",
    "link",
    "linkat",
    "lseek",
    "lstat",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pipe",
    "pipe2",
    "pread64",
    "preadv",
    "preadv2",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "rename",
    "renameat",
    "renameat2",
    "sendfile",
    "splice",
    "stat",
    "statfs",
    "statx",
    "sync_file_range",
    "syncfs",
    "tee",
    "truncate",
    "unlink",
    "unlinkat",
    "vmsplice",
    "write",
    "writev",
    /* sockets; socket() itself has rules of its own */
    "accept",
    "accept4",
    "bind",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "listen",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socketpair",
    /* secrets of the kernel's keyrings, random numbers */
    "getrandom",
    "keyctl",
};

static const int families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_VSOCK };

/* One that this architecture does not have is no mistake. */
static int add(scmp_filter_ctx filter, uint32_t action, const char *name, const struct scmp_arg_cmp *condition)
{
    int number = seccomp.seccomp_syscall_resolve_name(name);
    if (number < 0)
        return 0;
    return seccomp.seccomp_rule_add_array(filter, action, number, condition ? 1 : 0, condition);
}

/* Threads, and no processes. What clone3 is asked for lies in memory, where a filter cannot look; without it the C
 * library takes clone. */
static int add_threads(scmp_filter_ctx filter)
{
    const struct scmp_arg_cmp thread = { 0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD };
    int ret = add(filter, SCMP_ACT_ALLOW, "clone", &thread);
    return ret < 0 ? ret : add(filter, SCMP_ACT_ERRNO(ENOSYS), "clone3", NULL);
}

static int add_sockets(scmp_filter_ctx filter)
{
    int ret = 0;
    for (size_t i = 0; i < ARRAY_SIZE(families) && ret == 0; i++) {
        const struct scmp_arg_cmp family = { 0, SCMP_CMP_EQ, (scmp_datum_t)families[i], 0 };
        ret = add(filter, SCMP_ACT_ALLOW, "socket", &family);
    }
    return ret;
}

static int fill(scmp_filter_ctx filter)
{
    int ret = seccomp.seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; i < ARRAY_SIZE(allowed) && ret == 0; i++)
        ret = add(filter, SCMP_ACT_ALLOW, allowed[i], NULL);
    if (ret == 0)
        ret = add_threads(filter);
    return ret == 0 ? add_sockets(filter) : ret;
}

struct error *sandbox_confine_calls(void)
{
    struct error *err = late_library_load(&library);
    if (err)
        return err;
    scmp_filter_ctx filter = seccomp.seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter)
        return error_new("seccomp: cannot make a filter");
    int ret = fill(filter);
    if (ret == 0)
        ret = seccomp.seccomp_load(filter);
    seccomp.seccomp_release(filter);
    return ret < 0 ? error_errno(-ret, "seccomp: cannot confine the process") : NULL;
}
