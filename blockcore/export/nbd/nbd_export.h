/* nbd_export - the exports that NBD clients may choose from
 *
 * All servers show the same exports. They are looked up on the control thread only; a connection that was let in holds
 * what it needs until it is gone. */
#ifndef CAIRN_EXPORT_NBD_NBD_EXPORT_H
#define CAIRN_EXPORT_NBD_NBD_EXPORT_H

#include "blockcore/base/list.h"
#include "blockcore/export/nbd/haggle.h"

struct handle;
struct nbd_export;

/* The export of that name. The empty name means the export that has it, else the only one there is. NULL when there is
 * none, or it is shutting down. */
struct nbd_export *nbd_export_find(struct nbd_string name) CONTROL_FN;

/* In the order of their making: the one after @after, which is NULL at first; NULL ends. Without awaits between. */
struct nbd_export *nbd_export_next(const struct nbd_export *after) CONTROL_FN;

/* Numbers grow in that order and are not given out again. */
uint64_t nbd_export_number(const struct nbd_export *export) CONTROL_FN;

/* What clients are told of it; nbd_offer_fini(). @single: the server lets in one connection at a time. */
struct nbd_offer nbd_export_offer(const struct nbd_export *export, bool single) CONTROL_FN;

/* What a connection needs for its requests; valid while it is attached. */
struct nbd_export_access {
    struct handle *handle;
    bool writable;
    bool writethrough;
};

/* A connection comes (its @link goes into the export's list) and goes. */
struct nbd_export_access nbd_export_attach(struct nbd_export *export, struct list *link) CONTROL_FN;
void nbd_export_detach(struct nbd_export *export, struct list *link) CONTROL_FN;

#endif
