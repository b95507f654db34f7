/* naming - names of the schema, and what they become in C
 *
 *     BlockdevOptionsQcow2        struct blockdev_options_qcow2
 *     BlkdebugIOType, 'read'      enum blkdebug_io_type, BLKDEBUG_IO_TYPE_READ
 *     node-name, read-only        node_name, read_only
 *     default, errno, unix        default_, errno_, unix_: keywords of C and C++, and macros */
#ifndef SCHEMAC_NAMING_H
#define SCHEMAC_NAMING_H

#include "blockcore/base/arena.h"

#include <stdbool.h>

/* Letters, digits, '-', '_' and '.', as QEMU's rules have it: "x-" and "__RFQDN_" may stand in front; a letter comes
 * first. */
bool name_is_valid(const char *name);

/* Names that begin with "q_" in C are for what is generated. */
bool name_is_kept(const char *name);

/* The name behind "__RFQDN_" and "x-". */
const char *name_stem(const char *name);

/* A member, a branch, a parameter. */
const char *c_identifier(struct arena *arena, const char *name);

/* The same as a part of a longer name: has_NAME, NAME_count. */
const char *c_part(struct arena *arena, const char *name);

/* A tag or a function: lower case, words split by '_', not protected against keywords. */
const char *c_snake(struct arena *arena, const char *name);

/* The same for the tag of a struct or enum: keywords get an underscore. */
const char *c_tag(struct arena *arena, const char *name);

/* "<PREFIX>_<NAME>" in upper case; @prefix may be in any case. */
const char *c_constant(struct arena *arena, const char *prefix, const char *name);

#endif
