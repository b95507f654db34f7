#include "schema/compiler/lexer.h"
#include "schema/compiler/syntax.h"

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

struct syntax *syntax_get(const struct syntax *object, const char *key)
{
    for (size_t i = 0; i < object->pairs.count; i++)
        if (strcmp(object->pairs.items[i].key, key) == 0)
            return object->pairs.items[i].value;
    return NULL;
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
    if (parser->lexer.token.kind == TOKEN_DOC)
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

/* The current token is the key; ends behind the value. */
static bool parse_pair(struct parser *parser, struct syntax *object)
{
    struct syntax_pair pair = { .key = parser->lexer.token.text, .at = parser->lexer.token.at };
    if (syntax_get(object, pair.key))
        return compilation_error(parser->compilation, pair.at, "duplicate key \"%s\"", pair.key);
    if (!advance(parser))
        return false;
    if (parser->lexer.token.kind != TOKEN_COLON)
        return parse_error(parser, "':'");
    if (!advance(parser))
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

static struct syntax *parse_array(struct parser *parser)
{
    struct syntax *array = new_syntax(parser, SYNTAX_ARRAY);
    if (!advance(parser))
        return NULL;
    if (parser->lexer.token.kind == TOKEN_RIGHT_BRACKET)
        return closed(parser, array);
    for (;;) {
        struct syntax *item = parse_value(parser);
        if (!item)
            return NULL;
        VECTOR_PUSH(parser->compilation->arena, &array->items, item);
        if (parser->lexer.token.kind == TOKEN_RIGHT_BRACKET)
            return closed(parser, array);
        if (parser->lexer.token.kind != TOKEN_COMMA)
            return parse_error(parser, "',' or ']'");
        if (!advance(parser))
            return NULL;
    }
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
    default:
        return parse_error(parser, "'{', '[', string, or boolean");
    }
    return advance(parser) ? scalar : NULL;
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

    const char *path = include_path(parser, name->string);
    for (const struct source *source = parser->source; source; source = source->includer)
        if (source_same_file(source->path, path))
            return compilation_error(compilation, expression->at, "inclusion loop for %s", name->string);
    for (size_t i = 0; i < parser->program->sources.count; i++)
        if (source_same_file(parser->program->sources.items[i]->path, path))
            return true;

    int errnum = 0;
    struct source *source = (compilation->read ? compilation->read : source_read)(compilation->arena, path, &errnum);
    if (!source)
        return compilation_error(compilation, expression->at, "can't read include file '%s': %s", path,
                                 strerror(errnum));
    source->includer = parser->source;
    source->included_at = expression->at;
    return parse_file(parser->program, compilation, source);
}

static bool apply_name_pragma(struct parser *parser, const struct syntax_pair *pragma)
{
    struct pragmas *pragmas = &parser->program->pragmas;
    struct arena *arena = parser->compilation->arena;
    const struct syntax *names = pragma->value;

    bool strings = names->kind == SYNTAX_ARRAY;
    for (size_t i = 0; strings && i < names->items.count; i++)
        strings = names->items.items[i]->kind == SYNTAX_STRING;
    if (!strings)
        return compilation_error(parser->compilation, pragma->at, "pragma %s must be a list of strings", pragma->key);

    for (size_t i = 0; i < names->items.count; i++) {
        const char *name = names->items.items[i]->string;
        if (strcmp(pragma->key, "command-name-exceptions") == 0)
            VECTOR_PUSH(arena, &pragmas->command_name_exceptions, name);
        else if (strcmp(pragma->key, "command-returns-exceptions") == 0)
            VECTOR_PUSH(arena, &pragmas->command_returns_exceptions, name);
        else if (strcmp(pragma->key, "documentation-exceptions") == 0)
            VECTOR_PUSH(arena, &pragmas->documentation_exceptions, name);
        else
            VECTOR_PUSH(arena, &pragmas->member_name_exceptions, name);
    }
    return true;
}

static bool apply_pragma(struct parser *parser, const struct syntax *expression)
{
    static const char *const name_lists[] = { "command-name-exceptions", "command-returns-exceptions",
                                              "documentation-exceptions", "member-name-exceptions" };
    const struct syntax *value = syntax_get(expression, "pragma");
    if (expression->pairs.count != 1)
        return compilation_error(parser->compilation, expression->at, "invalid 'pragma' directive");
    if (value->kind != SYNTAX_OBJECT)
        return compilation_error(parser->compilation, expression->at, "value of 'pragma' must be an object");

    for (size_t i = 0; i < value->pairs.count; i++) {
        const struct syntax_pair *pragma = &value->pairs.items[i];
        if (strcmp(pragma->key, "doc-required") == 0) {
            if (pragma->value->kind != SYNTAX_BOOL)
                return compilation_error(parser->compilation, pragma->at, "pragma 'doc-required' must be boolean");
            parser->program->pragmas.doc_required = pragma->value->boolean;
        } else if (names_contain(name_lists, ARRAY_SIZE(name_lists), pragma->key)) {
            if (!apply_name_pragma(parser, pragma))
                return false;
        } else {
            return compilation_error(parser->compilation, pragma->at, "unknown pragma '%s'", pragma->key);
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
    if (parser->doc && parser->doc->symbol)
        definition->doc = parser->doc;
    VECTOR_PUSH(parser->compilation->arena, &program->definitions, definition);
    return true;
}

/* The current token opens an expression; ends at the next token. */
static bool parse_expression(struct parser *parser)
{
    struct syntax *expression =
        parser->lexer.token.kind == TOKEN_LEFT_BRACE ? parse_value(parser) : parse_error(parser, "'{'");
    if (!expression)
        return false;
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
    const struct token *token = &parser->lexer.token;
    parser->doc = doc_parse(parser->compilation, token->at, token->text, token->length);
    return parser->doc && lexer_next(&parser->lexer);
}

/* An expression's last token was followed by the next one already, which may be a documentation comment. */
static bool parse_top_level(struct parser *parser)
{
    if (!lexer_next(&parser->lexer))
        return false;
    while (parser->lexer.token.kind != TOKEN_END) {
        if (parser->lexer.token.kind == TOKEN_DOC) {
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
