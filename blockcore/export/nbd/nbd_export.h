/* nbd_export - the exports that NBD clients may choose from
 *
 * They stand on the shelves of servers, all or some (shelf.h), where they are looked up on the control thread only; a
 * connection that was let in holds what it needs until it is gone. */
#ifndef CAIRN_EXPORT_NBD_NBD_EXPORT_H
#define CAIRN_EXPORT_NBD_NBD_EXPORT_H

#include "blockcore/base/list.h"
#include "blockcore/export/nbd/haggle.h"

struct handle;
struct nbd_account;
struct nbd_bitmaps;
struct nbd_export;
struct nbd_shelf;

const char *nbd_export_name(const struct nbd_export *export) CONTROL_FN;
const char *nbd_export_id(const struct nbd_export *export) CONTROL_FN;

/* Numbers begin with 1, grow in the order of their making, and are not given out again. */
uint64_t nbd_export_number(const struct nbd_export *export) CONTROL_FN;

/* A server has begun to run: exports that name no servers are shown there too. */
void nbd_exports_fill(struct nbd_shelf *shelf) CONTROL_FN;
/* A server ends: removes, users or not, the exports that are shown nowhere any more, as export_del_all() does. */
void nbd_exports_remove_unseen(void) CO_FN CONTROL_FN;

/* What clients are told of it; nbd_offer_fini(). @single: the server lets in one connection at a time. */
struct nbd_offer nbd_export_offer(const struct nbd_export *export, bool single) CONTROL_FN;

/* What a connection needs for its requests; valid while it is attached. */
struct nbd_export_access {
    struct handle *handle;
    bool writable;
    bool writethrough;
    struct nbd_account *account; /* for the data of its requests */
    uint32_t block;              /* minimum block as the client was told */
    const struct nbd_bitmaps *bitmaps;
    const char *id; /* the export's */
};

/* A connection comes (its @link goes into the export's list) and goes. */
struct nbd_export_access nbd_export_attach(struct nbd_export *export, struct list *link) CONTROL_FN;
void nbd_export_detach(struct nbd_export *export, struct list *link) CONTROL_FN;

#endif
