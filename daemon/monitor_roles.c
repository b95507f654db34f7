#include "daemon/monitor_roles.h"

#include "blockcore/base/memory.h"
#include "blockcore/objects/glob.h"
#include "daemon/account.h"
#include "rpc/peer.h"

#include <stdlib.h>

struct rule {
    enum { RULE_USER, RULE_GROUP, RULE_TLS_NAME } kind;
    id_t id;
    char *pattern;
    enum monitor_role role;
};

struct monitor_roles {
    enum monitor_role otherwise;
    struct rule *rules;
    size_t count;
};

struct error *monitor_roles_check(const struct monitor_role_rule *rules, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if ((rules[i].user != NULL) + (rules[i].group != NULL) + (rules[i].tls_name != NULL) != 1)
            return error_new("roles[%zu]: one of 'user', 'group' and 'tls-name' must be given", i);
    }
    return NULL;
}

static struct error *take_rule(struct rule *rule, const struct monitor_role_rule *given) CO_FN;

static struct error *take_rule(struct rule *rule, const struct monitor_role_rule *given)
{
    rule->role = given->role;
    rule->kind = given->user ? RULE_USER : given->group ? RULE_GROUP : RULE_TLS_NAME;
    if (given->tls_name)
        rule->pattern = xstrdup(given->tls_name);
    if (given->user)
        return account_find_user(given->user, &rule->id);
    return given->group ? account_find_group(given->group, &rule->id) : NULL;
}

struct error *monitor_roles_create(enum monitor_role otherwise, const struct monitor_role_rule *rules, size_t count,
                                   struct monitor_roles **out)
{
    struct error *err = monitor_roles_check(rules, count);
    if (err)
        return err;
    struct monitor_roles *roles = xcalloc(1, sizeof(*roles));
    *roles = (struct monitor_roles){ .otherwise = otherwise, .count = count };
    roles->rules = xcalloc(count + 1, sizeof(*roles->rules));
    for (size_t i = 0; i < count && !err; i++)
        err = error_wrap(take_rule(&roles->rules[i], &rules[i]), "roles[%zu]", i);
    if (err)
        monitor_roles_destroy(roles);
    else
        *out = roles;
    return err;
}

void monitor_roles_destroy(struct monitor_roles *roles)
{
    if (!roles)
        return;
    for (size_t i = 0; i < roles->count; i++)
        free(roles->rules[i].pattern);
    free(roles->rules);
    free(roles);
}

static bool fits(const struct rule *rule, int fd, const struct rpc_peer *peer)
{
    switch (rule->kind) {
    case RULE_USER:
        return peer->has_credentials && peer->uid == rule->id;
    case RULE_GROUP:
        return peer->has_credentials && rpc_peer_is_in_group(fd, rule->id);
    case RULE_TLS_NAME:
        return peer->tls_name && glob_matches(rule->pattern, peer->tls_name);
    }
    return false;
}

enum monitor_role monitor_roles_of(const struct monitor_roles *roles, int fd, const struct rpc_peer *peer)
{
    for (size_t i = 0; i < roles->count; i++) {
        if (fits(&roles->rules[i], fd, peer))
            return roles->rules[i].role;
    }
    return roles->otherwise;
}
