#include "blockcore/objects/kinds.h"

const struct object_kind *const object_kinds[OBJECT_TYPE__MAX] = {
    [OBJECT_TYPE_AUTHZ_LIST] = &authz_list_kind,
    [OBJECT_TYPE_AUTHZ_LIST_FILE] = &authz_list_file_kind,
    [OBJECT_TYPE_AUTHZ_SIMPLE] = &authz_simple_kind,
    [OBJECT_TYPE_IOTHREAD] = &iothread_kind,
    [OBJECT_TYPE_SECRET] = &secret_kind,
    [OBJECT_TYPE_SECRET_KEYRING] = &secret_keyring_kind,
    [OBJECT_TYPE_THROTTLE_GROUP] = &throttle_group_kind,
    [OBJECT_TYPE_TLS_CREDS_ANON] = &tls_creds_anon_kind,
    [OBJECT_TYPE_TLS_CREDS_PSK] = &tls_creds_psk_kind,
    [OBJECT_TYPE_TLS_CREDS_X509] = &tls_creds_x509_kind,
};
