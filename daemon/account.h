/* account - users and groups of this host, by name and number
 *
 * The names may come from a directory server that does not answer, so they are looked up on the pool. */
#ifndef CAIRN_DAEMON_ACCOUNT_H
#define CAIRN_DAEMON_ACCOUNT_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stddef.h>
#include <sys/types.h>

/* @name is a name, or a number in digits that need not be anybody's. Error: there is none of that name. */
struct error *account_find_user(const char *name, uid_t *out) CO_FN MUST_CHECK;
struct error *account_find_group(const char *name, gid_t *out) CO_FN MUST_CHECK;

/* Names of @count users; NULL for those without one, or that nobody tells. The caller frees each. */
void account_names(const uid_t *users, size_t count, char **names) CO_FN;

#endif
