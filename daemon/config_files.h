/* config_files - the texts that a configuration consists of
 *
 * A path is a file, or a directory whose files ending in ".yaml" are taken in the order of the bytes of their names
 * (those that begin with a dot aside). */
#ifndef CAIRN_DAEMON_CONFIG_FILES_H
#define CAIRN_DAEMON_CONFIG_FILES_H

#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define CONFIG_FILES_MAX 1000

struct config_source {
    const char *name; /* for messages */
    const char *text;
    size_t length;
};

/* @by_client: who names them, so that they have to be where the policy allows it. Blocks. Also after an error the
 * caller frees what there is. A file that is too large is cut behind its limit, which yaml_tree_parse() tells. */
struct error *config_files_read(const char *const *paths, size_t count, bool by_client, struct config_source **out,
                                size_t *out_count) MUST_CHECK;
void config_files_free(struct config_source *texts, size_t count);

#endif
