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
    bool tls;         /* the server demands it */
    bool tls_started; /* and has it */
    struct nbd_agreement agreed;
    uint64_t contexts_of; /* number of the export that they were selected for; 0: none selected */
    uint32_t option;      /* the one that is being answered */
    int unsent;           /* 0, or why the client cannot be reached */
    size_t output_bytes;
    uint8_t output[OUTPUT_BYTES];
};

void nbd_offer_fini(struct nbd_offer *offer)
{
    free(offer->name);
    free(offer->description);
    for (unsigned i = 0; i < offer->bitmaps.count; i++)
        free(offer->bitmaps.items[i]);
    free(offer->bitmaps.items);
}

static void nbd_offer_fini_cleanup(struct nbd_offer *offer)
{
    nbd_offer_fini(offer);
}

struct nbd_haggle *nbd_haggle_create(const struct nbd_catalogue *catalogue, void *arg, uint32_t client_flags, bool tls)
{
    if (client_flags & ~(uint32_t)(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES))
        return NULL;
    struct nbd_haggle *haggle = xcalloc(1, sizeof(*haggle));
    haggle->catalogue = catalogue;
    haggle->arg = arg;
    haggle->fixed_newstyle = client_flags & NBD_FLAG_C_FIXED_NEWSTYLE;
    haggle->no_zeroes = client_flags & NBD_FLAG_C_NO_ZEROES;
    haggle->tls = tls;
    return haggle;
}

void nbd_haggle_destroy(struct nbd_haggle *haggle)
{
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

/* Why the export was not found. */
static enum nbd_haggle_result refuse_export(struct nbd_haggle *haggle, struct nbd_string name, int ret)
{
    char shown[128];
    if (ret == -ESHUTDOWN)
        return refuse(haggle, NBD_REP_ERR_SHUTDOWN, "the server is shutting down");
    nbd_string_show(name, shown, sizeof(shown));
    return refuse(haggle, NBD_REP_ERR_UNKNOWN, "there is no export named '%s'", shown);
}

/* Those that were selected for this very export. */
static uint64_t contexts_of(const struct nbd_haggle *haggle, const struct nbd_offer *offer)
{
    return haggle->contexts_of == offer->number ? haggle->agreed.contexts & offer->contexts : 0;
}

static uint16_t transmission_flags(const struct nbd_haggle *haggle, const struct nbd_offer *offer)
{
    unsigned flags = offer->flags;
    if (haggle->agreed.mode != NBD_MODE_SIMPLE)
        flags |= NBD_FLAG_SEND_DF;
    if (haggle->agreed.mode == NBD_MODE_EXTENDED && contexts_of(haggle, offer) != 0)
        flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
    return (uint16_t)flags;
}

static enum nbd_haggle_result enter_transmission(struct nbd_haggle *haggle, const struct nbd_offer *offer)
{
    haggle->agreed.contexts = contexts_of(haggle, offer);
    return NBD_HAGGLE_TRANSMISSION;
}

/* This option knows no error reply. */
static enum nbd_haggle_result export_name(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes)
{
    struct nbd_string name;
    CLEANUP(nbd_offer_fini) struct nbd_offer offer = { 0 };
    if (!nbd_parse_name(data, bytes, &name) || haggle->catalogue->find(haggle->arg, name, true, &offer) < 0)
        return NBD_HAGGLE_END;
    uint8_t *at =
        output_reserve(haggle, NBD_EXPORT_NAME_REPLY_BYTES + (haggle->no_zeroes ? 0 : NBD_EXPORT_NAME_ZEROES));
    nbd_put_export_name_reply(at, offer.bytes, transmission_flags(haggle, &offer), !haggle->no_zeroes);
    return enter_transmission(haggle, &offer);
}

static void reply_info_text(struct nbd_haggle *haggle, uint16_t info, const char *text)
{
    size_t bytes = strlen(text);
    uint8_t *at = reply(haggle, NBD_REP_INFO, 2 + bytes);
    store_be16(at, info);
    memcpy(at + 2, text, bytes);
}

/* Sizes are told unasked, too. A client that did not ask need not keep to them, and is told what it may do: any
 * request works, those that are cut by the block cost more. */
static void reply_infos(struct nbd_haggle *haggle, const struct nbd_info_query *query, const struct nbd_offer *offer)
{
    uint32_t minimum = nbd_info_query_wants(query, NBD_INFO_BLOCK_SIZE) ? offer->block_minimum : 1;
    if (nbd_info_query_wants(query, NBD_INFO_NAME))
        reply_info_text(haggle, NBD_INFO_NAME, offer->name);
    if (nbd_info_query_wants(query, NBD_INFO_DESCRIPTION) && offer->description)
        reply_info_text(haggle, NBD_INFO_DESCRIPTION, offer->description);
    nbd_put_info_block_size(reply(haggle, NBD_REP_INFO, NBD_INFO_BLOCK_SIZE_BYTES), minimum, offer->block_preferred,
                            offer->block_maximum);
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
    int ret = haggle->catalogue->find(haggle->arg, query.name, go, &offer);
    if (ret < 0)
        return refuse_export(haggle, query.name, ret);
    reply_infos(haggle, &query, &offer);
    acknowledge(haggle);
    return go ? enter_transmission(haggle, &offer) : NBD_HAGGLE_ON;
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

static enum nbd_haggle_result list_exports(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes)
{
    (void)data;
    (void)bytes;
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

/* Data of the option, if there are any, are of no importance. */
static enum nbd_haggle_result abort_session(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes)
{
    (void)data;
    (void)bytes;
    acknowledge(haggle);
    return NBD_HAGGLE_END;
}

static enum nbd_haggle_result structured_reply(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes)
{
    (void)data;
    (void)bytes;
    if (haggle->agreed.mode == NBD_MODE_EXTENDED)
        return refuse(haggle, NBD_REP_ERR_EXT_HEADER_REQD, "extended headers have been negotiated already");
    haggle->agreed.mode = NBD_MODE_STRUCTURED;
    return acknowledge(haggle);
}

static enum nbd_haggle_result extended_headers(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes)
{
    (void)data;
    (void)bytes;
    haggle->agreed.mode = NBD_MODE_EXTENDED;
    return acknowledge(haggle);
}

static void forget_contexts(struct nbd_haggle *haggle)
{
    haggle->contexts_of = 0;
    haggle->agreed.contexts = 0;
}

static enum nbd_haggle_result start_tls(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes)
{
    (void)data;
    (void)bytes;
    if (!haggle->tls)
        return refuse(haggle, NBD_REP_ERR_POLICY, "this server has no TLS credentials");
    if (haggle->tls_started)
        return refuse(haggle, NBD_REP_ERR_INVALID, "TLS has been started already");
    acknowledge(haggle);
    flush_output(haggle);
    if (haggle->unsent != 0 || !haggle->catalogue->start_tls(haggle->arg))
        return NBD_HAGGLE_END;
    haggle->tls_started = true;
    haggle->agreed.mode = NBD_MODE_SIMPLE;
    forget_contexts(haggle);
    return NBD_HAGGLE_ON;
}

static uint64_t contexts_meant(struct nbd_context_query *query, bool listing, const struct nbd_offer *offer)
{
    if (query->count == 0)
        return listing ? offer->contexts : 0;
    uint64_t meant = 0;
    struct nbd_string one;
    while (nbd_context_query_next(query, &one))
        meant |= nbd_contexts_meant(&offer->bitmaps, offer->contexts, one, listing);
    return meant;
}

static void reply_contexts(struct nbd_haggle *haggle, const struct nbd_offer *offer, uint64_t contexts, bool listing)
{
    char name[NBD_CONTEXT_NAME_MAX];
    for (unsigned context = 0; context < NBD_CONTEXTS_MAX; context++) {
        if (!(contexts & nbd_context_bit(context)))
            continue;
        size_t bytes = nbd_context_name(&offer->bitmaps, context, name);
        uint8_t *at = reply(haggle, NBD_REP_META_CONTEXT, 4 + bytes);
        store_be32(at, listing ? 0 : context);
        memcpy(at + 4, name, bytes);
    }
}

/* LIST_META_CONTEXT and SET_META_CONTEXT. */
static enum nbd_haggle_result meta_context(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes)
{
    bool listing = haggle->option == NBD_OPT_LIST_META_CONTEXT;
    struct nbd_context_query query;
    CLEANUP(nbd_offer_fini) struct nbd_offer offer = { 0 };
    if (!listing && haggle->agreed.mode == NBD_MODE_SIMPLE)
        return refuse(haggle, NBD_REP_ERR_INVALID,
                      "structured replies or extended headers have to be negotiated first");
    if (!nbd_parse_context_query(data, bytes, &query))
        return refuse_malformed(haggle);
    if (query.count > NBD_QUERIES_MAX)
        return refuse(haggle, NBD_REP_ERR_TOO_BIG, "there are more than %d queries", NBD_QUERIES_MAX);
    int ret = haggle->catalogue->find(haggle->arg, query.name, false, &offer);
    if (ret < 0)
        return refuse_export(haggle, query.name, ret);

    uint64_t contexts = contexts_meant(&query, listing, &offer);
    reply_contexts(haggle, &offer, contexts, listing);
    if (!listing) {
        haggle->agreed.contexts = contexts;
        haggle->contexts_of = offer.number;
    }
    return acknowledge(haggle);
}

/* What is said about an option before it is looked at. */
struct option_rule {
    uint32_t option;
    enum nbd_haggle_result (*answer)(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes) CO_FN;
    bool has_data;   /* others must have none */
    bool before_tls; /* granted where TLS is demanded and not there yet */
};

static const struct option_rule option_rules[] = {
    { .option = NBD_OPT_EXPORT_NAME, .answer = export_name, .has_data = true },
    { .option = NBD_OPT_ABORT, .answer = abort_session, .has_data = true, .before_tls = true },
    { .option = NBD_OPT_LIST, .answer = list_exports },
    { .option = NBD_OPT_STARTTLS, .answer = start_tls, .before_tls = true },
    { .option = NBD_OPT_INFO, .answer = info, .has_data = true },
    { .option = NBD_OPT_GO, .answer = info, .has_data = true },
    { .option = NBD_OPT_STRUCTURED_REPLY, .answer = structured_reply },
    { .option = NBD_OPT_LIST_META_CONTEXT, .answer = meta_context, .has_data = true },
    { .option = NBD_OPT_SET_META_CONTEXT, .answer = meta_context, .has_data = true },
    { .option = NBD_OPT_EXTENDED_HEADERS, .answer = extended_headers },
};

/* NULL: an option of the future. */
static const struct option_rule *rule_of(uint32_t option)
{
    for (size_t i = 0; i < ARRAY_SIZE(option_rules); i++) {
        if (option_rules[i].option == option)
            return &option_rules[i];
    }
    return NULL;
}

/* @data NULL: there were too many of them. */
static enum nbd_haggle_result answer(struct nbd_haggle *haggle, const uint8_t *data, size_t bytes)
{
    const struct option_rule *rule = rule_of(haggle->option);
    if (haggle->tls && !haggle->tls_started && !(rule && rule->before_tls))
        return refuse(haggle, NBD_REP_ERR_TLS_REQD, "TLS has to be started first");
    if (!rule)
        return refuse(haggle, NBD_REP_ERR_UNSUP, "option %u is not supported", (unsigned)haggle->option);
    if (!rule->has_data && bytes > 0)
        return refuse(haggle, NBD_REP_ERR_INVALID, "this option has no data");
    if (!data && rule->answer != abort_session)
        return refuse(haggle, NBD_REP_ERR_TOO_BIG, "the data of this option is longer than %d bytes",
                      NBD_OPTION_DATA_MAX);
    return rule->answer(haggle, data, bytes);
}

/* No reply could say why an export is refused to a client that chooses it by its name alone, as one with extended
 * headers must not do; or that this is all that a client of the first newstyle may do. */
static bool must_end(const struct nbd_haggle *haggle, uint32_t option, const uint8_t *data)
{
    if (option != NBD_OPT_EXPORT_NAME)
        return !haggle->fixed_newstyle;
    return !data || haggle->agreed.mode == NBD_MODE_EXTENDED || (haggle->tls && !haggle->tls_started);
}

static enum nbd_haggle_result answer_option(struct nbd_haggle *haggle, uint32_t option, const uint8_t *data,
                                            size_t bytes) CO_FN;
static enum nbd_haggle_result answer_option(struct nbd_haggle *haggle, uint32_t option, const uint8_t *data,
                                            size_t bytes)
{
    if (must_end(haggle, option, data))
        return NBD_HAGGLE_END;
    haggle->option = option;
    if (option == NBD_OPT_SET_META_CONTEXT)
        forget_contexts(haggle); /* also when it fails, for whatever reason */
    enum nbd_haggle_result result = answer(haggle, data, bytes);
    flush_output(haggle);
    return haggle->unsent == 0 ? result : NBD_HAGGLE_END;
}

enum nbd_haggle_result nbd_haggle_option(struct nbd_haggle *haggle, uint32_t option, const uint8_t *data, size_t bytes)
{
    static const uint8_t none;
    return answer_option(haggle, option, data ? data : &none, bytes);
}

enum nbd_haggle_result nbd_haggle_oversized(struct nbd_haggle *haggle, uint32_t option)
{
    return answer_option(haggle, option, NULL, NBD_OPTION_DATA_MAX + 1);
}

struct nbd_agreement nbd_haggle_agreed(const struct nbd_haggle *haggle)
{
    return haggle->agreed;
}
