/* authz_file - the file of an authz-list-file: AuthZListProperties in JSON (blockcore/objects/authz.h) */
#ifndef CAIRN_DAEMON_AUTHZ_FILE_H
#define CAIRN_DAEMON_AUTHZ_FILE_H

#include "blockcore/base/arena.h"
#include "blockcore/base/error.h"

struct auth_z_list_properties;

/* All of *@out lies in @arena. A pure function; any thread. */
struct error *authz_file_parse(const char *text, size_t bytes, struct arena *arena,
                               const struct auth_z_list_properties **out) MUST_CHECK;

/* From now on objects can have such files. */
void authz_file_begin(void) CONTROL_FN;

#endif
