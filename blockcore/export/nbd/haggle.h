/* haggle - option haggling, one option at a time
 *
 * The first half of the NBD handshake's rules: what each option means, what is answered, what has been agreed on. It
 * knows neither sockets nor exports: the catalogue tells what there is, and takes the bytes to send. handshake.c joins
 * it to a connection, haggle_fuzz.c to random bytes.
 *
 *     option --> nbd_haggle_option() --ask--> catalogue (may await)
 *                       '------------send---> catalogue
 *
 * Nothing is read from the client in here, so a client that upgrades to TLS later cannot have slipped anything in front
 * of it. */
#ifndef CAIRN_EXPORT_NBD_HAGGLE_H
#define CAIRN_EXPORT_NBD_HAGGLE_H

#include "blockcore/base/annotations.h"
#include "blockcore/export/nbd/contexts.h"

#define NBD_OPTION_DATA_MAX (64 * 1024) /* bytes of an option's data that are looked at; longer ones are refused */

#define NBD_QUERIES_MAX 1024 /* for contexts, in one option */

/* What a client is told about an export: a copy, since the export may go at any time. */
struct nbd_offer {
    uint64_t number; /* not 0; another export has another one, also if it has the same name later */
    char *name;
    char *description; /* or NULL */
    uint64_t bytes;
    uint16_t flags;           /* enum nbd_transmission_flags, without what depends on the connection */
    uint32_t block_minimum;   /* power of two; offer.bytes is a multiple */
    uint32_t block_preferred; /* power of two, at least the minimum */
    uint32_t block_maximum;   /* multiple of the minimum, at least the preferred one; longer requests are cut by us */
    uint64_t contexts;        /* set of those that may be asked for */
    struct nbd_bitmap_names bitmaps;
};

void nbd_offer_fini(struct nbd_offer *offer);

#define NBD_LIST_BATCH 32

/* What haggling asks of its surroundings. Each gets the @arg of nbd_haggle_create() and may await. */
struct nbd_catalogue {
    /* The export of that name; the empty one is for the server to choose. 0: *offer is filled in, the caller
     * frees what is in it, and with @attach the connection now belongs to the export. -ENOENT: there is none.
     * -ESHUTDOWN: the server is about to stop. */
    int (*find)(void *arg, struct nbd_string name, bool attach, struct nbd_offer *offer) CO_FN;
    /* The next exports, at most NBD_LIST_BATCH, after *cursor, which begins as 0 and moves on. Returns their number, 0
     * at the end; the caller frees what is in them. */
    unsigned (*list)(void *arg, uint64_t *cursor, struct nbd_offer offers[NBD_LIST_BATCH]) CO_FN;
    /* All of @data to the client: 0 or -errno. */
    int (*send)(void *arg, const void *data, size_t bytes) CO_FN;
    /* The client has been told to go ahead: encrypts what is sent and received from now on. False when that failed,
     * and nothing more can be said. Called once, and only where nbd_haggle_create() was told that there is TLS. */
    bool (*start_tls)(void *arg) CO_FN;
};

struct nbd_haggle;

/* @client_flags: what the client answered to the greeting. NULL when they are not valid; the connection is to be
 * closed then. @tls: the server has credentials, so that nothing but STARTTLS and ABORT is granted before TLS is on,
 * and nothing agreed on before it counts after it. */
struct nbd_haggle *nbd_haggle_create(const struct nbd_catalogue *catalogue, void *arg, uint32_t client_flags, bool tls);
void nbd_haggle_destroy(struct nbd_haggle *haggle);

/* The handshake flags for the greeting. */
#define NBD_HANDSHAKE_FLAGS (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)

enum nbd_haggle_result {
    NBD_HAGGLE_ON,           /* the next option, please */
    NBD_HAGGLE_TRANSMISSION, /* the client chose an export and is attached to it */
    NBD_HAGGLE_END,          /* it wishes to go, may not go on, or cannot be reached */
};

/* Answers one option. @data: all of its data, at most NBD_OPTION_DATA_MAX bytes. */
enum nbd_haggle_result nbd_haggle_option(struct nbd_haggle *haggle, uint32_t option, const uint8_t *data, size_t bytes)
    CO_FN;

/* The same for an option whose data were too long to be kept and have been skipped. */
enum nbd_haggle_result nbd_haggle_oversized(struct nbd_haggle *haggle, uint32_t option) CO_FN;

/* What was agreed on. */
struct nbd_agreement {
    enum nbd_mode mode;
    uint64_t contexts; /* set of those selected, for the chosen export */
};

/* Valid after NBD_HAGGLE_TRANSMISSION. */
struct nbd_agreement nbd_haggle_agreed(const struct nbd_haggle *haggle);

#endif
