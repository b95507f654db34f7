#include "blockcore/base/cleanup.h"
#include "blockcore/net/host_policy.h"
#include "blockcore/net/listen_private.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define ANY_PORT_TRIES 16 /* the system's choice for one address may be taken for another */

static void free_addresses(struct addrinfo *addresses)
{
    freeaddrinfo(addresses);
}
DEFINE_CLEANUP(free_addresses, struct addrinfo *)

/* What is asked for counts before what is forbidden; without either, both families may be used. */
struct error *listen_family(const struct inet_socket_address *inet, int *family)
{
    bool want4 = inet->has_ipv4 && inet->ipv4;
    bool want6 = inet->has_ipv6 && inet->ipv6;
    bool refuse4 = inet->has_ipv4 && !inet->ipv4;
    bool refuse6 = inet->has_ipv6 && !inet->ipv6;
    if (refuse4 && refuse6)
        return error_new("IPv4 and IPv6 cannot both be disabled");
    if (want4 == want6 && refuse4 == refuse6)
        *family = AF_UNSPEC;
    else
        *family = want6 || refuse4 ? AF_INET6 : AF_INET;
    return NULL;
}

static struct error *look_up(const struct inet_socket_address *inet, struct addrinfo **out)
{
    uint32_t number;
    bool port_is_number = inet->port[0] >= '0' && inet->port[0] <= '9';
    if (port_is_number && !listen_parse_number(inet->port, UINT16_MAX, &number))
        return error_new("'%s' is not a port between 0 and 65535", inet->port);

    struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM };
    if (inet->has_numeric && inet->numeric)
        hints.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
    struct error *err = host_policy_check_listen(inet->host);
    if (!err)
        err = listen_family(inet, &hints.ai_family);
    if (err)
        return err;
    int ret = getaddrinfo(inet->host[0] ? inet->host : NULL, inet->port, &hints, out);
    if (ret == EAI_SYSTEM)
        return error_errno(errno, "cannot look up '%s:%s'", inet->host, inet->port);
    if (ret != 0)
        return error_new("cannot look up '%s:%s': %s", inet->host, inet->port, gai_strerror(ret));
    return NULL;
}

/* The port lies at the same place in addresses of IPv4 and IPv6, but the types do not say so. */
static in_port_t *port_of(struct sockaddr *address)
{
    return address->sa_family == AF_INET6 ? &((struct sockaddr_in6 *)(void *)address)->sin6_port
                                          : &((struct sockaddr_in *)(void *)address)->sin_port;
}

/* The same address twice, as a name in /etc/hosts may give it, would stand in its own way. */
static bool seen_before(const struct addrinfo *first, const struct addrinfo *address)
{
    for (const struct addrinfo *other = first; other != address; other = other->ai_next) {
        if (other->ai_addrlen == address->ai_addrlen &&
            memcmp(other->ai_addr, address->ai_addr, address->ai_addrlen) == 0)
            return true;
    }
    return false;
}

static int listen_one(const struct inet_socket_address *inet, const struct addrinfo *address)
{
    static const int on = 1;
    bool mptcp = inet->has_mptcp && inet->mptcp;
    CLEANUP(close_fd) int fd = listen_socket(address->ai_family, mptcp ? IPPROTO_MPTCP : 0);
    if (fd < 0)
        return fd;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (inet->has_keep_alive && inet->keep_alive)
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)); /* accepted sockets inherit it */
    int ret = listen_bind(fd, address->ai_addr, address->ai_addrlen);
    return ret < 0 ? ret : steal_fd(&fd);
}

static void close_all(struct listening *out)
{
    while (out->count > 0)
        close(out->fds[--out->count]);
}

static in_port_t bound_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t bytes = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &bytes) < 0)
        return 0;
    return *port_of((struct sockaddr *)&address);
}

/* All addresses on one port (network order; 0: the system's choice, the same for all). An address that this machine
 * does not have is left out if another can be had. 0 or -errno. */
static int listen_on_port(const struct inet_socket_address *inet, struct addrinfo *addresses, in_port_t port,
                          struct listening *out)
{
    int failed = -EADDRNOTAVAIL;
    for (struct addrinfo *address = addresses; address; address = address->ai_next)
        *port_of(address->ai_addr) = port;
    for (struct addrinfo *address = addresses; address && out->count < LISTEN_SOCKETS_MAX; address = address->ai_next) {
        if (seen_before(addresses, address))
            continue;
        if (port == 0 && out->count > 0)
            *port_of(address->ai_addr) = bound_port(out->fds[0]);
        int fd = listen_one(inet, address);
        if (fd >= 0) {
            out->fds[out->count++] = fd;
        } else if (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT) {
            failed = fd;
        } else {
            close_all(out);
            return fd;
        }
    }
    return out->count > 0 ? 0 : failed;
}

struct error *listen_inet(const struct inet_socket_address *inet, struct listening *out)
{
    CLEANUP(free_addresses) struct addrinfo *addresses = NULL;
    struct error *err = look_up(inet, &addresses);
    if (err)
        return err;
    unsigned first = ntohs(*port_of(addresses->ai_addr));
    unsigned last = inet->has_to ? inet->to : first;
    if (last < first)
        return error_new("the range of ports %u to %u is empty", first, last);

    int ret = -EADDRINUSE;
    if (first == 0) {
        for (unsigned i = 0; i < ANY_PORT_TRIES && ret == -EADDRINUSE; i++)
            ret = listen_on_port(inet, addresses, 0, out);
    } else {
        for (unsigned port = first; port <= last && ret == -EADDRINUSE; port++)
            ret = listen_on_port(inet, addresses, htons((in_port_t)port), out);
    }
    if (ret < 0)
        return error_errno(-ret, "cannot listen on '%s:%s'", inet->host, inet->port);
    return NULL;
}
