/* Any bytes, cut anywhere: the reader must end each call, keep its budget's books, and answer the same however the
 * input is cut. The first byte says where. */
#include "rpc/json_reader.h"
#include "schema/codec/json_parse.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

struct counts {
    unsigned messages;
    unsigned errors;
};

static void read_piece(struct json_reader *reader, struct json_budget *budget, struct counts *counts, const char *at,
                       const char *end)
{
    for (;;) {
        struct json_message message;
        struct error *err;
        enum json_reader_result result = json_reader_next(reader, &at, end, &message, &err);
        if (result == JSON_READ_MORE)
            break;
        if (result == JSON_READ_MESSAGE) {
            counts->messages++;
            free(json_dumps(message.value, JSON_ENSURE_ASCII));
            json_message_fini(&message, budget);
        } else {
            counts->errors++;
            error_free(err);
        }
    }
    assert(at == end);
}

static struct counts read_all(const char *bytes, size_t length, size_t piece)
{
    struct json_budget budget = { .max = 1 << 20 };
    struct json_reader *reader = json_reader_create(&budget);
    struct counts counts = { 0 };
    for (size_t at = 0; at < length; at += piece) {
        size_t count = length - at < piece ? length - at : piece;
        read_piece(reader, &budget, &counts, bytes + at, bytes + at + count);
    }
    json_reader_destroy(reader);
    assert(budget.used == 0);
    return counts;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *bytes = (const char *)data + 1;
    struct counts whole = read_all(bytes, size - 1, size);
    struct counts pieces = read_all(bytes, size - 1, (size_t)data[0] % 7 + 1);
    assert(whole.messages == pieces.messages && whole.errors == pieces.errors);

    json_t *value = NULL;
    struct error *err = json_parse(bytes, size - 1, JSON_VALUES_MAX, &value);
    error_free(err);
    json_decref(value);
    return 0;
}
