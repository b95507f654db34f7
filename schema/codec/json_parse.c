#include "schema/codec/json_parse.h"

static struct error *parse_piece(struct json_builder *builder, struct json_lexer *lexer, const char *at,
                                 const char *end)
{
    for (;;) {
        enum json_token token = json_lexer_next(lexer, &at, end);
        if (token == TOKEN_MORE)
            return NULL;
        if (token == TOKEN_STRAY)
            return error_new("JSON parse error, %s", lexer->message);
        if (json_builder_is_complete(builder))
            return error_new("JSON parse error, something follows the value");
        struct error *err = json_builder_take(builder, token, lexer);
        if (err)
            return err;
    }
}

static struct error *parse_whole(struct json_builder *builder, struct json_lexer *lexer, const char *text,
                                 size_t length)
{
    static const char blank = ' '; /* ends a number or a word */
    struct error *err = parse_piece(builder, lexer, text, text + length);
    if (!err && lexer->state == LEX_WORD)
        err = parse_piece(builder, lexer, &blank, &blank + 1);
    if (!err && (!json_builder_is_complete(builder) || lexer->state != LEX_BETWEEN))
        err = error_new("JSON parse error, the value is not complete");
    return err;
}

struct error *json_parse(const char *text, size_t length, size_t values_max, json_t **out)
{
    struct json_lexer lexer;
    struct json_builder builder;
    json_lexer_init(&lexer);
    json_builder_init(&builder, values_max);
    struct error *err = parse_whole(&builder, &lexer, text, length);
    if (!err)
        *out = steal(&builder.root);
    json_builder_fini(&builder);
    json_lexer_fini(&lexer);
    return err;
}
