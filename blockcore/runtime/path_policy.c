#include "blockcore/runtime/path_policy.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CREATE_TRIES 16 /* against who makes and removes the file all the time */
#define OPEN_FLAGS (O_CLOEXEC | O_NOCTTY)

static const struct path_list *allowed; /* NULL: everything is */

void path_policy_set(const struct path_list *list)
{
    allowed = list;
}

bool path_policy_is_set(void)
{
    return allowed;
}

static bool is_at_or_below(const char *real, const char *place)
{
    size_t length = strlen(place);
    if (length > 0 && place[length - 1] == '/')
        length--;
    return strncmp(real, place, length) == 0 && (real[length] == '/' || real[length] == '\0');
}

bool path_list_has(const struct path_list *list, const char *real)
{
    for (size_t i = 0; i < list->count; i++) {
        if (is_at_or_below(real, list->paths[i]))
            return true;
    }
    return false;
}

/* Pins ------------------------------------------------------------------------------------------------------------ */

int path_pin(const char *path, int flags)
{
    int fd = open(path, O_PATH | O_CLOEXEC | flags);
    return fd < 0 ? -errno : fd;
}

static void name_of_pin(int pin, char name[64])
{
    (void)snprintf(name, 64, "/proc/self/fd/%d", pin);
}

int path_pin_open(int pin, int flags)
{
    char name[64];
    name_of_pin(pin, name);
    int fd = open(name, flags | OPEN_FLAGS);
    return fd < 0 ? -errno : fd;
}

/* Where it is; NULL: nowhere that has a name (a pipe, a file that was removed). The caller frees it. */
static char *place_of_pin(int pin)
{
    char name[64];
    struct stat st;
    CLEANUP(free) char *real = xmalloc(PATH_MAX + 1);
    name_of_pin(pin, name);
    ssize_t bytes = readlink(name, real, PATH_MAX);
    if (bytes <= 0 || bytes == PATH_MAX || real[0] != '/' || fstat(pin, &st) < 0 || st.st_nlink == 0)
        return NULL;
    real[bytes] = '\0';
    return steal(&real);
}

bool path_list_has_open(const struct path_list *list, int fd)
{
    CLEANUP(free) char *real = place_of_pin(fd);
    return real && path_list_has(list, real);
}

static char *list_allowed(void)
{
    char *text = xstrdup("");
    for (size_t i = 0; i < allowed->count; i++) {
        char *longer = xasprintf("%s%s'%s'", text, i > 0 ? ", " : "", allowed->paths[i]);
        free(text);
        text = longer;
    }
    return text;
}

static struct error *refusal_of(const char *path, const char *real)
{
    CLEANUP(free) char *list = list_allowed();
    if (!real)
        return error_new("the policy does not allow '%s', which leads to nothing that has a name (its 'paths': %s)",
                         path, list);
    if (strcmp(path, real) == 0)
        return error_new("the policy does not allow '%s' (its 'paths': %s)", path, list);
    return error_new("the policy does not allow '%s', which leads to '%s' (its 'paths': %s)", path, real, list);
}

struct error *path_pin_check(int pin, const char *path)
{
    if (!allowed)
        return NULL;
    CLEANUP(free) char *real = place_of_pin(pin);
    return real && path_list_has(allowed, real) ? NULL : refusal_of(path, real);
}

/* Opening --------------------------------------------------------------------------------------------------------- */

static int pin_and_check(const char *path, int flags, struct error **refusal)
{
    CLEANUP(close_fd) int pin = path_pin(path, flags);
    if (pin < 0)
        return pin;
    struct error *err = path_pin_check(pin, path);
    if (!err)
        return steal_fd(&pin);
    *refusal = err;
    return -EACCES;
}

static int open_existing(const char *path, int flags, struct error **refusal)
{
    CLEANUP(close_fd) int pin = pin_and_check(path, 0, refusal);
    return pin < 0 ? pin : path_pin_open(pin, flags & ~(O_CREAT | O_EXCL));
}

/* The directory that the last part of @path is in; the caller frees it. *last points into @path. */
static char *directory_of(const char *path, const char **last)
{
    const char *slash = strrchr(path, '/');
    *last = slash ? slash + 1 : path;
    return slash ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup(".");
}

static int create_in_directory(const char *path, int flags, mode_t mode, struct error **refusal)
{
    const char *last;
    CLEANUP(free) char *directory = directory_of(path, &last);
    CLEANUP(close_fd) int pin = pin_and_check(directory, O_DIRECTORY, refusal);
    if (pin < 0)
        return pin;
    int fd = openat(pin, last, flags | O_CREAT | O_EXCL | O_NOFOLLOW | OPEN_FLAGS, mode);
    return fd < 0 ? -errno : fd;
}

static int open_or_create(const char *path, int flags, mode_t mode, struct error **refusal)
{
    for (int i = 0; i < CREATE_TRIES; i++) {
        int fd = flags & O_EXCL ? -ENOENT : open_existing(path, flags, refusal);
        if (fd != -ENOENT)
            return fd;
        fd = create_in_directory(path, flags, mode, refusal);
        if (fd != -EEXIST || flags & O_EXCL)
            return fd;
    }
    return -ELOOP; /* a link that leads to nothing */
}

int path_open(const char *path, int flags, mode_t mode, struct error **refusal)
{
    if (allowed)
        return flags & O_CREAT ? open_or_create(path, flags, mode, refusal) : open_existing(path, flags, refusal);
    int fd = open(path, flags | OPEN_FLAGS, mode);
    return fd < 0 ? -errno : fd;
}

int path_stat(const char *path, struct stat *st, struct error **refusal)
{
    if (!allowed)
        return stat(path, st) < 0 ? -errno : 0;
    CLEANUP(close_fd) int pin = pin_and_check(path, 0, refusal);
    if (pin < 0)
        return pin;
    return fstat(pin, st) < 0 ? -errno : 0;
}

struct error *path_pin_directory(const char *path, int *pin, const char **last)
{
    if (!allowed) {
        *pin = AT_FDCWD;
        *last = path;
        return NULL;
    }
    struct error *refusal = NULL;
    CLEANUP(free) char *directory = directory_of(path, last);
    int ret = pin_and_check(directory, O_DIRECTORY, &refusal);
    if (refusal)
        return refusal;
    if (ret < 0)
        return error_errno(-ret, "cannot look up the directory of '%s'", path);
    *pin = ret;
    return NULL;
}
