/* shelf - the exports that one NBD server shows
 *
 *     server 'default'         server 'backup'
 *     shelf: disk0, disk1      shelf: disk0, tape        an export stands on every shelf, or on those it names
 *               ^                        ^
 *               '------- 'disk0' --------'
 *
 * Names are unique on each shelf. Clients look exports up on the shelf of their server; from there they are taken by
 * attaching to them (nbd_export.h). */
#ifndef CAIRN_EXPORT_NBD_SHELF_H
#define CAIRN_EXPORT_NBD_SHELF_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/hash.h"
#include "blockcore/base/list.h"
#include "blockcore/export/nbd/haggle.h"

struct nbd_export;

struct nbd_shelf {
    struct hash by_name;
    struct list places; /* in the order in which the exports were made */
};

void nbd_shelf_init(struct nbd_shelf *shelf);

/* The name must not be there yet. An export is put on a shelf before any that was made later. */
void nbd_shelf_put(struct nbd_shelf *shelf, struct nbd_export *export, struct list *places_of_export) CONTROL_FN;
bool nbd_shelf_has(const struct nbd_shelf *shelf, const char *name) CONTROL_FN;

/* Takes everything off a shelf, or an export off all of them. Harmless when there is nothing. */
void nbd_shelf_clear(struct nbd_shelf *shelf) CONTROL_FN;
void nbd_shelves_withdraw(struct list *places_of_export) CONTROL_FN;

/* The export of that name. The empty name means the export that has it, else the only one there is. NULL when there is
 * none. */
struct nbd_export *nbd_shelf_find(const struct nbd_shelf *shelf, struct nbd_string name) CONTROL_FN;

/* In the order of their making: those after *cursor, at most @max. Returns their number, 0 at the end. *cursor begins
 * as 0 and moves on; exports may come and go between two calls. */
unsigned nbd_shelf_list(const struct nbd_shelf *shelf, uint64_t *cursor, struct nbd_export **out,
                        unsigned max) CONTROL_FN;

#endif
