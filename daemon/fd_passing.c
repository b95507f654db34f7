/* Commands for descriptors that clients pass (schema/fd-passing.json). */
#include "blockcore/base/arena.h"
#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/fd_close.h"
#include "blockcore/runtime/passed_fd.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

#include <stdlib.h>

static struct error *take_fd(struct command_context *context, int *fd)
{
    *fd = command_take_fd(context);
    return *fd < 0 ? error_new("No file descriptor supplied via SCM_RIGHTS") : NULL;
}

struct error *handle_getfd(struct command_context *context, const struct getfd_arguments *arguments)
{
    const char *name = arguments->fdname;
    int fd;
    struct error *err = take_fd(context, &fd);
    if (err)
        return err;
    int unused = -1;
    if (*name == '\0' || (*name >= '0' && *name <= '9'))
        err = error_new("Parameter 'fdname' expects a name not starting with a digit");
    else
        err = named_fd_put(name, command_client(context), fd, &unused);
    if (unused >= 0)
        co_fd_close(unused);
    if (err)
        co_fd_close(fd);
    return err;
}

struct error *handle_closefd(struct command_context *context, const struct closefd_arguments *arguments)
{
    (void)context;
    int fd = named_fd_take(arguments->fdname);
    if (fd < 0)
        return error_new("File descriptor named '%s' not found", arguments->fdname);
    co_fd_close(fd);
    return NULL;
}

struct error *handle_add_fd(struct command_context *context, const struct add_fd_arguments *arguments,
                            struct addfd_info *result)
{
    int fd;
    struct error *err = take_fd(context, &fd);
    if (err)
        return err;
    int64_t id = arguments->has_fdset_id ? arguments->fdset_id : FDSET_ANY;
    err = fdset_add(&id, fd, arguments->opaque);
    if (err)
        co_fd_close(fd);
    *result = (struct addfd_info){ .fdset_id = id, .fd = fd };
    return err;
}

struct error *handle_remove_fd(struct command_context *context, const struct remove_fd_arguments *arguments)
{
    (void)context;
    CLEANUP(free) int *fds;
    size_t count;
    struct error *err = fdset_remove(arguments->fdset_id, arguments->has_fd ? arguments->fd : FDSET_ANY, &fds, &count);
    for (size_t i = 0; i < count; i++)
        co_fd_close(fds[i]);
    return err;
}

/* How many follow that are of the same set: they lie together. */
static size_t members_of_set(const struct fdset_member *members, size_t count)
{
    size_t same = 1;
    while (same < count && members[same].id == members[0].id)
        same++;
    return same;
}

static struct fdset_info describe_set(struct arena *arena, const struct fdset_member *members, size_t count)
{
    struct fdset_fd_info *infos = arena_array(arena, count, sizeof(*infos));
    for (size_t i = 0; i < count; i++) {
        infos[i].fd = members[i].fd;
        infos[i].opaque = members[i].opaque ? arena_strdup(arena, members[i].opaque) : NULL;
    }
    return (struct fdset_info){ .fdset_id = members[0].id, .fds = infos, .fds_count = count };
}

struct error *handle_query_fdsets(struct command_context *context, struct fdset_info_list *result)
{
    struct arena *arena = command_arena(context);
    struct fdset_member *members;
    size_t count;
    fdset_list(&members, &count);
    result->items = arena_array(arena, count, sizeof(*result->items));
    for (size_t i = 0, same; i < count; i += same) {
        same = members_of_set(&members[i], count - i);
        result->items[result->count++] = describe_set(arena, &members[i], same);
    }
    for (size_t i = 0; i < count; i++)
        free(members[i].opaque);
    free(members);
    return NULL;
}
