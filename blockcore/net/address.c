#include "blockcore/net/address.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "schema/cairn_types.h"

#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

union any_address {
    struct sockaddr generic;
    struct sockaddr_storage storage;
    struct sockaddr_un unix_;
    struct sockaddr_vm vsock;
};

struct inet_text {
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
};

static char *describe_inet(const char *host, const char *port)
{
    return xasprintf(strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

char *address_describe(const struct socket_address *address)
{
    switch (address->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        return describe_inet(address->u.inet.host, address->u.inet.port);
    case SOCKET_ADDRESS_TYPE_UNIX:
        return xasprintf("unix:%s", address->u.unix_.path);
    case SOCKET_ADDRESS_TYPE_VSOCK:
        return xasprintf("vsock:%s:%s", address->u.vsock.cid, address->u.vsock.port);
    case SOCKET_ADDRESS_TYPE_FD:
        return xasprintf("fd:%s", address->u.fd.str);
    case SOCKET_ADDRESS_TYPE__MAX:
        break;
    }
    return xstrdup("nowhere");
}

static bool inet_text_of(const union any_address *address, socklen_t bytes, struct inet_text *out)
{
    return getnameinfo(&address->generic, bytes, out->host, sizeof(out->host), out->port, sizeof(out->port),
                       NI_NUMERICHOST | NI_NUMERICSERV) == 0;
}

static bool fill_inet(const union any_address *address, socklen_t bytes, struct arena *arena,
                      struct socket_address *out)
{
    struct inet_text text;
    if (!inet_text_of(address, bytes, &text))
        return false;
    out->type = SOCKET_ADDRESS_TYPE_INET;
    out->u.inet.host = arena_strdup(arena, text.host);
    out->u.inet.port = arena_strdup(arena, text.port);
    return true;
}

/* A name that begins with a zero byte is abstract; it may have been padded with more of them. */
static bool fill_unix(const struct sockaddr_un *address, socklen_t bytes, struct arena *arena,
                      struct socket_address *out)
{
    size_t length = bytes - offsetof(struct sockaddr_un, sun_path);
    bool abstract = length > 0 && address->sun_path[0] == '\0';
    const char *name = address->sun_path + abstract;
    out->type = SOCKET_ADDRESS_TYPE_UNIX;
    out->u.unix_.path = arena_strndup(arena, name, strnlen(name, length - abstract));
    out->u.unix_.has_abstract = out->u.unix_.abstract = abstract;
    return length > 0;
}

static bool fill_vsock(const struct sockaddr_vm *address, struct arena *arena, struct socket_address *out)
{
    out->type = SOCKET_ADDRESS_TYPE_VSOCK;
    out->u.vsock.cid = arena_printf(arena, "%u", address->svm_cid);
    out->u.vsock.port = arena_printf(arena, "%u", address->svm_port);
    return true;
}

bool address_of_listener(int fd, struct arena *arena, struct socket_address *out)
{
    union any_address address;
    socklen_t bytes = sizeof(address);
    memset(out, 0, sizeof(*out));
    if (getsockname(fd, &address.generic, &bytes) < 0)
        return false;
    switch (address.generic.sa_family) {
    case AF_INET:
    case AF_INET6:
        return fill_inet(&address, bytes, arena, out);
    case AF_UNIX:
        return fill_unix(&address.unix_, bytes, arena, out);
    case AF_VSOCK:
        return fill_vsock(&address.vsock, arena, out);
    default:
        return false;
    }
}

static char *unix_peer(int fd)
{
    struct ucred credentials;
    socklen_t bytes = sizeof(credentials);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) < 0)
        return xstrdup("unix");
    return xasprintf("unix:pid=%d", (int)credentials.pid);
}

char *address_of_peer(int fd)
{
    union any_address address;
    struct inet_text text;
    socklen_t bytes = sizeof(address);
    if (getpeername(fd, &address.generic, &bytes) < 0)
        return xstrdup("somebody who left at once");
    switch (address.generic.sa_family) {
    case AF_INET:
    case AF_INET6:
        if (inet_text_of(&address, bytes, &text))
            return describe_inet(text.host, text.port);
        break;
    case AF_UNIX:
        return unix_peer(fd);
    case AF_VSOCK:
        return xasprintf("vsock:%u:%u", address.vsock.svm_cid, address.vsock.svm_port);
    }
    return xstrdup("somebody");
}
