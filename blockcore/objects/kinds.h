/* kinds - the kinds of objects that are built in: where each one's table is */
#ifndef CAIRN_OBJECTS_KINDS_H
#define CAIRN_OBJECTS_KINDS_H

#include "blockcore/objects/object.h"

extern const struct object_kind authz_list_file_kind;
extern const struct object_kind authz_list_kind;
extern const struct object_kind authz_simple_kind;
extern const struct object_kind iothread_kind;
extern const struct object_kind secret_kind;
extern const struct object_kind secret_keyring_kind;
extern const struct object_kind throttle_group_kind;
extern const struct object_kind tls_creds_anon_kind;
extern const struct object_kind tls_creds_psk_kind;
extern const struct object_kind tls_creds_x509_kind;

#endif
