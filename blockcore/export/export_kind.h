/* export_kind - what a protocol does for the exports that it serves
 *
 * export.c owns the id, the handle and the life cycle; a kind owns what it needs beyond, hanging on `state`. All of
 * this happens on the control thread. */
#ifndef CAIRN_EXPORT_EXPORT_KIND_H
#define CAIRN_EXPORT_EXPORT_KIND_H

#include "blockcore/export/export.h"

struct export_kind {
    enum block_export_type type;

    /* Begins to serve; *state is handed to the others. */
    struct error *(*start)(struct export *export, const struct block_export_options *options,
                           void **state)CO_FN CONTROL_FN;

    /* Who uses it, and what they have done; from @arena. */
    void (*describe_clients)(const void *state, struct arena *arena, const struct export_client_statistics **clients,
                             size_t *count) CONTROL_FN;

    /* Lets no new user in and cuts off those that are there, without waiting for them. Called once. */
    void (*shut_down)(void *state) CONTROL_FN;

    /* The last user is gone. Called after shut_down. */
    void (*destroy)(void *state) CO_FN CONTROL_FN;
};

extern const struct export_kind nbd_export_kind;

/* A user (a client's connection) comes and goes. None may come once the export is shutting down. */
void export_enter(struct export *export) CONTROL_FN;
void export_leave(struct export *export) CONTROL_FN;

#endif
