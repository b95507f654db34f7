/* host_policy - which hosts may be connected to, and where may be listened
 *
 * Patterns (objects/glob.h) for what a client names: a name, or an address in digits. What a name server makes of a
 * name is its own affair. Addresses between host and guest are called "vsock:CID". By default everything is allowed.
 * Any thread; set before the others begin. */
#ifndef CAIRN_NET_HOST_POLICY_H
#define CAIRN_NET_HOST_POLICY_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct host_list {
    const char *const *patterns;
    size_t count;
};

/* NULL: any host. The lists live as long as the process. */
void host_policy_set(const struct host_list *connect, const struct host_list *listen);

/* Is there a list of hosts that may be connected to? */
bool host_policy_is_set(void);

struct error *host_policy_check_connect(const char *host) MUST_CHECK;
struct error *host_policy_check_listen(const char *host) MUST_CHECK;

#endif
