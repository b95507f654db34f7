/* The Python client: enumerations, data classes, events, errors, and a class with one method per command. What is the
 * same for every interface (the wire, encoding, decoding) is in clients/python/cairn/runtime.py; classes carry tables
 * that it interprets.
 *
 * A union is a data class of the common members and, for each value of its discriminator, a subclass UNION_value that
 * fixes it. Conditions play no role: a client learns from the server what there is. */
#include "schema/compiler/json_text.h"
#include "schema/compiler/markup.h"
#include "schema/compiler/printers.h"

#include <ctype.h>
#include <string.h>

enum {
    LINE_BYTES = 100,
};

struct python {
    struct output *output;
    const struct model *model;
};

static const char *const keywords[] = {
    "False",  "None",     "True",  "and",    "as",   "assert", "async",  "await",    "break",
    "class",  "continue", "def",   "del",    "elif", "else",   "except", "for",      "from",
    "global", "finally",  "if",    "import", "in",   "is",     "lambda", "nonlocal", "not",
    "or",     "pass",     "raise", "return", "self", "try",    "while",  "with",     "yield",
};

/* Types that stand in hints: a member of one of these names would be meant instead. */
static const char *const hint_words[] = { "bool", "float", "int", "list", "str" };

/* What the module has besides classes of the schema. */
static const char *const module_words[] = { "Any", "ClassVar", "Client", "TYPES", "Union" };

/* What a session has besides methods for commands. */
static const char *const session_words[] = { "close", "closed", "connect", "events", "execute", "greeting", "open" };

/* The underscores in front of "__RFQDN_" would make it private. */
static const char *identifier(struct arena *arena, const char *name)
{
    name += strspn(name, "_");
    char *copy = arena_printf(arena, "%s%s", isdigit((unsigned char)*name) ? "_" : "", name);
    for (char *p = copy; *p; p++)
        if (!isalnum((unsigned char)*p))
            *p = '_';
    bool keyword = names_contain(keywords, ARRAY_SIZE(keywords), copy);
    return keyword ? arena_printf(arena, "%s_", copy) : copy;
}

/* A member or parameter as Python has it: "node-name" is node_name, "class" is class_. */
static const char *python_name(struct arena *arena, const char *name)
{
    const char *plain = identifier(arena, name);
    bool taken = names_contain(hint_words, ARRAY_SIZE(hint_words), plain);
    return taken ? arena_printf(arena, "%s_", plain) : plain;
}

static const char *method_name(struct arena *arena, const char *name)
{
    const char *plain = python_name(arena, name);
    bool taken = names_contain(session_words, ARRAY_SIZE(session_words), plain);
    return taken ? arena_printf(arena, "%s_", plain) : plain;
}

static const char *class_name(struct arena *arena, const struct type *type)
{
    const char *plain = identifier(arena, type->name);
    bool taken = names_contain(module_words, ARRAY_SIZE(module_words), plain);
    return taken ? arena_printf(arena, "%s_", plain) : plain;
}

static const char *constant_name(struct arena *arena, const char *name)
{
    char *copy = arena_strdup(arena, identifier(arena, name));
    for (char *p = copy; *p; p++)
        *p = (char)toupper((unsigned char)*p);
    return copy;
}

/* "JOB_STATUS_CHANGE" is JobStatusChangeEvent. */
static const char *event_class(struct arena *arena, const char *name)
{
    name = identifier(arena, name);
    char *copy = arena_printf(arena, "%sEvent", name);
    char *to = copy;
    bool first = true;
    for (const char *from = copy; *from; from++) {
        bool in_suffix = strcmp(from, "Event") == 0 || (size_t)(from - copy) > strlen(name);
        if (*from == '_' || *from == '-') {
            first = true;
            continue;
        }
        *to++ = in_suffix ? *from : first ? (char)toupper((unsigned char)*from) : (char)tolower((unsigned char)*from);
        first = false;
    }
    *to = '\0';
    return copy;
}

static bool is_null(const struct type *type)
{
    return type->kind == TYPE_BUILTIN && type->builtin->kind == BUILTIN_NULL;
}

/* Whether null is a value, so that None cannot stand for an absent member. */
static bool takes_null(const struct type *type)
{
    for (size_t i = 0; type->kind == TYPE_ALTERNATE && i < type->branches.count; i++)
        if (is_null(type->branches.items[i].type))
            return true;
    return is_null(type) || (type->kind == TYPE_BUILTIN && type->builtin->kind == BUILTIN_ANY);
}

static const char *builtin_hint(const struct type *type)
{
    switch (type->builtin->kind) {
    case BUILTIN_STR:
        return "str";
    case BUILTIN_NUMBER:
        return "float";
    case BUILTIN_INT:
    case BUILTIN_SIZE:
        return "int";
    case BUILTIN_BOOL:
        return "bool";
    case BUILTIN_NULL:
        return "None";
    case BUILTIN_ANY:
        return "Any";
    }
    return "Any";
}

static const char *hint(struct arena *arena, const struct type *type)
{
    if (type->kind == TYPE_BUILTIN)
        return builtin_hint(type);
    if (type->kind == TYPE_ARRAY)
        return arena_printf(arena, "list[%s]", hint(arena, type->element));
    if (type->kind != TYPE_ALTERNATE || !type->implicit)
        return class_name(arena, type);
    const char *text = "";
    for (size_t i = 0; i < type->branches.count; i++)
        text = arena_printf(arena, "%s%s%s", text, i ? " | " : "", hint(arena, type->branches.items[i].type));
    return text;
}

static const char *member_hint(struct arena *arena, const struct member *member)
{
    const char *text = hint(arena, member->type);
    if (!member->optional)
        return text;
    return takes_null(member->type) ? arena_printf(arena, "%s | runtime.Absent = runtime.ABSENT", text)
                                    : arena_printf(arena, "%s | None = None", text);
}

/* A type as runtime.py names it. */
static const char *reference(struct arena *arena, const struct type *type)
{
    if (type->kind == TYPE_ARRAY)
        return arena_printf(arena, "[%s]", reference(arena, type->element));
    return arena_printf(arena, "\"%s\"", type->plain ? type->plain->name : type->name);
}

/* Words in lines of at most LINE_BYTES; what follows the first line is indented by @hanging more. */
static void put_wrapped(struct output *output, unsigned indentation, unsigned hanging, const char *text)
{
    size_t column = 0;
    while (*text) {
        size_t length = strcspn(text, " ");
        if (column && column + 1 + length > LINE_BYTES) {
            output_text(output, "\n");
            column = 0;
            indentation += hanging;
            hanging = 0;
        }
        output_printf(output, "%*s", column ? 1 : (int)indentation, "");
        column += (column ? 1 : indentation) + length;
        for (size_t i = 0; i < length; i++)
            output_printf(output, text[i] == '\\' || text[i] == '"' ? "\\%c" : "%c", text[i]);
        text += length + strspn(text + length, " ");
    }
    output_text(output, "\n");
}

/* The prose of a comment without its marks: one line per paragraph, without examples. */
static const char *plain(struct arena *arena, const char *line)
{
    struct output text = { .arena = arena };
    struct piece piece;
    while (markup_piece(arena, &line, &piece))
        output_text(&text, piece.text);
    return output_string(&text);
}

static void put_prose(struct output *output, unsigned indentation, const char *name, const char *text)
{
    struct blocks blocks = { 0 };
    markup_blocks(output->arena, text, &blocks);
    bool first = true;
    for (size_t i = 0; i < blocks.list.count; i++) {
        const struct block *block = &blocks.list.items[i];
        if (block->kind == BLOCK_EXAMPLE)
            continue;
        const char *line = plain(output->arena, block->text);
        if (name && first)
            line = arena_printf(output->arena, "%s: %s", name, line);
        else if (block->kind == BLOCK_ITEM)
            line = arena_printf(output->arena, "- %s", line);
        else if (!first)
            output_text(output, "\n");
        put_wrapped(output, indentation, name || block->kind == BLOCK_ITEM ? 4 : 0, line);
        first = false;
    }
}

/* @names turns names of members into those of Python; NULL: they stay. */
static void put_docstring(struct output *output, unsigned indentation, const struct doc *doc,
                          const char *(*names)(struct arena *arena, const char *name))
{
    if (!doc)
        return;
    output_printf(output, "%*s\"\"\"\n", (int)indentation, "");
    put_prose(output, indentation, NULL, doc->text);
    if (doc->members.count)
        output_text(output, "\n");
    for (size_t i = 0; i < doc->members.count; i++) {
        const struct doc_entry *entry = &doc->members.items[i];
        put_prose(output, indentation, names ? names(output->arena, entry->name) : entry->name, entry->text);
    }
    for (size_t i = 0; i < doc->sections.count; i++) {
        const struct doc_entry *entry = &doc->sections.items[i];
        if (!entry->name || (strcmp(entry->name, "Returns") != 0 && strcmp(entry->name, "Errors") != 0))
            continue;
        output_text(output, "\n");
        if (strcmp(entry->name, "Errors") == 0)
            output_printf(output, "%*sErrors:\n", (int)indentation, "");
        put_prose(output, indentation, strcmp(entry->name, "Errors") == 0 ? NULL : entry->name, entry->text);
    }
    output_printf(output, "%*s\"\"\"\n", (int)indentation, "");
}

static void put_enum(struct python *py, const struct type *type)
{
    output_printf(py->output, "\n\nclass %s(str, enum.Enum):\n", class_name(py->output->arena, type));
    put_docstring(py->output, 4, type->doc, constant_name);
    output_text(py->output, type->values.count ? "\n" : "    pass\n");
    for (size_t i = 0; i < type->values.count; i++)
        output_printf(py->output, "    %s = \"%s\"\n", constant_name(py->output->arena, type->values.items[i].name),
                      type->values.items[i].name);
}

static void put_table(struct python *py, const struct type *type, size_t first)
{
    struct arena *arena = py->output->arena;
    output_text(py->output, "    _members_: ClassVar = (");
    for (size_t i = first; i < type->members.count; i++) {
        const struct member *member = &type->members.items[i];
        output_printf(py->output, "\n        (\"%s\", \"%s\", %s, %s),", member->name, python_name(arena, member->name),
                      reference(arena, member->type), member->optional ? "True" : "False");
    }
    output_text(py->output, first < type->members.count ? "\n    )\n" : ")\n");
}

/* What is secret stays out of repr(), and so out of logs. */
static const char *field_hint(struct arena *arena, const struct member *member)
{
    const char *type = hint(arena, member->type);
    if (!member->secret)
        return member_hint(arena, member);
    if (!member->optional)
        return arena_printf(arena, "%s = field(repr=False)", type);
    return takes_null(member->type)
               ? arena_printf(arena, "%s | runtime.Absent = field(default=runtime.ABSENT, repr=False)", type)
               : arena_printf(arena, "%s | None = field(default=None, repr=False)", type);
}

static void put_fields(struct python *py, const struct type *type, size_t first)
{
    output_text(py->output, "\n");
    for (size_t i = first; i < type->members.count; i++)
        output_printf(py->output, "    %s: %s\n", python_name(py->output->arena, type->members.items[i].name),
                      field_hint(py->output->arena, &type->members.items[i]));
}

static void put_variants(struct python *py, const struct type *type, const char *class)
{
    struct arena *arena = py->output->arena;
    if (!type->discriminator)
        return;
    output_printf(py->output, "    _tag_: ClassVar = \"%s\"\n    _variants_: ClassVar = {", type->discriminator);
    for (size_t i = 0; i < type->branches.count; i++)
        output_printf(py->output, "\n        \"%s\": \"%s_%s\",", type->branches.items[i].name, class,
                      identifier(arena, type->branches.items[i].name));
    output_text(py->output, "\n    }\n");
}

/* The subclasses of a union; a branch may be a union itself. */
static void put_subclasses(struct python *py, const struct type *type, const char *class)
{
    struct arena *arena = py->output->arena;
    for (size_t i = 0; type->discriminator && i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        const struct member *tag = &type->members.items[type->tag];
        const char *name = arena_printf(arena, "%s_%s", class, identifier(arena, branch->name));
        output_printf(py->output, "\n\n@dataclass(kw_only=True)\nclass %s(%s):\n", name, class);
        output_printf(py->output,
                      "    \"\"\"%s with %s \"%s\".\"\"\"\n\n    %s: %s = field(default=%s.%s, init=False)\n",
                      type->name, tag->name, branch->name, python_name(arena, tag->name), hint(arena, tag->type),
                      hint(arena, tag->type), constant_name(arena, branch->name));
        put_fields(py, branch->type, 0);
        put_table(py, branch->type, 0);
        put_variants(py, branch->type, name);
        put_subclasses(py, branch->type, name);
    }
}

static bool inherits(const struct type *type)
{
    return type->base && !type->base->implicit && !type->base->discriminator;
}

static void put_object(struct python *py, const struct type *type)
{
    struct arena *arena = py->output->arena;
    size_t first = inherits(type) ? type->base->members.count : 0;
    output_printf(py->output, "\n\n@dataclass(kw_only=True)\nclass %s(%s):\n", class_name(arena, type),
                  inherits(type) ? class_name(arena, type->base) : "runtime.Struct");
    put_docstring(py->output, 4, type->doc, python_name);
    put_fields(py, type, first);
    put_table(py, type, first);
    put_variants(py, type, class_name(arena, type));
    put_subclasses(py, type, class_name(arena, type));
}

static void put_alternate(struct python *py, const struct type *type)
{
    output_printf(py->output, "\n\n%s = Union[", class_name(py->output->arena, type));
    for (size_t i = 0; i < type->branches.count; i++)
        output_printf(py->output, "%s\"%s\"", i ? ", " : "", hint(py->output->arena, type->branches.items[i].type));
    output_text(py->output, "]\n");
}

/* Depth first: a class comes after its base. Every object is put once. */
static void put_type(struct python *py, struct type *type)
{
    if (type->emitted || type->implicit)
        return;
    type->emitted = true;
    if (type->base)
        put_type(py, type->base);
    if (type->kind == TYPE_OBJECT)
        put_object(py, type);
    else if (type->kind == TYPE_ALTERNATE)
        put_alternate(py, type);
}

static void put_event(struct python *py, const struct event *event)
{
    struct arena *arena = py->output->arena;
    output_printf(py->output, "\n\n@dataclass(kw_only=True)\nclass %s(runtime.Event):\n",
                  event_class(arena, event->name));
    put_docstring(py->output, 4, event->doc, python_name);
    output_printf(py->output, "\n    _event_: ClassVar[str] = \"%s\"\n", event->name);
    if (!event->data) {
        output_text(py->output, "    _members_: ClassVar = ()\n");
        return;
    }
    if (event->data->discriminator) {
        output_printf(py->output, "    data: %s\n    _boxed_: ClassVar = \"%s\"\n    _members_: ClassVar = ()\n",
                      hint(arena, event->data), event->data->name);
        return;
    }
    put_fields(py, event->data, 0);
    put_table(py, event->data, 0);
}

static void put_error_classes(struct python *py, const struct type *type)
{
    const struct output *output = py->output;
    for (size_t i = 0; i < type->values.count; i++) {
        const char *name = identifier(output->arena, type->values.items[i].name);
        output_printf(py->output, "\n\nclass %s(runtime.CommandError):\n", name);
        const struct doc_entry *entry =
            type->doc ? doc_find(type->doc->members.items, type->doc->members.count, type->values.items[i].name) : NULL;
        output_printf(py->output, "    \"\"\"%s\"\"\"\n", entry ? plain(output->arena, entry->text) : name);
    }
}

static bool has_keywords(const struct command *command)
{
    return command->arguments && !type_is_empty(command->arguments) && !command->boxed;
}

/* "self, options: BlockdevOptions" or "self, *, node_name: str, size: int". */
static void put_parameters(struct python *py, const struct command *command)
{
    struct arena *arena = py->output->arena;
    const struct type *type = command->arguments;
    if (!type || type_is_empty(type))
        return;
    if (command->boxed) {
        output_printf(py->output, ", arguments: %s", hint(arena, type));
        return;
    }
    output_text(py->output, ", *,");
    for (size_t i = 0; i < type->members.count; i++)
        output_printf(py->output, "\n        %s: %s,", python_name(arena, type->members.items[i].name),
                      member_hint(arena, &type->members.items[i]));
}

static void put_argument(struct python *py, const struct member *member, bool first)
{
    bool none_is_absent = member->optional && !takes_null(member->type);
    output_printf(py->output, none_is_absent ? "%s(\"%s\", runtime.given(%s))" : "%s(\"%s\", %s)", first ? "" : ", ",
                  member->name, python_name(py->output->arena, member->name));
}

static void put_call(struct python *py, const struct command *command)
{
    const struct type *type = command->arguments;
    output_printf(py->output, "self.execute(\"%s\"", command->name);
    if (type && !type_is_empty(type) && command->boxed) {
        output_text(py->output, ", runtime.encode(arguments)");
    } else if (type && !type_is_empty(type)) {
        output_text(py->output, ", runtime.encode_members([");
        for (size_t i = 0; i < type->members.count; i++)
            put_argument(py, &type->members.items[i], i == 0);
        output_text(py->output, "])");
    }
    output_printf(py->output, "%s)", command->success_response ? "" : ", answered=False");
}

static void put_command(struct python *py, const struct command *command)
{
    struct arena *arena = py->output->arena;
    output_printf(py->output, "\n    async def %s(self", method_name(arena, command->name));
    put_parameters(py, command);
    output_printf(py->output, "%s) -> %s:\n", has_keywords(command) ? "\n    " : "",
                  command->returns ? hint(arena, command->returns) : "None");
    put_docstring(py->output, 8, command->doc, python_name);
    if (command->returns)
        output_printf(py->output, "        _reply: %s = runtime.decode(TYPES, %s, await ",
                      hint(arena, command->returns), reference(arena, command->returns));
    else
        output_text(py->output, "        await ");
    put_call(py, command);
    output_text(py->output, command->returns ? ")\n        return _reply\n" : "\n");
}

static bool is_listed(const struct type *type)
{
    return !type->implicit && (type->kind == TYPE_ENUM || type->kind == TYPE_OBJECT || type->kind == TYPE_ALTERNATE);
}

static const char *alternate_entry(struct arena *arena, const struct type *type)
{
    const char *text = "runtime.Alternate(";
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct type *branch = type->branches.items[i].type;
        const char *json = type_json_type(branch);
        text = arena_printf(arena, "%s%s%s_=%s", text, i ? ", " : "", json, reference(arena, branch));
    }
    return arena_printf(arena, "%s)", text);
}

static void put_subclass_entries(struct python *py, const struct type *type, const char *class)
{
    struct arena *arena = py->output->arena;
    for (size_t i = 0; type->discriminator && i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        const char *name = arena_printf(arena, "%s_%s", class, identifier(arena, branch->name));
        output_printf(py->output, "    \"%s\": %s,\n", name, name);
        put_subclass_entries(py, branch->type, name);
    }
}

static void put_registry(struct python *py)
{
    struct arena *arena = py->output->arena;
    output_text(py->output, "\n\nTYPES.update({\n");
    for (size_t i = 0; i < py->model->types.count; i++) {
        const struct type *type = py->model->types.items[i];
        if (type->kind == TYPE_ALTERNATE)
            output_printf(py->output, "    \"%s\": %s,\n", type->name, alternate_entry(arena, type));
        else if (is_listed(type))
            output_printf(py->output, "    \"%s\": %s,\n", type->name, class_name(arena, type));
        if (is_listed(type))
            put_subclass_entries(py, type, class_name(arena, type));
    }
    output_text(py->output, "})\n");
}

static void put_client(struct python *py, const struct type *error_classes)
{
    output_text(py->output,
                "\n\nclass Client(runtime.Session):\n"
                "    \"\"\"A session: one method per command. See runtime.Session for how to begin one.\"\"\"\n"
                "\n    _types_: ClassVar = TYPES\n    _errors_: ClassVar = {");
    for (size_t i = 0; error_classes && i < error_classes->values.count; i++)
        output_printf(py->output, "\n        \"%s\": %s,", error_classes->values.items[i].name,
                      identifier(py->output->arena, error_classes->values.items[i].name));
    output_text(py->output, "\n    }\n    _events_: ClassVar = {");
    for (size_t i = 0; i < py->model->entities.count; i++)
        if (py->model->entities.items[i].event)
            output_printf(py->output, "\n        \"%s\": %s,", py->model->entities.items[i].event->name,
                          event_class(py->output->arena, py->model->entities.items[i].event->name));
    output_text(py->output, "\n    }\n");
    for (size_t i = 0; i < py->model->entities.count; i++)
        if (py->model->entities.items[i].command)
            put_command(py, py->model->entities.items[i].command);
}

void write_python(struct output *output, const struct model *model, const struct backend_options *options)
{
    struct python py = { .output = output, .model = model };
    const struct type *error_classes = NULL;
    output_printf(output,
                  "\"\"\"What %s describes. Written by schemac: change that instead.\"\"\"\n\n"
                  "from __future__ import annotations\n\nimport enum\nfrom dataclasses import dataclass, field\n"
                  "from typing import Any, ClassVar, Union\n\nfrom . import runtime\n\nTYPES: dict[str, Any] = {}\n",
                  options->schema);
    /* Classes fix discriminators at values of enums, which come first. */
    for (size_t i = 0; i < model->types.count; i++) {
        struct type *type = model->types.items[i];
        type->emitted = type->kind == TYPE_ENUM;
        if (type->kind != TYPE_ENUM)
            continue;
        put_enum(&py, type);
        if (strcmp(type->name, "QapiErrorClass") == 0)
            error_classes = type;
    }
    for (size_t i = 0; i < model->types.count; i++)
        put_type(&py, model->types.items[i]);
    for (size_t i = 0; i < model->entities.count; i++)
        if (model->entities.items[i].event)
            put_event(&py, model->entities.items[i].event);
    if (error_classes)
        put_error_classes(&py, error_classes);
    put_registry(&py);
    put_client(&py, error_classes);
}
