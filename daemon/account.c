#include "daemon/account.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/pool.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_BYTES (64 * 1024) /* of a user or a group with its members */

struct query {
    const char *name;
    bool group;
    id_t found;
    const uid_t *users;
    size_t count;
    char **names;
};

/* Such as 1000; not the number that means "nobody at all" to chown(2). */
static bool is_number(const char *name, id_t *out)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(name, &end, 10);
    if (*name < '0' || *name > '9' || *end || errno || number >= (id_t)-1)
        return false;
    *out = (id_t)number;
    return true;
}

static int find_user(struct query *query, char *room)
{
    struct passwd entry;
    struct passwd *found = NULL;
    int ret = getpwnam_r(query->name, &entry, room, ENTRY_BYTES, &found);
    query->found = found ? found->pw_uid : 0;
    return found ? 0 : ret > 0 ? -ret : -ENOENT;
}

static int find_group(struct query *query, char *room)
{
    struct group entry;
    struct group *found = NULL;
    int ret = getgrnam_r(query->name, &entry, room, ENTRY_BYTES, &found);
    query->found = found ? found->gr_gid : 0;
    return found ? 0 : ret > 0 ? -ret : -ENOENT;
}

static int run_find(void *arg)
{
    struct query *query = arg;
    CLEANUP(free) char *room = xmalloc(ENTRY_BYTES);
    return query->group ? find_group(query, room) : find_user(query, room);
}

static int run_names(void *arg)
{
    const struct query *query = arg;
    CLEANUP(free) char *room = xmalloc(ENTRY_BYTES);
    for (size_t i = 0; i < query->count; i++) {
        struct passwd entry;
        struct passwd *found = NULL;
        if (getpwuid_r(query->users[i], &entry, room, ENTRY_BYTES, &found) == 0 && found)
            query->names[i] = xstrdup(found->pw_name);
    }
    return 0;
}

static int ask(int (*fn)(void *arg), struct query *query) CO_FN;

static int ask(int (*fn)(void *arg), struct query *query)
{
    struct pool_domain *domain = pool_domain_create("accounts", 1);
    int ret = co_blocking(domain, fn, query);
    pool_domain_unref(domain);
    return ret;
}

static struct error *find(const char *name, bool group, id_t *out) CO_FN;

static struct error *find(const char *name, bool group, id_t *out)
{
    struct query query = { .name = name, .group = group };
    if (is_number(name, out))
        return NULL;
    int ret = ask(run_find, &query);
    *out = query.found;
    if (ret == -ENOENT)
        return error_new("there is no %s '%s'", group ? "group" : "user", name);
    return ret < 0 ? error_errno(-ret, "cannot look up the %s '%s'", group ? "group" : "user", name) : NULL;
}

struct error *account_find_user(const char *name, uid_t *out)
{
    return find(name, false, out);
}

struct error *account_find_group(const char *name, gid_t *out)
{
    return find(name, true, out);
}

void account_names(const uid_t *users, size_t count, char **names)
{
    struct query query = { .users = users, .count = count, .names = names };
    memset(names, 0, count * sizeof(*names));
    if (count > 0)
        (void)ask(run_names, &query);
}
