/* blkdebug_config - the rules of blkdebug in a file
 *
 *     # fails the second write
 *     [set-state]
 *     event = "write_aio"
 *     state = "1"
 *     new_state = "2"
 *
 *     [inject-error]
 *     event = "write_aio"
 *     state = "2"
 *     errno = "28"
 *
 * A line is blank, a comment that begins with '#', the begin of a rule ('[KIND]' or '[KIND "NAME"]', the name of which
 * says nothing), or a member of it, with the value in quotes. Members and their meaning are those of the options
 * inject-error and set-state. Source: QEMU, docs/devel/testing/blkdebug.rst. */
#ifndef CAIRN_FILTERS_BLKDEBUG_CONFIG_H
#define CAIRN_FILTERS_BLKDEBUG_CONFIG_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stddef.h>

#define BLKDEBUG_CONFIG_BYTES_MAX (1024 * 1024)
#define BLKDEBUG_CONFIG_RULES_MAX 4096 /* of each kind */

struct blkdebug_config {
    struct blkdebug_inject_error_options *injections;
    size_t injections_count;
    struct blkdebug_set_state_options *transitions;
    size_t transitions_count;
};

/* Any bytes. The error names the line: "line 3: ...". blkdebug_config_fini() in both cases. */
struct error *blkdebug_config_parse(const char *text, size_t bytes, struct blkdebug_config *config) MUST_CHECK;
void blkdebug_config_fini(struct blkdebug_config *config);

#endif
