/* monitor_roles - what a client of a monitor may do, by who it is
 *
 *     roles: [ {user: backup, role: operate}, {tls-name: 'CN=ops,*', role: admin} ]      the first that fits counts,
 *     role: read                                                                        this one otherwise
 */
#ifndef CAIRN_DAEMON_MONITOR_ROLES_H
#define CAIRN_DAEMON_MONITOR_ROLES_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

struct monitor_roles;
struct rpc_peer;

/* Is this something that can be meant? */
struct error *monitor_roles_check(const struct monitor_role_rule *rules, size_t count) MUST_CHECK;

/* Names are looked up now, once. Error: there is no such user or group. */
struct error *monitor_roles_create(enum monitor_role otherwise, const struct monitor_role_rule *rules, size_t count,
                                   struct monitor_roles **out) CO_FN MUST_CHECK;
/* NULL is allowed. */
void monitor_roles_destroy(struct monitor_roles *roles);

/* The role of who connected the socket @fd, as @peer says. */
enum monitor_role monitor_roles_of(const struct monitor_roles *roles, int fd, const struct rpc_peer *peer);

#endif
