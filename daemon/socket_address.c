#include "daemon/socket_address.h"

#include "daemon/path.h"

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

struct socket_address socket_address_for_later(const struct socket_address *address, char **path)
{
    struct socket_address adapted = *address;
    const struct unix_socket_address *unix_ = &address->u.unix_;
    bool in_file_system = address->type == SOCKET_ADDRESS_TYPE_UNIX && !(unix_->has_abstract && unix_->abstract);
    *path = in_file_system ? path_for_later(unix_->path) : NULL;
    if (in_file_system)
        adapted.u.unix_.path = *path;
    return adapted;
}
