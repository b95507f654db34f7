#include "daemon/socket_address.h"

struct socket_address socket_address_of_legacy(const struct socket_address_legacy *legacy)
{
    struct socket_address address = { .type = legacy->type };
    switch (legacy->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        address.u.inet = *legacy->u.inet.data;
        break;
    case SOCKET_ADDRESS_TYPE_UNIX:
        address.u.unix_ = *legacy->u.unix_.data;
        break;
    case SOCKET_ADDRESS_TYPE_VSOCK:
        address.u.vsock = *legacy->u.vsock.data;
        break;
    case SOCKET_ADDRESS_TYPE_FD:
        address.u.fd = *legacy->u.fd.data;
        break;
    case SOCKET_ADDRESS_TYPE__MAX:
        break;
    }
    return address;
}
