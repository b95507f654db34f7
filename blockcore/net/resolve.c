#include "blockcore/net/resolve.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/net/host_policy.h"
#include "blockcore/net/listen_private.h"
#include "blockcore/runtime/fd_close.h"
#include "blockcore/runtime/passed_fd.h"
#include "blockcore/runtime/path_policy.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static void append(struct resolved *out, const void *address, size_t bytes)
{
    if (out->count == RESOLVED_MAX || bytes > sizeof(out->items[0].address))
        return;
    memcpy(&out->items[out->count].address, address, bytes);
    out->items[out->count++].bytes = (socklen_t)bytes;
}

/* The way to the socket is gone through once: what is connected to is what was allowed (runtime/path_policy.h). */
static struct error *resolve_by_policy(const struct unix_socket_address *given, struct resolved *out)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (given->abstract)
        return error_new("the policy does not allow abstract names, such as '%s' (its 'paths')", given->path);
    CLEANUP(close_fd) int pin = path_pin(given->path, 0);
    struct error *err =
        pin < 0 ? error_errno(-pin, "cannot look up '%s'", given->path) : path_pin_check(pin, given->path);
    if (err)
        return err;
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", pin);
    out->pin = steal_fd(&pin);
    out->pinned = true;
    append(out, &address, sizeof(address));
    return NULL;
}

void resolved_fini(struct resolved *resolved)
{
    if (resolved->pinned)
        close(resolved->pin);
    resolved->pinned = false;
}

static struct error *resolve_unix(const struct unix_socket_address *given, struct resolved *out)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (path_policy_is_set())
        return resolve_by_policy(given, out);
    size_t length = strlen(given->path);
    size_t begin = given->abstract ? 1 : 0; /* abstract names begin with a zero byte */
    if (length == 0)
        return error_new("the path of a UNIX socket is empty");
    if (begin + length >= sizeof(address.sun_path))
        return error_new("UNIX socket path '%s' is too long: at most %zu bytes", given->path,
                         sizeof(address.sun_path) - 1 - begin);
    memcpy(address.sun_path + begin, given->path, length);
    bool tight = given->abstract && given->tight;
    append(out, &address, tight ? offsetof(struct sockaddr_un, sun_path) + begin + length : sizeof(address));
    return NULL;
}

static struct error *resolve_vsock(const struct vsock_socket_address *given, struct resolved *out)
{
    struct sockaddr_vm address = { .svm_family = AF_VSOCK };
    CLEANUP(free) char *host = xasprintf("vsock:%s", given->cid);
    struct error *err = host_policy_check_connect(host);
    if (err)
        return err;
    if (!listen_parse_number(given->cid, UINT32_MAX, &address.svm_cid))
        return error_new("'%s' is not a vsock cid", given->cid);
    if (!listen_parse_number(given->port, UINT32_MAX, &address.svm_port))
        return error_new("'%s' is not a vsock port", given->port);
    append(out, &address, sizeof(address));
    return NULL;
}

/* @flags: further ones of getaddrinfo(). */
static int look_up(const struct inet_socket_address *inet, int family, int flags, struct addrinfo **found)
{
    struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = flags };
    if (inet->numeric)
        hints.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
    return getaddrinfo(inet->host[0] ? inet->host : NULL, inet->port, &hints, found);
}

static struct error *resolve_inet(const struct inet_socket_address *inet, struct resolved *out)
{
    int family;
    struct addrinfo *found;
    struct error *err = host_policy_check_connect(inet->host);
    if (!err)
        err = listen_family(inet, &family);
    if (err)
        return err;
    int ret = look_up(inet, family, 0, &found);
    if (ret == EAI_SYSTEM)
        return error_errno(errno, "cannot look up '%s:%s'", inet->host, inet->port);
    if (ret != 0)
        return error_new("cannot look up '%s:%s': %s", inet->host, inet->port, gai_strerror(ret));
    for (const struct addrinfo *at = found; at; at = at->ai_next)
        append(out, at->ai_addr, at->ai_addrlen);
    freeaddrinfo(found);
    return NULL;
}

bool resolve_is_quick(const struct socket_address *address)
{
    struct addrinfo *found;
    if (address->type != SOCKET_ADDRESS_TYPE_INET)
        return address->type != SOCKET_ADDRESS_TYPE_UNIX || !path_policy_is_set();
    if (look_up(&address->u.inet, AF_UNSPEC, AI_NUMERICHOST | AI_NUMERICSERV, &found) != 0)
        return false;
    freeaddrinfo(found);
    return true;
}

struct error *resolve(const struct socket_address *address, struct resolved *out)
{
    out->count = 0;
    out->pinned = false;
    switch (address->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        return resolve_inet(&address->u.inet, out);
    case SOCKET_ADDRESS_TYPE_UNIX:
        return resolve_unix(&address->u.unix_, out);
    case SOCKET_ADDRESS_TYPE_VSOCK:
        return resolve_vsock(&address->u.vsock, out);
    case SOCKET_ADDRESS_TYPE_FD:
    case SOCKET_ADDRESS_TYPE__MAX:
        break;
    }
    return error_new("this kind of address cannot be looked up");
}

struct error *resolve_fd(const struct socket_address *address, int *fd)
{
    uint32_t number;
    int type;
    socklen_t bytes = sizeof(type);
    const char *text = address->u.fd.str;
    int named = named_fd_take(text);
    if (named >= 0)
        number = (uint32_t)named;
    else if (!listen_takes_numbers() || !listen_parse_number(text, INT32_MAX, &number))
        return error_new("'%s' is neither the number of a descriptor nor the name of one that was passed", text);
    struct error *err = NULL;
    if (getsockopt((int)number, SOL_SOCKET, SO_TYPE, &type, &bytes) < 0)
        err = error_errno(errno, "descriptor %s is not a socket", text);
    else if ((*fd = fcntl((int)number, F_DUPFD_CLOEXEC, 0)) < 0)
        err = error_errno(errno, "cannot copy descriptor %s", text);
    if (named >= 0)
        co_fd_close(named);
    return err;
}

/* Copies -------------------------------------------------------------------------------------------------------- */

/* The strings of an address: at most two. */
static void strings_of(struct socket_address *address, const char **strings[2])
{
    strings[0] = strings[1] = NULL;
    switch (address->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        strings[0] = &address->u.inet.host;
        strings[1] = &address->u.inet.port;
        break;
    case SOCKET_ADDRESS_TYPE_UNIX:
        strings[0] = &address->u.unix_.path;
        break;
    case SOCKET_ADDRESS_TYPE_VSOCK:
        strings[0] = &address->u.vsock.cid;
        strings[1] = &address->u.vsock.port;
        break;
    case SOCKET_ADDRESS_TYPE_FD:
        strings[0] = &address->u.fd.str;
        break;
    case SOCKET_ADDRESS_TYPE__MAX:
        break;
    }
}

struct socket_address *address_copy(const struct socket_address *address)
{
    struct socket_address *copy = xmalloc(sizeof(*copy));
    const char **strings[2];
    *copy = *address;
    strings_of(copy, strings);
    for (unsigned i = 0; i < 2; i++) {
        if (strings[i])
            *strings[i] = xstrdup(*strings[i]);
    }
    return copy;
}

void address_free(struct socket_address *address)
{
    const char **strings[2];
    if (!address)
        return;
    strings_of(address, strings);
    for (unsigned i = 0; i < 2; i++) {
        if (strings[i])
            free((void *)(uintptr_t)*strings[i]);
    }
    free(address);
}
