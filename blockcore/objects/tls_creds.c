#include "blockcore/objects/tls_creds.h"

#include "blockcore/base/memory.h"
#include "blockcore/net/complaint.h"
#include "blockcore/net/tls_context.h"
#include "blockcore/objects/kinds.h"
#include "blockcore/objects/secret.h"

#include <string.h>

enum tls_creds_kind {
    TLS_CREDS_ANON,
    TLS_CREDS_PSK,
    TLS_CREDS_X509,
};

struct tls_creds {
    enum tls_creds_kind kind;
    struct tls_creds_properties common; /* strings are owned */
    char *username;                     /* NULL: not given */
    char *passwordid;
    bool sanity_check;
    struct tls_context *context;
};

/* The members that all kinds have. */
#define COMMON_OF(own)                                                                                                 \
    (struct tls_creds_properties)                                                                                      \
    {                                                                                                                  \
        .has_verify_peer = true, .verify_peer = !(own)->has_verify_peer || (own)->verify_peer, .dir = (own)->dir,      \
        .has_endpoint = true, .endpoint = (own)->has_endpoint ? (own)->endpoint : Q_CRYPTO_TLS_CREDS_ENDPOINT_CLIENT,  \
        .priority = (own)->priority                                                                                    \
    }

#define SET_COMMON(own, common)                                                                                        \
    do {                                                                                                               \
        (own)->has_verify_peer = true;                                                                                 \
        (own)->verify_peer = (common)->verify_peer;                                                                    \
        (own)->dir = (common)->dir;                                                                                    \
        (own)->has_endpoint = true;                                                                                    \
        (own)->endpoint = (common)->endpoint;                                                                          \
        (own)->priority = (common)->priority;                                                                          \
    } while (0)

static enum tls_creds_kind kind_of(enum object_type type)
{
    if (type == OBJECT_TYPE_TLS_CREDS_ANON)
        return TLS_CREDS_ANON;
    return type == OBJECT_TYPE_TLS_CREDS_PSK ? TLS_CREDS_PSK : TLS_CREDS_X509;
}

static struct tls_creds_properties common_of(const struct object_options *options)
{
    switch (kind_of(options->qom_type)) {
    case TLS_CREDS_ANON:
        return COMMON_OF(&options->u.tls_creds_anon);
    case TLS_CREDS_PSK:
        return COMMON_OF(&options->u.tls_creds_psk);
    default:
        return COMMON_OF(&options->u.tls_creds_x509);
    }
}

/* Finding ------------------------------------------------------------------------------------------------------- */

static struct error *find(const char *id, enum q_crypto_tls_creds_endpoint endpoint, struct object **out)
{
    struct object *object = object_find(id);
    if (!object)
        return error_new("No TLS credentials with id '%s'", id);
    enum object_type type = object_kind_of(object)->type;
    if (type != OBJECT_TYPE_TLS_CREDS_ANON && type != OBJECT_TYPE_TLS_CREDS_PSK && type != OBJECT_TYPE_TLS_CREDS_X509)
        return error_new("object '%s' is a '%s', but TLS credentials are wanted", id, object_type_name(type));
    const struct tls_creds *creds = object_state(object);
    if (creds->common.endpoint != endpoint)
        return error_new("TLS credentials '%s' have endpoint '%s', but '%s' is wanted", id,
                         q_crypto_tls_creds_endpoint_name(creds->common.endpoint),
                         q_crypto_tls_creds_endpoint_name(endpoint));
    *out = object;
    return NULL;
}

struct error *tls_creds_find(const char *id, enum q_crypto_tls_creds_endpoint endpoint, struct object **object,
                             struct tls_context **out)
{
    struct error *err = find(id, endpoint, object);
    if (err)
        return err;
    const struct tls_creds *creds = object_state(*object);
    *out = tls_context_ref(creds->context);
    return NULL;
}

/* The kinds of objects ------------------------------------------------------------------------------------------ */

static struct error *creds_check(const struct object_options *options)
{
    struct tls_creds_properties common = common_of(options);
    if (!common.dir && options->qom_type != OBJECT_TYPE_TLS_CREDS_ANON)
        return error_new("%s '%s': dir: is missing", object_type_name(options->qom_type), options->id);
    return NULL;
}

static void creds_take(struct tls_creds *creds, const struct object_options *options)
{
    creds->kind = kind_of(options->qom_type);
    creds->common = common_of(options);
    creds->common.dir = xstrdup_or_null(creds->common.dir);
    creds->common.priority = xstrdup_or_null(creds->common.priority);
    if (creds->kind == TLS_CREDS_PSK)
        creds->username = xstrdup_or_null(options->u.tls_creds_psk.username);
    if (creds->kind == TLS_CREDS_X509) {
        const struct tls_creds_x509_properties *own = &options->u.tls_creds_x509;
        creds->passwordid = xstrdup_or_null(own->passwordid);
        creds->sanity_check = !own->has_sanity_check || own->sanity_check;
    }
}

static void creds_destroy(struct object *object)
{
    struct tls_creds *creds = object_state(object);
    tls_context_unref(creds->context);
    free((char *)(uintptr_t)creds->common.dir);
    free((char *)(uintptr_t)creds->common.priority);
    free(creds->username);
    free(creds->passwordid);
}

/* Reads the files: what is wrong with them is told now, not to the first client. */
static struct error *creds_load(struct tls_creds *creds, const char *who)
{
    static const enum tls_proof proofs[] = {
        [TLS_CREDS_ANON] = TLS_PROOF_NONE,
        [TLS_CREDS_PSK] = TLS_PROOF_KEY,
        [TLS_CREDS_X509] = TLS_PROOF_CERTIFICATE,
    };
    CLEANUP(key_bytes_free) struct key_bytes *password = NULL;
    CLEANUP(error_free) struct error *warning = NULL;
    struct error *err = creds->passwordid ? secret_get(creds->passwordid, &password) : NULL;
    if (err)
        return error_wrap(err, "passwordid");
    const struct tls_settings settings = {
        .proof = proofs[creds->kind],
        .server = creds->common.endpoint == Q_CRYPTO_TLS_CREDS_ENDPOINT_SERVER,
        .dir = creds->common.dir,
        .priority = creds->common.priority,
        .username = creds->username ? creds->username : TLS_CREDS_USERNAME_DEFAULT,
        .verify_peer = creds->common.verify_peer,
        .sanity_check = creds->sanity_check,
        .password = password,
    };
    err = tls_context_create(&settings, &creds->context, &warning);
    if (!err && warning)
        complain(NULL, "%s: %s", who, error_message(warning));
    return err;
}

static struct error *creds_create(struct object *object, const struct object_options *options)
{
    struct tls_creds *creds = object_state(object);
    CLEANUP(free) char *who = xasprintf("%s '%s'", object_type_name(options->qom_type), options->id);
    creds_take(creds, options);
    struct error *err = creds_load(creds, who);
    if (err)
        creds_destroy(object);
    return error_wrap(err, "%s", who);
}

static void creds_describe(const struct object *object, struct object_options *now, struct arena *arena)
{
    const struct tls_creds *creds = object_state(object);
    (void)arena;
    switch (creds->kind) {
    case TLS_CREDS_ANON:
        SET_COMMON(&now->u.tls_creds_anon, &creds->common);
        break;
    case TLS_CREDS_PSK:
        SET_COMMON(&now->u.tls_creds_psk, &creds->common);
        now->u.tls_creds_psk.username = creds->username;
        break;
    case TLS_CREDS_X509:
        SET_COMMON(&now->u.tls_creds_x509, &creds->common);
        now->u.tls_creds_x509.has_sanity_check = true;
        now->u.tls_creds_x509.sanity_check = creds->sanity_check;
        now->u.tls_creds_x509.passwordid = creds->passwordid;
        break;
    }
}

#define TLS_CREDS_KIND(object_type)                                                                                    \
    {                                                                                                                  \
        .type = (object_type), .parent = "tls-creds", .state_size = sizeof(struct tls_creds), .check = creds_check,    \
        .create = creds_create, .destroy = creds_destroy, .describe = creds_describe                                   \
    }

const struct object_kind tls_creds_anon_kind = TLS_CREDS_KIND(OBJECT_TYPE_TLS_CREDS_ANON);
const struct object_kind tls_creds_psk_kind = TLS_CREDS_KIND(OBJECT_TYPE_TLS_CREDS_PSK);
const struct object_kind tls_creds_x509_kind = TLS_CREDS_KIND(OBJECT_TYPE_TLS_CREDS_X509);
