#include "blockcore/runtime/passed_fd.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SET_PREFIX "/dev/fdset/"

struct named {
    char *name;
    uint64_t owner;
    int fd;
};

/* Members of a set lie together, sets in ascending order. Few, and seldom used. */
static struct {
    pthread_mutex_t mutex;
    struct fdset_member *members;
    size_t members_count;
    struct named *named;
    size_t named_count;
} passed = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static bool is_full(void)
{
    return passed.members_count + passed.named_count >= PASSED_FDS_MAX;
}

static struct error *too_many(void)
{
    return error_new("too many descriptors were passed: at most %d are kept", PASSED_FDS_MAX);
}

/* Sets ---------------------------------------------------------------------------------------------------------- */

static bool parse_name(const char *filename, int64_t *id)
{
    size_t prefix = strlen(SET_PREFIX);
    if (strncmp(filename, SET_PREFIX, prefix) != 0)
        return false;
    const char *digits = filename + prefix;
    size_t length = strspn(digits, "0123456789");
    if (length == 0 || length > 18 || digits[length] != '\0')
        return false;
    *id = strtoll(digits, NULL, 10);
    return true;
}

bool fdset_is_name(const char *filename)
{
    int64_t id;
    return parse_name(filename, &id);
}

static int copy(int fd)
{
    int other = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return other < 0 ? -errno : other;
}

/* @access -1: any. */
static int open_member(int64_t id, int access)
{
    int ret = -ENOENT;
    for (size_t i = 0; i < passed.members_count; i++) {
        const struct fdset_member *member = &passed.members[i];
        if (member->id != id)
            continue;
        int flags = access < 0 ? 0 : fcntl(member->fd, F_GETFL);
        if (access < 0 || (flags & O_ACCMODE) == access)
            return copy(member->fd);
        ret = -EACCES;
    }
    return ret;
}

static int open_name(const char *filename, int access)
{
    int64_t id;
    if (!parse_name(filename, &id))
        return -ENOENT;
    pthread_mutex_lock(&passed.mutex);
    int ret = open_member(id, access);
    pthread_mutex_unlock(&passed.mutex);
    return ret;
}

int fdset_open(const char *filename, int access)
{
    return open_name(filename, access);
}

int fdset_open_any(const char *filename)
{
    return open_name(filename, -1);
}

/* The smallest number that no set has. */
static int64_t free_id(void)
{
    int64_t id = 0;
    for (size_t i = 0; i < passed.members_count && passed.members[i].id <= id; i++)
        id = passed.members[i].id + 1;
    return id;
}

static void insert(struct fdset_member member)
{
    size_t at = passed.members_count;
    passed.members = xrealloc_array(passed.members, passed.members_count + 1, sizeof(*passed.members));
    while (at > 0 && passed.members[at - 1].id > member.id)
        at--;
    memmove(&passed.members[at + 1], &passed.members[at], (passed.members_count - at) * sizeof(*passed.members));
    passed.members[at] = member;
    passed.members_count++;
}

struct error *fdset_add(int64_t *id, int fd, const char *opaque)
{
    pthread_mutex_lock(&passed.mutex);
    bool full = is_full();
    if (!full) {
        if (*id == FDSET_ANY)
            *id = free_id();
        insert((struct fdset_member){ .id = *id, .fd = fd, .opaque = opaque ? xstrdup(opaque) : NULL });
    }
    pthread_mutex_unlock(&passed.mutex);
    return full ? too_many() : NULL;
}

static void forget_member(size_t at)
{
    free(passed.members[at].opaque);
    passed.members_count--;
    memmove(&passed.members[at], &passed.members[at + 1], (passed.members_count - at) * sizeof(*passed.members));
    if (passed.members_count == 0)
        free(steal(&passed.members));
}

struct error *fdset_remove(int64_t id, int64_t fd, int **fds, size_t *count)
{
    *fds = NULL;
    *count = 0;
    pthread_mutex_lock(&passed.mutex);
    for (size_t i = passed.members_count; i-- > 0;) {
        if (passed.members[i].id == id && (fd == FDSET_ANY || passed.members[i].fd == fd)) {
            *fds = xrealloc_array(*fds, *count + 1, sizeof(**fds));
            (*fds)[(*count)++] = passed.members[i].fd;
            forget_member(i);
        }
    }
    pthread_mutex_unlock(&passed.mutex);
    if (*count > 0)
        return NULL;
    if (fd == FDSET_ANY)
        return error_new("File descriptor named 'fdset-id:%lld' not found", (long long)id);
    return error_new("File descriptor named 'fdset-id:%lld, fd:%lld' not found", (long long)id, (long long)fd);
}

void fdset_list(struct fdset_member **out, size_t *count)
{
    pthread_mutex_lock(&passed.mutex);
    *count = passed.members_count;
    *out = xcalloc(passed.members_count ? passed.members_count : 1, sizeof(**out));
    for (size_t i = 0; i < passed.members_count; i++) {
        (*out)[i] = passed.members[i];
        if ((*out)[i].opaque)
            (*out)[i].opaque = xstrdup((*out)[i].opaque);
    }
    pthread_mutex_unlock(&passed.mutex);
}

/* Names --------------------------------------------------------------------------------------------------------- */

static struct named *find_named(const char *name)
{
    for (size_t i = 0; i < passed.named_count; i++) {
        if (strcmp(passed.named[i].name, name) == 0)
            return &passed.named[i];
    }
    return NULL;
}

/* Its descriptor is the caller's. */
static int forget_named(struct named *named)
{
    int fd = named->fd;
    free(named->name);
    *named = passed.named[--passed.named_count];
    if (passed.named_count == 0)
        free(steal(&passed.named));
    return fd;
}

struct error *named_fd_put(const char *name, uint64_t owner, int fd, int *replaced)
{
    pthread_mutex_lock(&passed.mutex);
    struct named *named = find_named(name);
    *replaced = named ? forget_named(named) : -1;
    bool full = is_full();
    if (!full) {
        passed.named = xrealloc_array(passed.named, passed.named_count + 1, sizeof(*passed.named));
        passed.named[passed.named_count++] = (struct named){ .name = xstrdup(name), .owner = owner, .fd = fd };
    }
    pthread_mutex_unlock(&passed.mutex);
    return full ? too_many() : NULL;
}

int named_fd_take_from(const char *name, uint64_t *owner)
{
    pthread_mutex_lock(&passed.mutex);
    struct named *named = find_named(name);
    *owner = named ? named->owner : 0;
    int fd = named ? forget_named(named) : -1;
    pthread_mutex_unlock(&passed.mutex);
    return fd;
}

int named_fd_take(const char *name)
{
    uint64_t owner;
    return named_fd_take_from(name, &owner);
}

bool named_fd_exists(const char *name)
{
    pthread_mutex_lock(&passed.mutex);
    bool exists = find_named(name);
    pthread_mutex_unlock(&passed.mutex);
    return exists;
}

void named_fds_each(uint64_t owner, void (*fn)(const char *name, void *arg), void *arg)
{
    pthread_mutex_lock(&passed.mutex);
    for (size_t i = 0; i < passed.named_count; i++) {
        if (passed.named[i].owner == owner)
            fn(passed.named[i].name, arg);
    }
    pthread_mutex_unlock(&passed.mutex);
}

int named_fd_take_fitting(uint64_t owner, bool (*fits)(int fd, const void *arg), const void *arg, char **name)
{
    int fd = -1;
    pthread_mutex_lock(&passed.mutex);
    for (size_t i = 0; i < passed.named_count && fd < 0; i++) {
        if (passed.named[i].owner == owner && fits(passed.named[i].fd, arg)) {
            *name = xstrdup(passed.named[i].name);
            fd = forget_named(&passed.named[i]);
        }
    }
    pthread_mutex_unlock(&passed.mutex);
    return fd;
}

void named_fds_forget(uint64_t owner, void (*dispose)(int fd))
{
    pthread_mutex_lock(&passed.mutex);
    for (size_t i = passed.named_count; i-- > 0;) {
        if (passed.named[i].owner == owner)
            dispose(forget_named(&passed.named[i]));
    }
    pthread_mutex_unlock(&passed.mutex);
}
