/* amend_luks - the key slots of a node's LUKS header, for the formats that have one */
#ifndef CAIRN_DRIVERS_AMEND_LUKS_H
#define CAIRN_DRIVERS_AMEND_LUKS_H

#include "blockcore/crypto/luks.h"
#include "blockcore/graph/handle.h"

/* What the passwords in the options do to the header, through @io. @secret: the one that the node was opened with. Each
 * read and write of the header enters @handle. */
struct error *amend_luks(struct handle *handle, const struct luks_io *io, struct luks_header *header,
                         const struct q_crypto_block_amend_options_luks *options, const char *secret, bool force)
    CO_FN CONTROL_FN MUST_CHECK;

#endif
