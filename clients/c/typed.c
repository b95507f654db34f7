#include "clients/c/typed.h"

#include "schema/codec/decode.h"
#include "schema/codec/encode.h"

#include <string.h>

static struct error *read_result(const struct typed_command *command, const json_t *reply, struct arena *arena,
                                 void *result)
{
    void *value = NULL;
    struct error *err = decode_value(command->result, reply, DECODE_REPLY, "return", arena, &value, NULL);
    if (!err)
        memcpy(result, value, command->result->size);
    return err;
}

struct error *client_call_typed(struct client *client, const struct typed_command *command, const void *arguments,
                                struct arena *arena, void *result)
{
    CLEANUP(text_fini) struct text text = { 0 };
    CLEANUP(json_decref) json_t *reply = NULL;
    struct error *err = NULL;

    if (arguments)
        err = encode_value(&text, command->arguments, arguments, 0, 0);
    if (err)
        return error_wrap(err, "command '%s'", command->name);
    text_append(&text, "", 1);
    err = client_call_text(client, command->name, arguments ? text.data : NULL, &reply);
    if (!err && result)
        err = error_wrap(read_result(command, reply, arena, result), "command '%s'", command->name);
    return err;
}
