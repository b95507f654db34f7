#include "schema/codec/suggest.h"
#include "schema/compiler/lexer.h"
#include "schema/compiler/syntax.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct parser {
    struct compilation *compilation;
    struct program *program;
    struct source *source;
    const struct module *module;
    struct lexer lexer;
    struct doc *doc; /* that of the next expression */
    unsigned depth;
};

static bool parse_file(struct program *program, struct compilation *compilation, struct source *source);
static struct syntax *parse_value(struct parser *parser);

bool names_contain(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

const struct syntax_pair *syntax_find(const struct syntax *object, const char *key)
{
    for (size_t i = 0; i < object->pairs.count; i++)
        if (strcmp(object->pairs.items[i].key, key) == 0)
            return &object->pairs.items[i];
    return NULL;
}

struct syntax *syntax_get(const struct syntax *object, const char *key)
{
    const struct syntax_pair *pair = syntax_find(object, key);
    return pair ? pair->value : NULL;
}

static struct syntax *parse_error(struct parser *parser, const char *expected)
{
    compilation_error(parser->compilation, parser->lexer.token.at, "expected %s", expected);
    return NULL;
}

static bool advance(struct parser *parser)
{
    if (!lexer_next(&parser->lexer))
        return false;
    if (parser->lexer.token.kind == TOKEN_COMMENT)
        return compilation_error(parser->compilation, parser->lexer.token.at,
                                 "documentation comment inside an expression");
    return true;
}

/* Moves behind a closing bracket: behind that of a whole expression the next one's documentation may stand. */
static struct syntax *closed(struct parser *parser, struct syntax *syntax)
{
    bool outermost = parser->depth == 1;
    return (outermost ? lexer_next(&parser->lexer) : advance(parser)) ? syntax : NULL;
}

static struct syntax *new_syntax(struct parser *parser, enum syntax_kind kind)
{
    struct syntax *syntax = arena_alloc(parser->compilation->arena, sizeof(*syntax));
    syntax->kind = kind;
    syntax->at = parser->lexer.token.at;
    return syntax;
}

/* The current token is the value. */
static bool check_key(struct parser *parser, const struct syntax *object, const char *key)
{
    const struct syntax_pair *known = syntax_find(object, key);
    if (known) {
        compilation_error(parser->compilation, parser->lexer.token.at, "duplicate key '%s'", key);
        compilation_note(parser->compilation, known->at, "'%s' stands here already", key);
        return false;
    }
    return object->pairs.count < SYNTAX_KEYS_MAX ||
           compilation_error(parser->compilation, parser->lexer.token.at, "more than %d keys", SYNTAX_KEYS_MAX);
}

/* The current token is the key; ends behind the value. */
static bool parse_pair(struct parser *parser, struct syntax *object)
{
    struct syntax_pair pair = { .key = parser->lexer.token.text, .at = parser->lexer.token.at };
    if (!advance(parser))
        return false;
    if (parser->lexer.token.kind != TOKEN_COLON)
        return parse_error(parser, "':'");
    parser->lexer.numbers = parser->program->pragmas.language > 0 || strcmp(pair.key, "language") == 0;
    if (!advance(parser))
        return false;
    if (!check_key(parser, object, pair.key))
        return false;
    pair.value = parse_value(parser);
    if (!pair.value)
        return false;
    VECTOR_PUSH(parser->compilation->arena, &object->pairs, pair);
    return true;
}

static struct syntax *parse_object(struct parser *parser)
{
    struct syntax *object = new_syntax(parser, SYNTAX_OBJECT);
    if (!advance(parser))
        return NULL;
    if (parser->lexer.token.kind == TOKEN_RIGHT_BRACE)
        return closed(parser, object);
    if (parser->lexer.token.kind != TOKEN_STRING)
        return parse_error(parser, "string or '}'");
    for (;;) {
        if (!parse_pair(parser, object))
            return NULL;
        if (parser->lexer.token.kind == TOKEN_RIGHT_BRACE)
            return closed(parser, object);
        if (parser->lexer.token.kind != TOKEN_COMMA)
            return parse_error(parser, "',' or '}'");
        if (!advance(parser))
            return NULL;
        if (parser->lexer.token.kind != TOKEN_STRING)
            return parse_error(parser, "string");
    }
}

static bool begins_value(enum token_kind kind)
{
    return kind == TOKEN_LEFT_BRACE || kind == TOKEN_LEFT_BRACKET || kind == TOKEN_STRING || kind == TOKEN_TRUE ||
           kind == TOKEN_FALSE || kind == TOKEN_NUMBER;
}

static struct syntax *parse_array(struct parser *parser)
{
    struct syntax *array = new_syntax(parser, SYNTAX_ARRAY);
    if (!advance(parser))
        return NULL;
    if (parser->lexer.token.kind == TOKEN_RIGHT_BRACKET)
        return closed(parser, array);
    if (!begins_value(parser->lexer.token.kind))
        return parse_error(parser, "'{', '[', ']', string, or boolean");
    for (;;) {
        struct syntax *item = parse_value(parser);
        if (!item)
            return NULL;
        if (array->items.count == SYNTAX_ITEMS_MAX) {
            compilation_error(parser->compilation, item->at, "more than %d elements", SYNTAX_ITEMS_MAX);
            return NULL;
        }
        VECTOR_PUSH(parser->compilation->arena, &array->items, item);
        if (parser->lexer.token.kind == TOKEN_RIGHT_BRACKET)
            return closed(parser, array);
        if (parser->lexer.token.kind != TOKEN_COMMA)
            return parse_error(parser, "',' or ']'");
        if (!advance(parser))
            return NULL;
    }
}

static struct syntax *parse_number(struct parser *parser)
{
    const struct token *token = &parser->lexer.token;
    struct syntax *syntax = new_syntax(parser, SYNTAX_NUMBER);
    struct number *number = &syntax->number;
    const char *p = token->text, *end = p + token->length;

    number->negative = *p == '-';
    number->integer = !memchr(p, '.', token->length);
    number->real = strtod(arena_strndup(parser->compilation->arena, p, token->length), NULL);
    for (p += number->negative; number->integer && p < end; p++) {
        if (__builtin_mul_overflow(number->magnitude, 10, &number->magnitude) ||
            __builtin_add_overflow(number->magnitude, (uint64_t)(*p - '0'), &number->magnitude)) {
            compilation_error(parser->compilation, token->at, "number needs more than 64 bits");
            return NULL;
        }
    }
    number->negative &= !number->integer || number->magnitude != 0;
    return syntax;
}

static struct syntax *parse_scalar(struct parser *parser)
{
    struct syntax *scalar;
    switch (parser->lexer.token.kind) {
    case TOKEN_STRING:
        scalar = new_syntax(parser, SYNTAX_STRING);
        scalar->string = parser->lexer.token.text;
        break;
    case TOKEN_TRUE:
    case TOKEN_FALSE:
        scalar = new_syntax(parser, SYNTAX_BOOL);
        scalar->boolean = parser->lexer.token.kind == TOKEN_TRUE;
        break;
    case TOKEN_NUMBER:
        scalar = parse_number(parser);
        break;
    default:
        return parse_error(parser, "'{', '[', string, or boolean");
    }
    return scalar && (parser->depth ? advance(parser) : lexer_next(&parser->lexer)) ? scalar : NULL;
}

static struct syntax *parse_value(struct parser *parser)
{
    enum token_kind kind = parser->lexer.token.kind;
    if (kind != TOKEN_LEFT_BRACE && kind != TOKEN_LEFT_BRACKET)
        return parse_scalar(parser);
    if (parser->depth == SYNTAX_DEPTH_MAX) {
        compilation_error(parser->compilation, parser->lexer.token.at, "nested deeper than %d", SYNTAX_DEPTH_MAX);
        return NULL;
    }
    parser->depth++;
    struct syntax *value = kind == TOKEN_LEFT_BRACE ? parse_object(parser) : parse_array(parser);
    parser->depth--;
    return value;
}

/* The path of an included file, relative to the directory of the including one. */
static const char *include_path(struct parser *parser, const char *name)
{
    const char *slash = strrchr(parser->source->path, '/');
    if (!slash || name[0] == '/')
        return name;
    return arena_printf(parser->compilation->arena, "%.*s/%s", (int)(slash - parser->source->path),
                        parser->source->path, name);
}

static bool apply_include(struct parser *parser, const struct syntax *expression)
{
    struct compilation *compilation = parser->compilation;
    const struct syntax *name = syntax_get(expression, "include");
    if (expression->pairs.count != 1)
        return compilation_error(compilation, expression->at, "invalid 'include' directive");
    if (name->kind != SYNTAX_STRING)
        return compilation_error(compilation, expression->at, "value of 'include' must be a string");

    struct source_identity included = source_identify(include_path(parser, name->string));
    for (const struct source *source = parser->source; source; source = source->includer)
        if (source_is(source, &included))
            return compilation_error(compilation, expression->at, "inclusion loop for %s", name->string);
    for (size_t i = 0; i < parser->program->sources.count; i++)
        if (source_is(parser->program->sources.items[i], &included))
            return true;

    int errnum = 0;
    struct source *source =
        (compilation->read ? compilation->read : source_read)(compilation->arena, included.path, &errnum);
    if (!source)
        return compilation_error(compilation, expression->at, "can't read include file '%s': %s", included.path,
                                 strerror(errnum));
    source->includer = parser->source;
    source->included_at = expression->at;
    return parse_file(parser->program, compilation, source);
}

/* An error of a directive as a whole: at its beginning; the note names the key. */
static PRINTF_LIKE(4, 5) bool wrong_pragma(struct parser *parser, const struct syntax *expression,
                                           const struct syntax_pair *pragma, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    compilation_verror(parser->compilation, expression->at, format, args);
    va_end(args);
    compilation_note(parser->compilation, pragma->at, "'%s' is here", pragma->key);
    return false;
}

static struct name_list *find_name_list(struct pragmas *pragmas, const char *key)
{
    if (strcmp(key, "command-name-exceptions") == 0)
        return &pragmas->command_name_exceptions;
    if (strcmp(key, "command-returns-exceptions") == 0)
        return &pragmas->command_returns_exceptions;
    if (strcmp(key, "documentation-exceptions") == 0)
        return &pragmas->documentation_exceptions;
    return strcmp(key, "member-name-exceptions") == 0 ? &pragmas->member_name_exceptions : NULL;
}

/* The last list counts, for the whole schema. */
static bool apply_name_pragma(struct parser *parser, const struct syntax *expression, const struct syntax_pair *pragma,
                              struct name_list *list)
{
    const struct syntax *names = pragma->value;
    bool strings = names->kind == SYNTAX_ARRAY;
    for (size_t i = 0; strings && i < names->items.count; i++)
        strings = names->items.items[i]->kind == SYNTAX_STRING;
    if (!strings)
        return wrong_pragma(parser, expression, pragma, "pragma %s must be a list of strings", pragma->key);

    *list = (struct name_list){ 0 };
    for (size_t i = 0; i < names->items.count; i++)
        VECTOR_PUSH(parser->compilation->arena, list, names->items.items[i]->string);
    return true;
}

static bool apply_language(struct parser *parser, const struct syntax *expression, const struct syntax_pair *pragma)
{
    const struct syntax *value = pragma->value;
    if (value->kind != SYNTAX_NUMBER || !value->number.integer || value->number.negative ||
        value->number.magnitude != LANGUAGE_NEWEST)
        return wrong_pragma(parser, expression, pragma, "pragma 'language' must be %d", LANGUAGE_NEWEST);
    parser->program->pragmas.language = LANGUAGE_NEWEST;
    return true;
}

static bool unknown_pragma(struct parser *parser, const struct syntax *expression, const struct syntax_pair *pragma)
{
    static const char *const known[] = { "doc-required",
                                         "command-name-exceptions",
                                         "command-returns-exceptions",
                                         "documentation-exceptions",
                                         "member-name-exceptions",
                                         "language" };
    struct suggestion suggestion = { 0 };
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        suggestion_consider(&suggestion, pragma->key, known[i]);
    wrong_pragma(parser, expression, pragma, "unknown pragma '%s'", pragma->key);
    compilation_suggest(parser->compilation, pragma->at, &suggestion);
    return false;
}

static bool apply_pragma(struct parser *parser, const struct syntax *expression)
{
    const struct syntax *value = syntax_get(expression, "pragma");
    if (expression->pairs.count != 1)
        return compilation_error(parser->compilation, expression->at, "invalid 'pragma' directive");
    if (value->kind != SYNTAX_OBJECT)
        return compilation_error(parser->compilation, expression->at, "value of 'pragma' must be an object");

    struct pragmas *pragmas = &parser->program->pragmas;
    for (size_t i = 0; i < value->pairs.count; i++) {
        const struct syntax_pair *pragma = &value->pairs.items[i];
        struct name_list *list = find_name_list(pragmas, pragma->key);
        if (strcmp(pragma->key, "doc-required") == 0) {
            if (pragma->value->kind != SYNTAX_BOOL)
                return wrong_pragma(parser, expression, pragma, "pragma 'doc-required' must be boolean");
            pragmas->doc_required = pragma->value->boolean;
        } else if (strcmp(pragma->key, "language") == 0) {
            if (!apply_language(parser, expression, pragma))
                return false;
        } else if (list ? !apply_name_pragma(parser, expression, pragma, list)
                        : !unknown_pragma(parser, expression, pragma)) {
            return false;
        }
    }
    return true;
}

/* A documentation comment belongs to the definition that follows it, or to none if it has no symbol. */
static bool refuse_stray_doc(struct parser *parser)
{
    if (!parser->doc || !parser->doc->symbol)
        return true;
    return compilation_error(parser->compilation, parser->doc->at,
                             "documentation for '%s' is not followed by the definition", parser->doc->symbol);
}

static bool add_definition(struct parser *parser, struct syntax *expression)
{
    struct program *program = parser->program;
    if (program->definitions.count == DEFINITIONS_MAX)
        return compilation_error(parser->compilation, expression->at, "more than %d definitions", DEFINITIONS_MAX);
    struct definition *definition = arena_alloc(parser->compilation->arena, sizeof(*definition));
    definition->body = expression;
    definition->module = parser->module;
    definition->doc = parser->doc;
    if (parser->doc && !parser->doc->symbol) {
        compilation_error(parser->compilation, parser->doc->at, "definition documentation required");
        compilation_note(parser->compilation, parser->doc->at,
                         "a comment about what follows begins with '@NAME:'; an empty line does not part them");
        return false;
    }
    VECTOR_PUSH(parser->compilation->arena, &program->definitions, definition);
    return true;
}

/* The current token opens an expression; ends at the next token. */
static bool parse_expression(struct parser *parser)
{
    struct syntax *expression = parse_value(parser);
    if (!expression)
        return false;
    if (expression->kind != SYNTAX_OBJECT)
        return compilation_error(parser->compilation, expression->at, "top-level expression must be an object");
    if (syntax_get(expression, "include"))
        return refuse_stray_doc(parser) && apply_include(parser, expression);
    if (syntax_get(expression, "pragma"))
        return refuse_stray_doc(parser) && apply_pragma(parser, expression);
    return add_definition(parser, expression);
}

static bool parse_doc(struct parser *parser)
{
    if (!refuse_stray_doc(parser))
        return false;
    parser->doc = doc_parse(parser->compilation, &parser->lexer);
    if (!parser->doc)
        return false;
    VECTOR_PUSH(parser->compilation->arena, &parser->program->docs, parser->doc);
    return true;
}

/* An expression's last token was followed by the next one already, which may be a documentation comment. */
static bool parse_top_level(struct parser *parser)
{
    if (!lexer_next(&parser->lexer))
        return false;
    while (parser->lexer.token.kind != TOKEN_END) {
        if (parser->lexer.token.kind == TOKEN_COMMENT) {
            if (!parse_doc(parser))
                return false;
            continue;
        }
        if (!parse_expression(parser))
            return false;
        parser->doc = NULL;
    }
    return refuse_stray_doc(parser);
}

static bool parse_file(struct program *program, struct compilation *compilation, struct source *source)
{
    if (program->sources.count == SOURCES_MAX)
        return compilation_error(compilation, source->included_at, "more than %d files", SOURCES_MAX);
    struct module *module = arena_alloc(compilation->arena, sizeof(*module));
    module->path = source->path;
    module->number = (unsigned)program->modules.count + 1;
    VECTOR_PUSH(compilation->arena, &program->modules, module);
    VECTOR_PUSH(compilation->arena, &program->sources, (const struct source *)source);

    struct location bad = source_find_bad_byte(source);
    if (bad.line)
        return compilation_error(compilation, bad, "not UTF-8");
    struct parser parser = { .compilation = compilation, .program = program, .source = source, .module = module };
    lexer_init(&parser.lexer, compilation, source);
    return parse_top_level(&parser);
}

bool program_parse_source(struct program *program, struct compilation *compilation, struct source *source)
{
    return parse_file(program, compilation, source);
}

bool program_parse(struct program *program, struct compilation *compilation, const char *path)
{
    int errnum = 0;
    struct source *source = source_read(compilation->arena, path, &errnum);
    if (!source)
        return compilation_error(compilation, (struct location){ 0 }, "can't read schema file '%s': %s", path,
                                 strerror(errnum));
    return parse_file(program, compilation, source);
}
