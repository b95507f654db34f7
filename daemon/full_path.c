#include "daemon/full_path.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/cleanup.h"
#include "daemon/path.h"
#include "schema/cairn_descriptors.h"
#include "schema/cairn_types.h"
#include "schema/codec/copy.h"
#include "schema/codec/value.h"

#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

/* Texts that name files of this machine. */
static const struct {
    const struct type_descriptor *type;
    const char *member;
} names[] = {
    { &blockdev_options_file_descriptor, "filename" },
    { &blockdev_options_blkdebug_descriptor, "config" },
    { &unix_socket_address_descriptor, "path" },
    { &secret_properties_descriptor, "file" },
    { &auth_z_list_file_properties_descriptor, "filename" },
    { &tls_creds_anon_properties_descriptor, "dir" },
    { &tls_creds_psk_properties_descriptor, "dir" },
    { &tls_creds_x509_properties_descriptor, "dir" },
    { &cairn_config_descriptor, "pidfile" },
    { &image_policy_options_descriptor, "directories" },
    { &policy_options_descriptor, "paths" },
    { &sandbox_options_descriptor, "paths" },
    { &audit_options_descriptor, "path" },
    { &audit_options_descriptor, "journal" },
    { &trace_options_descriptor, "file" },
};

static bool is_name(const struct type_descriptor *type, const struct member_descriptor *member, const void *object)
{
    if (type == &unix_socket_address_descriptor) {
        const struct unix_socket_address *address = object;
        if (address->abstract)
            return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (names[i].type == type && strcmp(names[i].member, member->name) == 0)
            return true;
    }
    return false;
}

static const char *full_name(const struct type_descriptor *type, const void *object,
                             const struct member_descriptor *member, const char *text, struct arena *arena)
{
    if (*text == '/' || *text == '\0' || !is_name(type, member, object))
        return NULL;
    CLEANUP(free) char *directory = getcwd(NULL, 0);
    if (!directory)
        return NULL;
    const char *full = arena_printf(arena, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, text);
    bool too_long = type == &unix_socket_address_descriptor && strlen(full) > SOCKET_PATH_MAX;
    return too_long ? NULL : full; /* it works as it was given, and in full it would not */
}

void *full_path_copy(const struct type_descriptor *type, const void *value, struct arena *arena)
{
    return value_copy_with(type, value, arena, full_name);
}

void *full_path_copy_for_later(const struct type_descriptor *type, const void *value, struct arena *arena)
{
    return path_moves() ? full_path_copy(type, value, arena) : value_copy(type, value, arena);
}
