#include "daemon/service_manager.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/passed_fd.h"
#include "blockcore/runtime/pool.h"
#include "daemon/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LISTEN_FDS_START 3 /* sd_listen_fds(3) */
#define TELL_SECONDS 5     /* how long a service manager may take to hear of a change */
#define CHECKS_PER_WATCH 4 /* rounds of the loops in the time after which the watchdog bites */
#define US_PER_MS 1000
#define NAMES_MAX 1024 /* bytes of the names of sockets that nobody uses, in a message */

static struct {
    int fd; /* -1: nobody wants to know */
    struct sockaddr_un address;
    socklen_t address_bytes;

    uint64_t watch_ms; /* between two rounds; 0: nobody watches */
    struct timer *timer;
    _Atomic unsigned not_turned; /* I/O loops that have not answered in this round */
    struct loop_task tasks[IO_LOOPS_MAX];
} manager = { .fd = -1 };

/* Telling ------------------------------------------------------------------------------------------------------- */

static bool send_state(const char *state, int flags)
{
    return sendto(manager.fd, state, strlen(state), flags | MSG_NOSIGNAL, (const struct sockaddr *)&manager.address,
                  manager.address_bytes) >= 0;
}

static void tell_now(const char *state)
{
    if (manager.fd >= 0)
        (void)send_state(state, MSG_DONTWAIT);
}

static int tell_blocking(void *state)
{
    return send_state(state, 0) ? 0 : -errno;
}

/* What must not be lost, also when the service manager has a lot to read. */
static void tell(const char *state) CO_FN;

static void tell(const char *state)
{
    if (manager.fd < 0 || send_state(state, MSG_DONTWAIT))
        return;
    int ret = errno == EAGAIN ? co_blocking(NULL, tell_blocking, (void *)(uintptr_t)state) : -errno;
    if (ret < 0)
        log_warning("the service manager cannot be told: %s", strerror(-ret));
}

static bool parse_address(const char *text)
{
    size_t length = strlen(text);
    if ((*text != '/' && *text != '@') || length < 2 || length >= sizeof(manager.address.sun_path))
        return false;
    manager.address.sun_family = AF_UNIX;
    memcpy(manager.address.sun_path, text, length);
    if (*text == '@')
        manager.address.sun_path[0] = 0;
    manager.address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    return true;
}

static void take_notify_socket(const char *text)
{
    if (!text || !*text)
        return;
    if (!parse_address(text)) {
        log_warning("NOTIFY_SOCKET '%s' is not understood: the service manager hears nothing", text);
        return;
    }
    manager.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct timeval patience = { .tv_sec = TELL_SECONDS };
    if (manager.fd < 0 || setsockopt(manager.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
        log_warning("the service manager cannot be told: %s", strerror(errno));
}

/* The watchdog -------------------------------------------------------------------------------------------------- */

/* A number that is nothing but digits; 0 for anything else. */
static uint64_t parse_number(const char *text)
{
    char *end = NULL;
    if (!text || *text < '0' || *text > '9')
        return 0;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    return *end || errno ? 0 : number;
}

static bool is_for_us(const char *pid)
{
    return parse_number(pid) == (uint64_t)getpid();
}

static void take_watchdog(const char *usec, const char *pid)
{
    uint64_t us = parse_number(usec);
    if (us > 0 && (!pid || is_for_us(pid)))
        manager.watch_ms = us / US_PER_MS / CHECKS_PER_WATCH + 1;
}

static void loop_turns(struct loop_task *task)
{
    (void)task;
    atomic_fetch_sub(&manager.not_turned, 1);
}

/* All loops are asked, and have answered by the next time, unless one of them hangs: then nothing is said until it
 * does.
 */
static void watch(void *arg)
{
    (void)arg;
    if (atomic_load(&manager.not_turned) == 0) {
        tell_now("WATCHDOG=1");
        atomic_store(&manager.not_turned, loop_io_count());
        for (unsigned i = 0; i < loop_io_count(); i++) {
            manager.tasks[i].run = loop_turns;
            loop_post(loop_io(i), &manager.tasks[i]);
        }
    }
    timer_start(manager.timer, manager.watch_ms);
}

void service_watch_loops(void)
{
    if (manager.fd < 0 || manager.watch_ms == 0)
        return;
    manager.timer = timer_create_on_loop(watch, NULL);
    watch(NULL);
}

/* Sockets ------------------------------------------------------------------------------------------------------- */

static bool has_name(const char *name)
{
    return named_fd_exists(name);
}

/* Of several sockets with one name, the second is NAME.2. */
static char *free_name(const char *name)
{
    if (!has_name(name))
        return xstrdup(name);
    for (unsigned number = 2;; number++) {
        char *numbered = xasprintf("%s.%u", name, number);
        if (!has_name(numbered))
            return numbered;
        free(numbered);
    }
}

static void take_socket(int fd, const char *given)
{
    CLEANUP(free) char *name = free_name(given && *given ? given : "unknown");
    int replaced = -1;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        log_warning("descriptor %d, which LISTEN_FDS speaks of, is not open", fd);
        return;
    }
    CLEANUP(error_free) struct error *err = named_fd_put(name, NAMED_FD_PARENT, fd, &replaced);
    if (err)
        log_warning("socket '%s' of the service manager: %s", name, error_message(err));
}

static void take_sockets(const char *count_text, const char *pid, const char *names_text)
{
    uint64_t count = parse_number(count_text);
    if (count == 0 || !is_for_us(pid))
        return;
    if (count > PASSED_FDS_MAX) {
        log_warning("the service manager passes %llu sockets: more than %d are not used", (unsigned long long)count,
                    PASSED_FDS_MAX);
        count = PASSED_FDS_MAX;
    }
    CLEANUP(free) char *copy = xstrdup(names_text ? names_text : "");
    char *rest = copy;
    for (uint64_t i = 0; i < count; i++)
        take_socket(LISTEN_FDS_START + (int)i, strsep(&rest, ":"));
}

struct unused {
    char names[NAMES_MAX];
    size_t length;
};

static void append_unused(const char *name, void *arg)
{
    struct unused *unused = arg;
    size_t left = sizeof(unused->names) - unused->length;
    int length = snprintf(unused->names + unused->length, left, "%s'%s'", unused->length ? ", " : "", name);
    if ((size_t)length < left)
        unused->length += (size_t)length;
}

static void tell_unused_sockets(void)
{
    struct unused unused = { .length = 0 };
    named_fds_each(NAMED_FD_PARENT, append_unused, &unused);
    if (unused.length > 0)
        log_warning("sockets of the service manager that nothing uses: %.*s", (int)unused.length, unused.names);
}

/* Life ---------------------------------------------------------------------------------------------------------- */

void service_begin(void)
{
    static const char *const variables[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                             "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES" };
    take_notify_socket(getenv("NOTIFY_SOCKET"));
    take_watchdog(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"));
    take_sockets(getenv("LISTEN_FDS"), getenv("LISTEN_PID"), getenv("LISTEN_FDNAMES"));
    for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
        unsetenv(variables[i]);
}

void service_ready(void)
{
    tell_unused_sockets();
    tell("READY=1\nSTATUS=In service");
}

void service_reloading(void)
{
    char state[128];
    struct timespec now;
    if (manager.fd < 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=Reading the configuration again",
             (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
    tell(state);
}

void service_stopping(void)
{
    tell_now("STOPPING=1\nSTATUS=Flushing and closing");
}

void service_end(void)
{
    timer_destroy(manager.timer);
    manager.timer = NULL;
}
