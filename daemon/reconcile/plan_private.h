/* What the files of the plan share: the phases, and what is known about the things of both configurations. */
#ifndef CAIRN_DAEMON_RECONCILE_PLAN_PRIVATE_H
#define CAIRN_DAEMON_RECONCILE_PLAN_PRIVATE_H

#include "daemon/reconcile/plan.h"

struct type_descriptor;
struct value_changes;

/* In the order in which their steps are taken (plan.h). */
enum plan_phase {
    PHASE_EXPORTS_GO,
    PHASE_SERVERS_GO,
    PHASE_NODES_GO,
    PHASE_OBJECTS_GO,
    PHASE_OBJECTS,
    PHASE_NODES,
    PHASE_NODES_REOPEN,
    PHASE_NODES_REPLACE,
    PHASE_BITMAPS,
    PHASE_SERVERS,
    PHASE_EXPORTS,
    PHASE_MONITORS,
    PHASE_NODES_GO_LATE,
    PHASE_OBJECTS_GO_LATE,
    PHASE_BITMAPS_GO,
    PHASE_MONITORS_GO,
    PHASE_SETTINGS,
    PHASES,
};

struct phase_steps {
    struct plan_step *steps;
    size_t count;
    size_t room;
};

/* A thing that is in one of the configurations, or in both. */
struct thing {
    struct hash_link by_key;
    const void *now;
    const void *wanted;
    bool goes;   /* is removed, perhaps to be made again */
    bool looked; /* plan_is_shaken() knows */
    bool shaken;
};

struct planning {
    const struct plan_request *request;
    struct arena *arena;
    struct phase_steps phases[PHASES];
    struct hash things; /* by plan_key() */
};

struct thing *plan_find(const struct planning *planning, enum config_item item, const char *name);

void plan_add_step(struct planning *planning, enum plan_phase phase, const struct plan_step *step);

/* Steps that make, remove and change a thing; and the two that remove it and make it again. @path: plan_step.path. */
void plan_add(struct planning *planning, enum plan_phase phase, enum config_item item, const char *name,
              const void *wanted, const char *path);
void plan_remove(struct planning *planning, enum plan_phase phase, enum config_item item, const char *name,
                 const void *now);
void plan_change(struct planning *planning, enum plan_phase phase, enum config_action action, enum config_item item,
                 const char *name, const void *now, const void *then, const char *path, const char *what);
void plan_replace(struct planning *planning, enum plan_phase first, enum plan_phase second, enum config_item item,
                  const char *name, const void *now, const void *wanted, const char *path, const char *why);

/* "replace node 'disk0'", with ": CHANGES" behind. @changes NULL: nothing. */
const char *plan_text(struct planning *planning, enum config_action action, enum config_item item, const char *name,
                      const char *changes);

/* Shall it be removed, since it is described no more? */
bool plan_is_over(const struct planning *planning, enum config_item item, const char *name, bool may_prune);

/* value_diff() without what is said of how a thing is made and does not stay with it. */
struct error *plan_changes(const struct type_descriptor *type, const void *now, const void *then, struct arena *arena,
                           struct value_changes *changes) MUST_CHECK;

/* The same, and in words. */
struct error *plan_diff(struct planning *planning, const struct type_descriptor *type, const void *now,
                        const void *then, struct value_changes *changes, const char **text) MUST_CHECK;

/* plan_nodes.c */
struct error *plan_nodes(struct planning *planning) MUST_CHECK;
/* Does the node stand on one that is replaced, or is it one? After plan_nodes(). */
bool plan_is_shaken(const struct planning *planning, const char *node_name);

/* plan_exports.c; after plan_nodes(), exports after servers */
struct error *plan_servers(struct planning *planning) MUST_CHECK;
struct error *plan_exports(struct planning *planning) MUST_CHECK;

#endif
