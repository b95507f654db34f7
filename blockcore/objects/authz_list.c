#include "blockcore/objects/authz_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/objects/glob.h"
#include "blockcore/objects/kinds.h"

#include <string.h>

struct error *authz_check_rules(const struct auth_z_list_properties *rules)
{
    if (rules->rules_count > AUTHZ_RULES_MAX)
        return error_new("rules: %zu are more than %d", rules->rules_count, AUTHZ_RULES_MAX);
    for (size_t i = 0; i < rules->rules_count; i++) {
        if (strlen(rules->rules[i].match) > AUTHZ_MATCH_BYTES_MAX)
            return error_new("rules.%zu.match: is longer than %d bytes", i, AUTHZ_MATCH_BYTES_MAX);
    }
    return NULL;
}

static bool fits(const struct q_auth_z_list_rule *rule, const char *identity)
{
    bool glob = rule->has_format && rule->format == Q_AUTH_Z_LIST_FORMAT_GLOB;
    return glob ? glob_matches(rule->match, identity) : strcmp(rule->match, identity) == 0;
}

bool authz_rules_allow(const struct auth_z_list_properties *rules, const char *identity)
{
    for (size_t i = 0; i < rules->rules_count; i++) {
        if (fits(&rules->rules[i], identity))
            return rules->rules[i].policy == Q_AUTH_Z_LIST_POLICY_ALLOW;
    }
    return rules->has_policy && rules->policy == Q_AUTH_Z_LIST_POLICY_ALLOW;
}

bool authz_list_allows(const struct object *object, const char *identity)
{
    return authz_rules_allow(object_state(object), identity);
}

static struct error *list_check(const struct object_options *options)
{
    return error_wrap(authz_check_rules(&options->u.authz_list), "authz-list '%s'", options->id);
}

static struct error *list_create(struct object *object, const struct object_options *options)
{
    struct auth_z_list_properties *rules = object_state(object);
    const struct auth_z_list_properties *given = &options->u.authz_list;
    struct q_auth_z_list_rule *copies = xcalloc(given->rules_count, sizeof(*copies));
    for (size_t i = 0; i < given->rules_count; i++) {
        copies[i] = given->rules[i];
        copies[i].match = xstrdup(given->rules[i].match);
    }
    *rules = *given;
    rules->rules = copies;
    return NULL;
}

static void list_destroy(struct object *object)
{
    struct auth_z_list_properties *rules = object_state(object);
    for (size_t i = 0; i < rules->rules_count; i++)
        free((char *)(uintptr_t)rules->rules[i].match);
    free((void *)(uintptr_t)rules->rules);
}

static void list_describe(const struct object *object, struct object_options *now, struct arena *arena)
{
    (void)arena;
    now->u.authz_list = *(const struct auth_z_list_properties *)object_state(object);
    now->u.authz_list.has_policy = now->u.authz_list.has_rules = true;
}

const struct object_kind authz_list_kind = {
    .type = OBJECT_TYPE_AUTHZ_LIST,
    .parent = "authz",
    .state_size = sizeof(struct auth_z_list_properties),
    .check = list_check,
    .create = list_create,
    .destroy = list_destroy,
    .describe = list_describe,
};
