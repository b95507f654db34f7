/* renew - another node in the place of one that is in use, under its name and perhaps on its image
 *
 *     users --> old       users ==> vacancy      users ==> vacancy       users --> new
 *                         old                    new
 *
 * Both cannot be open at once, since the first one has locked the image and remembers parts of it. So its users'
 * requests are held back (==>) while the old one is closed and the new one opened. In between they stand on a node that
 * fails whatever it is asked: nobody asks it anything, unless neither the new node nor the old one can be opened. */
#ifndef CAIRN_DAEMON_RECONCILE_RENEW_H
#define CAIRN_DAEMON_RECONCILE_RENEW_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

struct apply_wish;

/* Both have the same node-name; @now is what the node was made with. After an error the node is as it was, unless
 * *@lost: then its users' requests fail. A node that is in use keeps its length. @wish (apply.h): as long as users wait
 * for their requests, to leave the old node, it can be cancelled; NULL: never. */
struct error *node_renew(const struct blockdev_options *now, const struct blockdev_options *then,
                         struct apply_wish *wish, bool *lost) CO_FN CONTROL_FN MUST_CHECK;

#endif
