/* Option haggling: what each option is answered, and what has been agreed on in the end. */
#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/export/nbd/haggle.h"
#include "tests/unit/base/unit.h"

#include <errno.h>

#define FIXED (NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)

/* A catalogue of "disk" (the default, 1 MiB, all contexts, two bitmaps) and "tape" (base:allocation only).
 * ------------------- */

static struct {
    uint8_t sent[65536];
    size_t sent_bytes;
    size_t read_bytes; /* of what was sent, by the test */
    const char *attached;
    int send_error;
    size_t tls_after_bytes; /* sent in clear text */
    bool tls_fails;
} world;

static struct nbd_offer offer_of(const char *name)
{
    bool disk = strcmp(name, "disk") == 0;
    struct nbd_offer offer = {
        .number = disk ? 1 : 2,
        .name = xstrdup(name),
        .description = xstrdup_or_null(disk ? "the first" : NULL),
        .bytes = 1 << 20,
        .flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH,
        .block_minimum = 512,
        .block_preferred = 4096,
        .block_maximum = 65536,
        .contexts = disk ? 0xf : 1,
    };
    if (disk) {
        offer.bitmaps.count = 2;
        offer.bitmaps.items = xcalloc(2, sizeof(char *));
        offer.bitmaps.items[0] = xstrdup("monday");
        offer.bitmaps.items[1] = xstrdup("a:b");
    }
    return offer;
}

static int find(void *arg, struct nbd_string name, bool attach, struct nbd_offer *offer)
{
    assert_ptr_equal(arg, &world);
    const char *found = name.bytes == 0 || nbd_string_is(name, "disk") ? "disk" : NULL;
    if (nbd_string_is(name, "tape"))
        found = "tape";
    if (nbd_string_is(name, "late"))
        return -ESHUTDOWN;
    if (!found)
        return -ENOENT;
    if (attach)
        world.attached = found;
    *offer = offer_of(found);
    return 0;
}

static unsigned list(void *arg, uint64_t *cursor, struct nbd_offer offers[NBD_LIST_BATCH])
{
    (void)arg;
    if (*cursor == 2)
        return 0;
    offers[0] = offer_of(*cursor == 0 ? "disk" : "tape");
    ++*cursor;
    return 1;
}

static int send(void *arg, const void *data, size_t bytes)
{
    (void)arg;
    assert_true(bytes <= sizeof(world.sent) - world.sent_bytes);
    memcpy(world.sent + world.sent_bytes, data, bytes);
    world.sent_bytes += bytes;
    return world.send_error;
}

static bool start_tls(void *arg)
{
    (void)arg;
    world.tls_after_bytes = world.sent_bytes;
    return !world.tls_fails;
}

static const struct nbd_catalogue catalogue = { .find = find, .list = list, .send = send, .start_tls = start_tls };

static struct nbd_haggle *begin(uint32_t client_flags)
{
    memset(&world, 0, sizeof(world));
    return nbd_haggle_create(&catalogue, &world, client_flags, false);
}

static struct nbd_haggle *begin_with_tls(void)
{
    memset(&world, 0, sizeof(world));
    return nbd_haggle_create(&catalogue, &world, FIXED, true);
}

/* Options ------------------------------------------------------------------------------------------------------- */

struct data {
    uint8_t bytes[1024];
    size_t length;
};

static void add16(struct data *data, uint16_t value)
{
    store_be16(data->bytes + data->length, value);
    data->length += 2;
}

static void add32(struct data *data, uint32_t value)
{
    store_be32(data->bytes + data->length, value);
    data->length += 4;
}

static void add_text(struct data *data, const char *text)
{
    add32(data, (uint32_t)strlen(text));
    memcpy(data->bytes + data->length, text, strlen(text));
    data->length += strlen(text);
}

static enum nbd_haggle_result plain(struct nbd_haggle *haggle, uint32_t option)
{
    return nbd_haggle_option(haggle, option, (const uint8_t *)"", 0);
}

static enum nbd_haggle_result info(struct nbd_haggle *haggle, uint32_t option, const char *name, unsigned infos)
{
    struct data data = { .length = 0 };
    add_text(&data, name);
    add16(&data, (uint16_t)__builtin_popcount(infos));
    for (uint16_t one = 0; one < 8; one++) {
        if (infos & 1u << one)
            add16(&data, one);
    }
    return nbd_haggle_option(haggle, option, data.bytes, data.length);
}

static enum nbd_haggle_result contexts(struct nbd_haggle *haggle, uint32_t option, const char *name, const char *first,
                                       const char *second)
{
    struct data data = { .length = 0 };
    add_text(&data, name);
    add32(&data, (first ? 1u : 0u) + (second ? 1u : 0u));
    if (first)
        add_text(&data, first);
    if (second)
        add_text(&data, second);
    return nbd_haggle_option(haggle, option, data.bytes, data.length);
}

/* Replies, in the order they were sent --------------------------------------------------------------------------- */

/* The next reply is of @type, to @option; returns its data. */
static const uint8_t *expect_reply(uint32_t option, uint32_t type, size_t bytes)
{
    const uint8_t *at = world.sent + world.read_bytes;
    assert_true(world.sent_bytes >= world.read_bytes + NBD_OPTION_REPLY_BYTES);
    assert_int_equal(load_be64(at), NBD_OPTION_REPLY_MAGIC);
    assert_int_equal(load_be32(at + 8), option);
    assert_int_equal(load_be32(at + 12), type);
    size_t length = load_be32(at + 16);
    if (bytes != SIZE_MAX)
        assert_int_equal(length, bytes);
    world.read_bytes += NBD_OPTION_REPLY_BYTES + length;
    assert_true(world.read_bytes <= world.sent_bytes);
    return at + NBD_OPTION_REPLY_BYTES;
}

static void expect_ack(uint32_t option)
{
    expect_reply(option, NBD_REP_ACK, 0);
}

/* An error with a message for people. */
static void expect_refused(uint32_t option, uint32_t type)
{
    const uint8_t *message = expect_reply(option, type, SIZE_MAX);
    size_t length = load_be32(message - 4);
    assert_true(length > 0);
    for (size_t i = 0; i < length; i++)
        assert_true(message[i] >= ' ' && message[i] < 0x7f);
}

static void expect_no_more(void)
{
    assert_int_equal(world.read_bytes, world.sent_bytes);
}

static void expect_context(uint32_t option, uint32_t id, const char *name)
{
    const uint8_t *at = expect_reply(option, NBD_REP_META_CONTEXT, 4 + strlen(name));
    assert_int_equal(load_be32(at), id);
    assert_memory_equal(at + 4, name, strlen(name));
}

/* ---------------------------------------------------------------------------------------------------------------- */

static void unknown_client_flags_are_not_tolerated(void **state)
{
    (void)state;
    assert_null(begin(4));
    assert_null(begin(0x80000000));
}

static void unknown_options_are_unsupported(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    assert_int_equal(plain(haggle, 4711), NBD_HAGGLE_ON);
    expect_refused(4711, NBD_REP_ERR_UNSUP);
    assert_int_equal(nbd_haggle_oversized(haggle, 4711), NBD_HAGGLE_ON);
    expect_refused(4711, NBD_REP_ERR_UNSUP);
    assert_int_equal(plain(haggle, NBD_OPT_STARTTLS), NBD_HAGGLE_ON);
    expect_refused(NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY);
    nbd_haggle_destroy(haggle);
}

static void abort_is_acknowledged(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    assert_int_equal(plain(haggle, NBD_OPT_ABORT), NBD_HAGGLE_END);
    expect_ack(NBD_OPT_ABORT);
    expect_no_more();
    nbd_haggle_destroy(haggle);
}

static void list_tells_names_and_descriptions(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    assert_int_equal(plain(haggle, NBD_OPT_LIST), NBD_HAGGLE_ON);
    const uint8_t *at = expect_reply(NBD_OPT_LIST, NBD_REP_SERVER, 4 + 4 + 9);
    assert_int_equal(load_be32(at), 4);
    assert_memory_equal(at + 4, "diskthe first", 13);
    at = expect_reply(NBD_OPT_LIST, NBD_REP_SERVER, 4 + 4);
    assert_memory_equal(at + 4, "tape", 4);
    expect_ack(NBD_OPT_LIST);
    assert_int_equal(nbd_haggle_option(haggle, NBD_OPT_LIST, (const uint8_t *)"x", 1), NBD_HAGGLE_ON);
    expect_refused(NBD_OPT_LIST, NBD_REP_ERR_INVALID);
    expect_no_more();
    nbd_haggle_destroy(haggle);
}

static void info_tells_what_is_asked_and_size_in_any_case(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    assert_int_equal(info(haggle, NBD_OPT_INFO, "disk", 0), NBD_HAGGLE_ON);
    const uint8_t *at = expect_reply(NBD_OPT_INFO, NBD_REP_INFO, 14);
    static const uint8_t blocks[] = { 0, 3, 0, 0, 0, 1, 0, 0, 16, 0, 0, 1, 0, 0 };
    assert_memory_equal(at, blocks, sizeof(blocks)); /* nobody asked, so nobody need keep to a minimum */
    at = expect_reply(NBD_OPT_INFO, NBD_REP_INFO, 12);
    static const uint8_t size[] = { 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 5 };
    assert_memory_equal(at, size, sizeof(size));
    expect_ack(NBD_OPT_INFO);

    info(haggle, NBD_OPT_INFO, "disk", 1u << NBD_INFO_BLOCK_SIZE);
    at = expect_reply(NBD_OPT_INFO, NBD_REP_INFO, 14);
    static const uint8_t asked_blocks[] = { 0, 3, 0, 0, 2, 0, 0, 0, 16, 0, 0, 1, 0, 0 };
    assert_memory_equal(at, asked_blocks, sizeof(asked_blocks));
    expect_reply(NBD_OPT_INFO, NBD_REP_INFO, 12);
    expect_ack(NBD_OPT_INFO);

    info(haggle, NBD_OPT_INFO, "", 1u << NBD_INFO_NAME | 1u << NBD_INFO_DESCRIPTION);
    at = expect_reply(NBD_OPT_INFO, NBD_REP_INFO, 6);
    assert_memory_equal(at, "\0\1disk", 6);
    at = expect_reply(NBD_OPT_INFO, NBD_REP_INFO, 11);
    assert_memory_equal(at, "\0\2the first", 11);
    expect_reply(NBD_OPT_INFO, NBD_REP_INFO, 14);
    expect_reply(NBD_OPT_INFO, NBD_REP_INFO, 12);
    expect_ack(NBD_OPT_INFO);
    expect_no_more();
    assert_null(world.attached);
    nbd_haggle_destroy(haggle);
}

static void go_is_info_with_consequences(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    assert_int_equal(info(haggle, NBD_OPT_GO, "nowhere", 0), NBD_HAGGLE_ON);
    expect_refused(NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
    assert_null(world.attached);
    assert_int_equal(info(haggle, NBD_OPT_GO, "tape", 0), NBD_HAGGLE_TRANSMISSION);
    assert_string_equal(world.attached, "tape");
    assert_int_equal(nbd_haggle_agreed(haggle).mode, NBD_MODE_SIMPLE);
    nbd_haggle_destroy(haggle);
}

static void malformed_info_is_refused_and_forgotten(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    assert_int_equal(nbd_haggle_option(haggle, NBD_OPT_GO, (const uint8_t *)"\0\0\0\4di", 6), NBD_HAGGLE_ON);
    expect_refused(NBD_OPT_GO, NBD_REP_ERR_INVALID);
    assert_int_equal(nbd_haggle_option(haggle, NBD_OPT_GO, (const uint8_t *)"\0\0\0\1\0\0\0", 7), NBD_HAGGLE_ON);
    expect_refused(NBD_OPT_GO, NBD_REP_ERR_INVALID);
    assert_int_equal(nbd_haggle_oversized(haggle, NBD_OPT_GO), NBD_HAGGLE_ON);
    expect_refused(NBD_OPT_GO, NBD_REP_ERR_TOO_BIG);
    assert_int_equal(info(haggle, NBD_OPT_GO, "disk", 0), NBD_HAGGLE_TRANSMISSION);
    nbd_haggle_destroy(haggle);
}

static void export_name_has_124_zeroes_unless_agreed(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(NBD_FLAG_C_FIXED_NEWSTYLE);
    assert_int_equal(nbd_haggle_option(haggle, NBD_OPT_EXPORT_NAME, (const uint8_t *)"disk", 4),
                     NBD_HAGGLE_TRANSMISSION);
    assert_int_equal(world.sent_bytes, 134);
    assert_int_equal(load_be64(world.sent), 1 << 20);
    nbd_haggle_destroy(haggle);

    haggle = begin(FIXED);
    assert_int_equal(nbd_haggle_option(haggle, NBD_OPT_EXPORT_NAME, (const uint8_t *)"", 0), NBD_HAGGLE_TRANSMISSION);
    assert_int_equal(world.sent_bytes, 10);
    assert_string_equal(world.attached, "disk");
    nbd_haggle_destroy(haggle);
}

static void export_name_has_no_error_but_the_end(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    assert_int_equal(nbd_haggle_option(haggle, NBD_OPT_EXPORT_NAME, (const uint8_t *)"nowhere", 7), NBD_HAGGLE_END);
    assert_int_equal(nbd_haggle_oversized(haggle, NBD_OPT_EXPORT_NAME), NBD_HAGGLE_END);
    assert_int_equal(world.sent_bytes, 0);
    nbd_haggle_destroy(haggle);
}

static void without_fixed_newstyle_only_export_name_is_left(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(0);
    assert_int_equal(plain(haggle, NBD_OPT_LIST), NBD_HAGGLE_END);
    assert_int_equal(world.sent_bytes, 0);
    nbd_haggle_destroy(haggle);
    haggle = begin(0);
    assert_int_equal(nbd_haggle_option(haggle, NBD_OPT_EXPORT_NAME, (const uint8_t *)"disk", 4),
                     NBD_HAGGLE_TRANSMISSION);
    nbd_haggle_destroy(haggle);
}

static void structured_replies_allow_unfragmented_reads(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    assert_int_equal(nbd_haggle_option(haggle, NBD_OPT_STRUCTURED_REPLY, (const uint8_t *)"x", 1), NBD_HAGGLE_ON);
    expect_refused(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID);
    assert_int_equal(nbd_haggle_agreed(haggle).mode, NBD_MODE_SIMPLE);
    plain(haggle, NBD_OPT_STRUCTURED_REPLY);
    expect_ack(NBD_OPT_STRUCTURED_REPLY);
    assert_int_equal(nbd_haggle_agreed(haggle).mode, NBD_MODE_STRUCTURED);
    info(haggle, NBD_OPT_INFO, "disk", 0);
    expect_reply(NBD_OPT_INFO, NBD_REP_INFO, 14);
    const uint8_t *at = expect_reply(NBD_OPT_INFO, NBD_REP_INFO, 12);
    assert_true(load_be16(at + 10) & NBD_FLAG_SEND_DF);
    nbd_haggle_destroy(haggle);
}

static void selecting_contexts_needs_structured_replies(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    assert_int_equal(contexts(haggle, NBD_OPT_SET_META_CONTEXT, "disk", "base:allocation", NULL), NBD_HAGGLE_ON);
    expect_refused(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
    contexts(haggle, NBD_OPT_LIST_META_CONTEXT, "disk", "base:", NULL);
    expect_context(NBD_OPT_LIST_META_CONTEXT, 0, "base:allocation");
    expect_ack(NBD_OPT_LIST_META_CONTEXT);
    expect_no_more();
    nbd_haggle_destroy(haggle);
}

static void contexts_are_listed_by_beginnings(void **state)
{
    (void)state;
    uint32_t option = NBD_OPT_LIST_META_CONTEXT;
    struct nbd_haggle *haggle = begin(FIXED);
    plain(haggle, NBD_OPT_STRUCTURED_REPLY);
    expect_ack(NBD_OPT_STRUCTURED_REPLY);
    contexts(haggle, option, "disk", NULL, NULL);
    expect_context(option, 0, "base:allocation");
    expect_context(option, 0, "qemu:allocation-depth");
    expect_context(option, 0, "qemu:dirty-bitmap:monday");
    expect_context(option, 0, "qemu:dirty-bitmap:a:b");
    expect_ack(option);
    contexts(haggle, option, "tape", NULL, NULL);
    expect_context(option, 0, "base:allocation");
    expect_ack(option);
    contexts(haggle, option, "disk", "base:", NULL);
    expect_context(option, 0, "base:allocation");
    expect_ack(option);
    contexts(haggle, option, "disk", "qemu:", "x-mine:");
    expect_context(option, 0, "qemu:allocation-depth");
    expect_context(option, 0, "qemu:dirty-bitmap:monday");
    expect_context(option, 0, "qemu:dirty-bitmap:a:b");
    expect_ack(option);
    contexts(haggle, option, "disk", "qemu:dirty-bitmap:", NULL);
    expect_context(option, 0, "qemu:dirty-bitmap:monday");
    expect_context(option, 0, "qemu:dirty-bitmap:a:b");
    expect_ack(option);
    contexts(haggle, option, "disk", "qemu:dirty-bitmap:monday", "base:allocation");
    expect_context(option, 0, "base:allocation");
    expect_context(option, 0, "qemu:dirty-bitmap:monday");
    expect_ack(option);
    contexts(haggle, option, "disk", "base:alloc", "base");
    expect_ack(option);
    contexts(haggle, option, "disk", "qemu:dirty-bitmap:a:", "");
    expect_ack(option);
    contexts(haggle, option, "nowhere", NULL, NULL);
    expect_refused(option, NBD_REP_ERR_UNKNOWN);
    expect_no_more();
    nbd_haggle_destroy(haggle);
}

static void contexts_are_selected_by_name(void **state)
{
    (void)state;
    uint32_t option = NBD_OPT_SET_META_CONTEXT;
    struct nbd_haggle *haggle = begin(FIXED);
    plain(haggle, NBD_OPT_STRUCTURED_REPLY);
    expect_ack(NBD_OPT_STRUCTURED_REPLY);
    contexts(haggle, option, "disk", "qemu:allocation-depth", "base:allocation");
    expect_context(option, 0, "base:allocation");
    expect_context(option, 1, "qemu:allocation-depth");
    expect_ack(option);
    assert_int_equal(nbd_haggle_agreed(haggle).contexts, 3);
    contexts(haggle, option, "disk", "qemu:allocation-depth", "qemu:allocation-depth");
    expect_context(option, 1, "qemu:allocation-depth");
    expect_ack(option);
    assert_int_equal(nbd_haggle_agreed(haggle).contexts, 2);
    contexts(haggle, option, "disk", "qemu:dirty-bitmap:a:b", "base:allocation");
    expect_context(option, 0, "base:allocation");
    expect_context(option, 3, "qemu:dirty-bitmap:a:b");
    expect_ack(option);
    assert_int_equal(nbd_haggle_agreed(haggle).contexts, 9);
    contexts(haggle, option, "tape", "qemu:dirty-bitmap:a:b", "qemu:allocation-depth");
    expect_ack(option);
    assert_int_equal(nbd_haggle_agreed(haggle).contexts, 0);
    contexts(haggle, option, "disk", "base:", "x-mine:that");
    expect_ack(option);
    contexts(haggle, option, "disk", "qemu:", "qemu:dirty-bitmap:");
    expect_ack(option);
    contexts(haggle, option, "disk", NULL, NULL);
    expect_ack(option);
    assert_int_equal(nbd_haggle_agreed(haggle).contexts, 0);
    expect_no_more();
    nbd_haggle_destroy(haggle);
}

static void contexts_count_for_the_export_they_were_selected_for(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    plain(haggle, NBD_OPT_STRUCTURED_REPLY);
    contexts(haggle, NBD_OPT_SET_META_CONTEXT, "disk", "base:allocation", NULL);
    assert_int_equal(info(haggle, NBD_OPT_GO, "tape", 0), NBD_HAGGLE_TRANSMISSION);
    assert_int_equal(nbd_haggle_agreed(haggle).contexts, 0);
    nbd_haggle_destroy(haggle);

    haggle = begin(FIXED);
    plain(haggle, NBD_OPT_STRUCTURED_REPLY);
    contexts(haggle, NBD_OPT_SET_META_CONTEXT, "", "base:allocation", NULL);
    assert_int_equal(info(haggle, NBD_OPT_GO, "disk", 0), NBD_HAGGLE_TRANSMISSION);
    assert_int_equal(nbd_haggle_agreed(haggle).contexts, 1);
    nbd_haggle_destroy(haggle);
}

/* A selection that fails leaves none behind. */
static void contexts_are_gone_after_an_error(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    plain(haggle, NBD_OPT_STRUCTURED_REPLY);
    contexts(haggle, NBD_OPT_SET_META_CONTEXT, "disk", "base:allocation", NULL);
    contexts(haggle, NBD_OPT_SET_META_CONTEXT, "nowhere", "base:allocation", NULL);
    info(haggle, NBD_OPT_GO, "disk", 0);
    assert_int_equal(nbd_haggle_agreed(haggle).contexts, 0);
    nbd_haggle_destroy(haggle);
}

static void there_may_be_too_many_queries(void **state)
{
    (void)state;
    static uint8_t data[10000] = "\0\0\0\4disk";
    struct nbd_haggle *haggle = begin(FIXED);
    plain(haggle, NBD_OPT_STRUCTURED_REPLY);
    expect_ack(NBD_OPT_STRUCTURED_REPLY);
    store_be32(data + 8, NBD_QUERIES_MAX + 1);
    nbd_haggle_option(haggle, NBD_OPT_SET_META_CONTEXT, data, 12 + 4 * (NBD_QUERIES_MAX + 1));
    expect_refused(NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_TOO_BIG);
    store_be32(data + 8, NBD_QUERIES_MAX);
    nbd_haggle_option(haggle, NBD_OPT_SET_META_CONTEXT, data, 12 + 4 * NBD_QUERIES_MAX);
    expect_ack(NBD_OPT_SET_META_CONTEXT);
    expect_no_more();
    nbd_haggle_destroy(haggle);
}

/* Options without data ------------------------------------------------------------------------------------------- */

static void options_that_have_no_data_must_have_none(void **state)
{
    (void)state;
    static const uint32_t options[] = { NBD_OPT_LIST, NBD_OPT_STARTTLS, NBD_OPT_STRUCTURED_REPLY };
    struct nbd_haggle *haggle = begin_with_tls();
    plain(haggle, NBD_OPT_STARTTLS);
    expect_ack(NBD_OPT_STARTTLS);
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        assert_int_equal(nbd_haggle_option(haggle, options[i], (const uint8_t *)"x", 1), NBD_HAGGLE_ON);
        expect_refused(options[i], NBD_REP_ERR_INVALID);
        assert_int_equal(nbd_haggle_oversized(haggle, options[i]), NBD_HAGGLE_ON);
        expect_refused(options[i], NBD_REP_ERR_INVALID);
    }
    assert_int_equal(nbd_haggle_agreed(haggle).mode, NBD_MODE_SIMPLE);
    nbd_haggle_destroy(haggle);
}

static void data_of_abort_are_ignored(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    assert_int_equal(nbd_haggle_option(haggle, NBD_OPT_ABORT, (const uint8_t *)"bye", 3), NBD_HAGGLE_END);
    expect_ack(NBD_OPT_ABORT);
    assert_int_equal(nbd_haggle_oversized(haggle, NBD_OPT_ABORT), NBD_HAGGLE_END);
    expect_ack(NBD_OPT_ABORT);
    nbd_haggle_destroy(haggle);
}

static void a_server_that_stops_says_so(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    assert_int_equal(info(haggle, NBD_OPT_GO, "late", 0), NBD_HAGGLE_ON);
    expect_refused(NBD_OPT_GO, NBD_REP_ERR_SHUTDOWN);
    assert_int_equal(nbd_haggle_option(haggle, NBD_OPT_EXPORT_NAME, (const uint8_t *)"late", 4), NBD_HAGGLE_END);
    expect_no_more();
    nbd_haggle_destroy(haggle);
}

/* Whoever reads the message may show it as it is. */
static void messages_quote_names_as_utf8(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    static const uint8_t query[] = "\0\0\0\6x\xff\xc3\xa9\ny\0\0";
    nbd_haggle_option(haggle, NBD_OPT_GO, query, sizeof(query) - 1);
    const uint8_t *message = expect_reply(NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, SIZE_MAX);
    static const char expected[] = "there is no export named 'x?\xc3\xa9?y'";
    assert_int_equal(load_be32(message - 4), sizeof(expected) - 1);
    assert_memory_equal(message, expected, sizeof(expected) - 1);
    nbd_haggle_destroy(haggle);
}

/* TLS ------------------------------------------------------------------------------------------------------------ */

static void without_tls_nothing_is_granted_where_it_is_demanded(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin_with_tls();
    plain(haggle, NBD_OPT_LIST);
    expect_refused(NBD_OPT_LIST, NBD_REP_ERR_TLS_REQD);
    plain(haggle, NBD_OPT_STRUCTURED_REPLY);
    expect_refused(NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_TLS_REQD);
    info(haggle, NBD_OPT_GO, "disk", 0);
    expect_refused(NBD_OPT_GO, NBD_REP_ERR_TLS_REQD);
    info(haggle, NBD_OPT_INFO, "nowhere", 0);
    expect_refused(NBD_OPT_INFO, NBD_REP_ERR_TLS_REQD);
    contexts(haggle, NBD_OPT_LIST_META_CONTEXT, "disk", NULL, NULL);
    expect_refused(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_TLS_REQD);
    plain(haggle, 4711);
    expect_refused(4711, NBD_REP_ERR_TLS_REQD);
    nbd_haggle_oversized(haggle, NBD_OPT_GO);
    expect_refused(NBD_OPT_GO, NBD_REP_ERR_TLS_REQD);
    expect_no_more();
    assert_int_equal(nbd_haggle_option(haggle, NBD_OPT_EXPORT_NAME, (const uint8_t *)"disk", 4), NBD_HAGGLE_END);
    expect_no_more();
    assert_null(world.attached);
    assert_int_equal(world.tls_after_bytes, 0);
    nbd_haggle_destroy(haggle);

    haggle = begin_with_tls();
    assert_int_equal(plain(haggle, NBD_OPT_ABORT), NBD_HAGGLE_END);
    expect_ack(NBD_OPT_ABORT);
    nbd_haggle_destroy(haggle);
}

static void tls_begins_right_after_its_acknowledgement(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin_with_tls();
    assert_int_equal(plain(haggle, NBD_OPT_STARTTLS), NBD_HAGGLE_ON);
    expect_ack(NBD_OPT_STARTTLS);
    assert_int_equal(world.tls_after_bytes, NBD_OPTION_REPLY_BYTES);
    assert_int_equal(plain(haggle, NBD_OPT_STARTTLS), NBD_HAGGLE_ON);
    expect_refused(NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID);
    assert_int_equal(world.tls_after_bytes, NBD_OPTION_REPLY_BYTES);
    assert_int_equal(info(haggle, NBD_OPT_GO, "disk", 0), NBD_HAGGLE_TRANSMISSION);
    assert_string_equal(world.attached, "disk");
    nbd_haggle_destroy(haggle);
}

static void tls_that_fails_is_the_end(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin_with_tls();
    world.tls_fails = true;
    assert_int_equal(plain(haggle, NBD_OPT_STARTTLS), NBD_HAGGLE_END);
    nbd_haggle_destroy(haggle);
}

static void a_client_that_cannot_be_reached_is_done_with(void **state)
{
    (void)state;
    struct nbd_haggle *haggle = begin(FIXED);
    world.send_error = -EPIPE;
    assert_int_equal(plain(haggle, NBD_OPT_LIST), NBD_HAGGLE_END);
    assert_int_equal(info(haggle, NBD_OPT_GO, "disk", 0), NBD_HAGGLE_END);
    nbd_haggle_destroy(haggle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_client_flags_are_not_tolerated),
        cmocka_unit_test(unknown_options_are_unsupported),
        cmocka_unit_test(abort_is_acknowledged),
        cmocka_unit_test(list_tells_names_and_descriptions),
        cmocka_unit_test(info_tells_what_is_asked_and_size_in_any_case),
        cmocka_unit_test(go_is_info_with_consequences),
        cmocka_unit_test(malformed_info_is_refused_and_forgotten),
        cmocka_unit_test(export_name_has_124_zeroes_unless_agreed),
        cmocka_unit_test(export_name_has_no_error_but_the_end),
        cmocka_unit_test(without_fixed_newstyle_only_export_name_is_left),
        cmocka_unit_test(structured_replies_allow_unfragmented_reads),
        cmocka_unit_test(selecting_contexts_needs_structured_replies),
        cmocka_unit_test(contexts_are_listed_by_beginnings),
        cmocka_unit_test(contexts_are_selected_by_name),
        cmocka_unit_test(contexts_count_for_the_export_they_were_selected_for),
        cmocka_unit_test(contexts_are_gone_after_an_error),
        cmocka_unit_test(there_may_be_too_many_queries),
        cmocka_unit_test(options_that_have_no_data_must_have_none),
        cmocka_unit_test(data_of_abort_are_ignored),
        cmocka_unit_test(a_server_that_stops_says_so),
        cmocka_unit_test(messages_quote_names_as_utf8),
        cmocka_unit_test(without_tls_nothing_is_granted_where_it_is_demanded),
        cmocka_unit_test(tls_begins_right_after_its_acknowledgement),
        cmocka_unit_test(tls_that_fails_is_the_end),
        cmocka_unit_test(a_client_that_cannot_be_reached_is_done_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
