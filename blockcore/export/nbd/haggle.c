#include "blockcore/export/nbd/haggle.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Replies are gathered here; the longest one is that of LIST: two strings. */
#define OUTPUT_BYTES (16 * 1024)

struct nbd_haggle {
    const struct nbd_catalogue *catalogue;
    void *arg;
    bool fixed_newstyle;
    bool no_zeroes;
    bool structured;
    unsigned contexts;
    char *contexts_of; /* name of the export that they were selected for; NULL: none selected */
    uint32_t option;   /* the one that is being answered */
    int unsent;        /* 0, or why the client cannot be reached */
    size_t output_bytes;
    uint8_t output[OUTPUT_BYTES];
};

static const char *const context_names[NBD_CONTEXTS] = {
    [NBD_CONTEXT_ALLOCATION] = "base:allocation",
    [NBD_CONTEXT_DEPTH] = "qemu:allocation-depth",
};

void nbd_offer_fini(struct nbd_offer *offer)
{
    free(offer->name);
    free(offer->description);
}

static void nbd_offer_fini_cleanup(struct nbd_offer *offer)
{
    nbd_offer_fini(offer);
}

struct nbd_haggle *nbd_haggle_create(const struct nbd_catalogue *catalogue, void *arg, uint32_t client_flags)
{
    if (client_flags & ~(uint32_t)(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES))
        return NULL;
    struct nbd_haggle *haggle = xcalloc(1, sizeof(*haggle));
    haggle->catalogue = catalogue;
    haggle->arg = arg;
    haggle->fixed_newstyle = client_flags & NBD_FLAG_C_FIXED_NEWSTYLE;
    haggle->no_zeroes = client_flags & NBD_FLAG_C_NO_ZEROES;
    return haggle;
}

void nbd_haggle_destroy(struct nbd_haggle *haggle)
{
    if (!haggle)
        return;
    free(haggle->contexts_of);
    free(haggle);
}

static void flush_output(struct nbd_haggle *haggle)
{
    if (haggle->output_bytes > 0 && haggle->unsent == 0)
        haggle->unsent = haggle->catalogue->send(haggle->arg, haggle->output, haggle->output_bytes);
    haggle->output_bytes = 0;
}

/* Room for @bytes, at most OUTPUT_BYTES, that the caller fills in before the next call. */
static uint8_t *output_reserve(struct nbd_haggle *haggle, size_t bytes)
{
    if (bytes > OUTPUT_BYTES - haggle->output_bytes)
        flush_output(haggle);
    uint8_t *at = haggle->output + haggle->output_bytes;
    haggle->output_bytes += bytes;
    return at;
}

/* A reply with @bytes of data, which the caller fills in. */
static uint8_t *reply(struct nbd_haggle *haggle, uint32_t type, size_t bytes)
{
    uint8_t *at = output_reserve(haggle, NBD_OPTION_REPLY_BYTES + bytes);
    return at + nbd_put_option_reply(at, haggle->option, type, (uint32_t)bytes);
}

static enum nbd_haggle_result acknowledge(struct nbd_haggle *haggle)
{
    reply(haggle, NBD_REP_ACK, 0);
    return NBD_HAGGLE_ON;
}

static enum nbd_haggle_result refuse(struct nbd_haggle *haggle, uint32_t type, const char *format, ...)
    PRINTF_LIKE(3, 4);
static enum nbd_haggle_result refuse(struct nbd_haggle *haggle, uint32_t type, const char *format, ...)
{
    char message[256];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    size_t bytes = length < (int)sizeof(message) ? (size_t)length : sizeof(message) - 1;
    memcpy(reply(haggle, type, bytes), message, bytes);
    return NBD_HAGGLE_ON;
}

static enum nbd_haggle_result refuse_malformed(struct nbd_haggle *haggle)
{
    return refuse(haggle, NBD_REP_ERR_INVALID, "the data of this option is malformed");
}

static enum nbd_haggle_result refuse_unknown(struct nbd_haggle *haggle, struct nbd_string name)
{
    int shown = name.bytes < 128 ? (int)name.bytes : 128;
    return refuse(haggle, NBD_REP_ERR_UNKNOWN, "there is no export named '%.*s'", shown, name.data);
}

static uint16_t transmission_flags(const struct nbd_haggle *haggle, const struct nbd_offer *offer)
{
    return haggle->structured ? offer->flags | NBD_FLAG_SEND_DF : offer->flags;
}

/* Contexts count for the export that they were selected for, and no other. */
static void settle_contexts(struct nbd_haggle *haggle, const struct nbd_offer *offer)
{
    if (!haggle->contexts_of || strcmp(haggle->contexts_of, offer->name) != 0)
        haggle->contexts = 0;
    haggle->contexts &= offer->contexts;
}

static enum nbd_haggle_result export_name(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes)
{
    struct nbd_string name;
    CLEANUP(nbd_offer_fini) struct nbd_offer offer = { 0 };
    if (!nbd_parse_name(data, bytes, &name) || !haggle->catalogue->find(haggle->arg, name, true, &offer))
        return NBD_HAGGLE_END; /* this option knows no error reply */
    settle_contexts(haggle, &offer);
    uint8_t *at =
        output_reserve(haggle, NBD_EXPORT_NAME_REPLY_BYTES + (haggle->no_zeroes ? 0 : NBD_EXPORT_NAME_ZEROES));
    nbd_put_export_name_reply(at, offer.bytes, transmission_flags(haggle, &offer), !haggle->no_zeroes);
    return NBD_HAGGLE_TRANSMISSION;
}

static void reply_info_text(struct nbd_haggle *haggle, uint16_t info, const char *text)
{
    size_t bytes = strlen(text);
    uint8_t *at = reply(haggle, NBD_REP_INFO, 2 + bytes);
    store_be16(at, info);
    memcpy(at + 2, text, bytes);
}

static void reply_infos(struct nbd_haggle *haggle, const struct nbd_info_query *query, const struct nbd_offer *offer)
{
    if (nbd_info_query_wants(query, NBD_INFO_NAME))
        reply_info_text(haggle, NBD_INFO_NAME, offer->name);
    if (nbd_info_query_wants(query, NBD_INFO_DESCRIPTION) && offer->description)
        reply_info_text(haggle, NBD_INFO_DESCRIPTION, offer->description);
    nbd_put_info_block_size(reply(haggle, NBD_REP_INFO, NBD_INFO_BLOCK_SIZE_BYTES), offer->block_minimum,
                            offer->block_preferred, NBD_PAYLOAD_MAX);
    nbd_put_info_export(reply(haggle, NBD_REP_INFO, NBD_INFO_EXPORT_BYTES), offer->bytes,
                        transmission_flags(haggle, offer));
}

/* INFO, and GO: the same with consequences. */
static enum nbd_haggle_result info(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes)
{
    bool go = haggle->option == NBD_OPT_GO;
    struct nbd_info_query query;
    CLEANUP(nbd_offer_fini) struct nbd_offer offer = { 0 };
    if (!nbd_parse_info_query(data, bytes, &query))
        return refuse_malformed(haggle);
    if (!haggle->catalogue->find(haggle->arg, query.name, go, &offer))
        return refuse_unknown(haggle, query.name);
    reply_infos(haggle, &query, &offer);
    acknowledge(haggle);
    if (!go)
        return NBD_HAGGLE_ON;
    settle_contexts(haggle, &offer);
    return NBD_HAGGLE_TRANSMISSION;
}

static void reply_server(struct nbd_haggle *haggle, const struct nbd_offer *offer)
{
    size_t name_bytes = strlen(offer->name);
    size_t description_bytes = offer->description ? strlen(offer->description) : 0;
    uint8_t *at = reply(haggle, NBD_REP_SERVER, 4 + name_bytes + description_bytes);
    store_be32(at, (uint32_t)name_bytes);
    memcpy(at + 4, offer->name, name_bytes);
    if (description_bytes > 0)
        memcpy(at + 4 + name_bytes, offer->description, description_bytes);
}

static enum nbd_haggle_result list_exports(struct nbd_haggle *haggle, size_t bytes)
{
    if (bytes != 0)
        return refuse_malformed(haggle);
    struct nbd_offer offers[NBD_LIST_BATCH];
    uint64_t cursor = 0;
    unsigned count;
    do {
        count = haggle->catalogue->list(haggle->arg, &cursor, offers);
        for (unsigned i = 0; i < count; i++) {
            reply_server(haggle, &offers[i]);
            nbd_offer_fini(&offers[i]);
        }
    } while (count > 0 && haggle->unsent == 0);
    return acknowledge(haggle);
}

static enum nbd_haggle_result structured_reply(struct nbd_haggle *haggle, size_t bytes)
{
    if (bytes != 0)
        return refuse_malformed(haggle);
    haggle->structured = true;
    return acknowledge(haggle);
}

/* A query is a context's name; when listing, it may also be the beginning of one, up to a colon. */
static bool context_matches(struct nbd_string query, const char *name, bool listing)
{
    if (nbd_string_is(query, name))
        return true;
    if (!listing || query.bytes == 0 || query.data[query.bytes - 1] != ':')
        return false;
    return strncmp(name, query.data, query.bytes) == 0;
}

static unsigned contexts_matching(struct nbd_context_query *query, bool listing, unsigned offered)
{
    if (query->count == 0)
        return listing ? offered : 0;
    unsigned found = 0;
    struct nbd_string one;
    while (nbd_context_query_next(query, &one)) {
        for (unsigned context = 0; context < NBD_CONTEXTS; context++) {
            if (context_matches(one, context_names[context], listing))
                found |= 1u << context;
        }
    }
    return found & offered;
}

static void reply_contexts(struct nbd_haggle *haggle, unsigned contexts, bool listing)
{
    for (unsigned context = 0; context < NBD_CONTEXTS; context++) {
        if (!(contexts & 1u << context))
            continue;
        size_t bytes = strlen(context_names[context]);
        uint8_t *at = reply(haggle, NBD_REP_META_CONTEXT, 4 + bytes);
        store_be32(at, listing ? 0 : context);
        memcpy(at + 4, context_names[context], bytes);
    }
}

static enum nbd_haggle_result meta_context(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes)
{
    bool listing = haggle->option == NBD_OPT_LIST_META_CONTEXT;
    struct nbd_context_query query;
    CLEANUP(nbd_offer_fini) struct nbd_offer offer = { 0 };
    if (!listing) {
        free(steal(&haggle->contexts_of));
        haggle->contexts = 0;
    }
    if (!haggle->structured)
        return refuse(haggle, NBD_REP_ERR_INVALID, "structured replies have to be negotiated first");
    if (!nbd_parse_context_query(data, bytes, &query))
        return refuse_malformed(haggle);
    if (!haggle->catalogue->find(haggle->arg, query.name, false, &offer))
        return refuse_unknown(haggle, query.name);

    unsigned contexts = contexts_matching(&query, listing, offer.contexts);
    reply_contexts(haggle, contexts, listing);
    if (!listing) {
        haggle->contexts = contexts;
        haggle->contexts_of = steal(&offer.name);
    }
    return acknowledge(haggle);
}

static enum nbd_haggle_result answer(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes)
{
    switch (haggle->option) {
    case NBD_OPT_EXPORT_NAME:
        return export_name(haggle, data, bytes);
    case NBD_OPT_ABORT:
        acknowledge(haggle);
        return NBD_HAGGLE_END;
    case NBD_OPT_LIST:
        return list_exports(haggle, bytes);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return info(haggle, data, bytes);
    case NBD_OPT_STRUCTURED_REPLY:
        return structured_reply(haggle, bytes);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return meta_context(haggle, data, bytes);
    case NBD_OPT_STARTTLS:
        return refuse(haggle, NBD_REP_ERR_POLICY, "this server has no TLS credentials");
    default:
        return refuse(haggle, NBD_REP_ERR_UNSUP, "option %u is not supported", (unsigned)haggle->option);
    }
}

enum nbd_haggle_result nbd_haggle_option(struct nbd_haggle *haggle, uint32_t option, const uint8_t *data, size_t bytes)
{
    /* Without fixed newstyle there is nothing but the choice of an export, and no reply that says so. */
    if (!haggle->fixed_newstyle && option != NBD_OPT_EXPORT_NAME)
        return NBD_HAGGLE_END;
    haggle->option = option;
    enum nbd_haggle_result result = answer(haggle, data, bytes);
    flush_output(haggle);
    return haggle->unsent == 0 ? result : NBD_HAGGLE_END;
}

static bool takes_long_data(uint32_t option)
{
    return option == NBD_OPT_INFO || option == NBD_OPT_GO || option == NBD_OPT_LIST_META_CONTEXT ||
           option == NBD_OPT_SET_META_CONTEXT;
}

enum nbd_haggle_result nbd_haggle_oversized(struct nbd_haggle *haggle, uint32_t option)
{
    /* No data at all is the wrong length for all other options too, and unknown ones do not care. */
    static const uint8_t wrong = 0;
    if (!haggle->fixed_newstyle || option == NBD_OPT_EXPORT_NAME)
        return NBD_HAGGLE_END;
    if (!takes_long_data(option))
        return nbd_haggle_option(haggle, option, &wrong, sizeof(wrong));
    haggle->option = option;
    refuse(haggle, NBD_REP_ERR_TOO_BIG, "the data of this option is longer than %d bytes", NBD_OPTION_DATA_MAX);
    flush_output(haggle);
    return haggle->unsent == 0 ? NBD_HAGGLE_ON : NBD_HAGGLE_END;
}

bool nbd_haggle_structured(const struct nbd_haggle *haggle)
{
    return haggle->structured;
}

unsigned nbd_haggle_contexts(const struct nbd_haggle *haggle)
{
    return haggle->contexts;
}
