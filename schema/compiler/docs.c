#include "schema/compiler/docs.h"
#include "schema/compiler/json_text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char *docs_name(const struct entity *entity)
{
    return entity->command ? entity->command->name : entity->event ? entity->event->name : entity->type->name;
}

enum docs_kind docs_kind(const struct entity *entity)
{
    return entity->command ? DOCS_COMMAND : entity->event ? DOCS_EVENT : DOCS_TYPE;
}

static const struct doc *doc_of(const struct entity *entity)
{
    return entity->command ? entity->command->doc : entity->event ? entity->event->doc : entity->type->doc;
}

static const struct condition *condition_of(const struct entity *entity)
{
    return entity->command ? entity->command->condition
           : entity->event ? entity->event->condition
                           : entity->type->condition;
}

static const struct features *features_of(const struct entity *entity)
{
    return entity->command ? &entity->command->features
           : entity->event ? &entity->event->features
                           : &entity->type->features;
}

const char *docs_anchor(struct arena *arena, const struct entity *entity)
{
    static const char *const kinds[] = { [DOCS_COMMAND] = "command", [DOCS_EVENT] = "event", [DOCS_TYPE] = "type" };
    return arena_printf(arena, "%s-%s", kinds[docs_kind(entity)], docs_name(entity));
}

const char *docs_title(const struct docs *docs)
{
    const char *dot = strrchr(docs->options->schema, '.');
    size_t length = dot ? (size_t)(dot - docs->options->schema) : strlen(docs->options->schema);
    return arena_strndup(docs->output->arena, docs->options->schema, length);
}

static const struct entity *find_entity(const struct docs *docs, const char *name)
{
    for (size_t i = 0; i < docs->model->entities.count; i++)
        if (strcmp(docs_name(&docs->model->entities.items[i]), name) == 0)
            return &docs->model->entities.items[i];
    return NULL;
}

static int compare_names(const void *a, const void *b)
{
    const struct entity *const *left = a, *const *right = b;
    return strcasecmp(docs_name(*left), docs_name(*right));
}

const struct entity **docs_sorted(const struct docs *docs, enum docs_kind kind, size_t *count)
{
    const struct entity **list =
        arena_array(docs->output->arena, docs->model->entities.count + 1, sizeof(const struct entity *));
    *count = 0;
    for (size_t i = 0; i < docs->model->entities.count; i++)
        if (docs_kind(&docs->model->entities.items[i]) == kind)
            list[(*count)++] = &docs->model->entities.items[i];
    qsort(list, *count, sizeof(const struct entity *), compare_names);
    return list;
}

static void begin_paragraph(struct docs *docs)
{
    docs->format->paragraph_begin(docs);
}

static void end_paragraph(struct docs *docs)
{
    docs->format->paragraph_end(docs);
    docs->row_has_text = true;
}

static void begin_row_text(struct docs *docs)
{
    docs->format->row_text(docs);
    docs->in_row = true;
    docs->row_has_text = false;
}

static void end_row(struct docs *docs)
{
    docs->format->row_end(docs);
    docs->in_row = false;
}

static void put(struct docs *docs, enum docs_style style, const char *text)
{
    docs->format->piece(docs, style, text, NULL);
}

/* Whether a word of prose can only mean a definition: "quit" and "file" may mean anything. */
static bool looks_defined(const char *word)
{
    bool inner_capital = false;
    for (const char *p = word; *p; p++) {
        if (*p == '_' || (*p == '-' && p != word))
            return true;
        inner_capital = inner_capital || (p != word && isupper((unsigned char)*p));
    }
    return inner_capital;
}

static void put_name(struct docs *docs, const char *name)
{
    const struct entity *entity = looks_defined(name) ? find_entity(docs, name) : NULL;
    docs->format->piece(docs, entity ? DOCS_LINK : DOCS_PLAIN, name,
                        entity ? docs_anchor(docs->output->arena, entity) : NULL);
}

static void put_line(struct docs *docs, const char *text)
{
    struct piece piece;
    while (markup_piece(docs->output->arena, &text, &piece)) {
        if (piece.kind == PIECE_NAME)
            put_name(docs, piece.text);
        else
            put(docs, piece.kind == PIECE_CODE ? DOCS_CODE : DOCS_PLAIN, piece.text);
    }
}

static void set_list(struct docs *docs, bool wanted)
{
    if (wanted && !docs->in_list)
        docs->format->list_begin(docs);
    else if (!wanted && docs->in_list)
        docs->format->list_end(docs);
    docs->in_list = wanted;
}

/* From the block number @first on. Examples are shown together at the end, not where they stand. */
static void put_blocks(struct docs *docs, const struct blocks *blocks, size_t first)
{
    for (size_t i = first; i < blocks->list.count; i++) {
        const struct block *block = &blocks->list.items[i];
        if (block->kind == BLOCK_EXAMPLE)
            continue;
        bool item = block->kind == BLOCK_ITEM;
        set_list(docs, item);
        (item ? docs->format->item_begin : begin_paragraph)(docs);
        put_line(docs, block->text);
        (item ? docs->format->item_end : end_paragraph)(docs);
    }
    set_list(docs, false);
}

void docs_prose(struct docs *docs, const char *text)
{
    struct blocks blocks = { 0 };
    markup_blocks(docs->output->arena, text, &blocks);
    put_blocks(docs, &blocks, 0);
}

const char *docs_summary(struct arena *arena, const struct entity *entity)
{
    const struct doc *doc = doc_of(entity);
    if (!doc)
        return "";
    struct blocks blocks = { 0 };
    markup_blocks(arena, doc->text, &blocks);
    if (!blocks.list.count || blocks.list.items[0].kind != BLOCK_PARAGRAPH)
        return "";
    const char *text = blocks.list.items[0].text;
    const char *end = strstr(text, ". ");
    size_t length = end ? (size_t)(end - text) : strlen(text);
    if (length && text[length - 1] == '.')
        length--;
    return arena_strndup(arena, text, length);
}

static void put_type(struct docs *docs, const struct type *type)
{
    while (type->kind == TYPE_ARRAY) {
        put(docs, DOCS_PLAIN, "array of ");
        type = type->element;
    }
    if (type->kind == TYPE_ALTERNATE && type->implicit) {
        for (size_t i = 0; i < type->branches.count; i++) {
            put(docs, DOCS_PLAIN, i ? " or " : "");
            put_type(docs, type->branches.items[i].type);
        }
        return;
    }
    const struct entity *entity = find_entity(docs, type->name);
    docs->format->piece(docs, entity ? DOCS_LINK : DOCS_CODE, type->name,
                        entity ? docs_anchor(docs->output->arena, entity) : NULL);
}

static void put_condition_words(struct output *output, const struct condition *condition)
{
    const char *between = condition->kind == CONDITION_ALL ? " and " : " or ";
    if (condition->kind == CONDITION_NAME) {
        output_text(output, condition->name);
        return;
    }
    output_text(output, condition->kind == CONDITION_NOT ? "not " : "(");
    for (size_t i = 0; i < condition->operands.count; i++) {
        output_text(output, i ? between : "");
        put_condition_words(output, condition->operands.items[i]);
    }
    output_text(output, condition->kind == CONDITION_NOT ? "" : ")");
}

static const char *condition_words(struct arena *arena, const struct condition *condition)
{
    struct output output = { .arena = arena };
    put_condition_words(&output, condition);
    return output_string(&output);
}

static void put_condition(struct docs *docs, const struct condition *condition)
{
    if (condition)
        put(docs, DOCS_NOTE,
            arena_printf(docs->output->arena, "if %s", condition_words(docs->output->arena, condition)));
}

static void put_marks(struct docs *docs, const struct features *features)
{
    for (size_t i = 0; i < features->list.count; i++)
        put(docs, DOCS_NOTE, features->list.items[i].name);
}

static void put_constraints(struct docs *docs, const struct constraints *constraints)
{
    struct arena *arena = docs->output->arena;
    if (!constraints)
        return;
    if (constraints->has_minimum && constraints->has_maximum)
        put(docs, DOCS_NOTE,
            arena_printf(arena, "%s to %s", number_text(arena, &constraints->minimum),
                         number_text(arena, &constraints->maximum)));
    else if (constraints->has_minimum)
        put(docs, DOCS_NOTE, arena_printf(arena, "at least %s", number_text(arena, &constraints->minimum)));
    else if (constraints->has_maximum)
        put(docs, DOCS_NOTE, arena_printf(arena, "at most %s", number_text(arena, &constraints->maximum)));
    if (constraints->multiple_of)
        put(docs, DOCS_NOTE, arena_printf(arena, "a multiple of %" PRIu64, constraints->multiple_of));
    if (constraints->min_length)
        put(docs, DOCS_NOTE, arena_printf(arena, "at least %u bytes", constraints->min_length));
    if (constraints->max_length && constraints->max_length != UINT32_MAX)
        put(docs, DOCS_NOTE, arena_printf(arena, "at most %u bytes", constraints->max_length));
    if (constraints->pattern)
        put(docs, DOCS_NOTE, arena_printf(arena, "like %s", constraints->pattern->text));
}

static const char *entry_text(const struct doc *doc, const char *name)
{
    const struct doc_entry *entry = doc ? doc_find(doc->members.items, doc->members.count, name) : NULL;
    return entry ? entry->text : "";
}

static void member_row(struct docs *docs, const struct member *member, const struct doc *doc)
{
    docs->format->row_name(docs, member->name);
    put(docs, DOCS_PLAIN, " ");
    put_type(docs, member->type);
    if (member->optional)
        put(docs, DOCS_NOTE, "optional");
    if (member->default_value && !strstr(entry_text(doc, member->name), "(default: ")) {
        struct output text = { .arena = docs->output->arena };
        output_json_literal(&text, member->type, member->default_value);
        put(docs, DOCS_NOTE, arena_printf(docs->output->arena, "default %.*s", (int)text.text.count, text.text.items));
    }
    put_constraints(docs, member->constraints);
    if (member->secret)
        put(docs, DOCS_NOTE, "secret");
    put_marks(docs, &member->features);
    put_condition(docs, member->condition);
    begin_row_text(docs);
    docs_prose(docs, entry_text(doc, member->name));
    end_row(docs);
}

/* Members of the definition itself; those of a base are named, not repeated. */
static void put_members(struct docs *docs, const struct type *type, const struct doc *doc, const char *title)
{
    size_t inherited = type->base && !type->base->implicit ? type->base->members.count : 0;
    if (type->members.count > inherited) {
        docs->format->heading(docs, title);
        docs->format->table_begin(docs);
        for (size_t i = inherited; i < type->members.count; i++)
            member_row(docs, &type->members.items[i], doc);
        docs->format->table_end(docs);
    }
    if (!inherited)
        return;
    begin_paragraph(docs);
    put(docs, DOCS_PLAIN, type->members.count > inherited ? "And the members of " : "The members of ");
    put_type(docs, type->base);
    put(docs, DOCS_PLAIN, ".");
    end_paragraph(docs);
}

static void put_branches(struct docs *docs, const struct type *type, const struct doc *doc)
{
    bool alternate = type->kind == TYPE_ALTERNATE;
    if (!type->branches.count)
        return;
    docs->format->heading(
        docs, alternate ? "One of" : arena_printf(docs->output->arena, "Further members, by %s", type->discriminator));
    docs->format->table_begin(docs);
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        if (branch->type == docs->model->empty)
            continue;
        docs->format->row_name(docs, branch->name);
        put_condition(docs, branch->condition);
        if (alternate) {
            put(docs, DOCS_PLAIN, " ");
            put_type(docs, branch->type);
        }
        begin_row_text(docs);
        if (alternate) {
            docs_prose(docs, entry_text(doc, branch->name));
        } else {
            begin_paragraph(docs);
            put(docs, DOCS_PLAIN, "the members of ");
            put_type(docs, branch->type);
            end_paragraph(docs);
        }
        end_row(docs);
    }
    docs->format->table_end(docs);
}

static void put_values(struct docs *docs, const struct type *type)
{
    docs->format->heading(docs, "Values");
    docs->format->table_begin(docs);
    for (size_t i = 0; i < type->values.count; i++) {
        const struct enum_value *value = &type->values.items[i];
        docs->format->row_name(docs, value->name);
        put_marks(docs, &value->features);
        put_condition(docs, value->condition);
        begin_row_text(docs);
        docs_prose(docs, entry_text(type->doc, value->name));
        end_row(docs);
    }
    docs->format->table_end(docs);
}

static void put_payload(struct docs *docs, const struct type *type, const struct doc *doc, const char *title)
{
    if (!type || type_is_empty(type))
        return;
    if (type->implicit) {
        put_members(docs, type, doc, title);
        return;
    }
    docs->format->heading(docs, title);
    begin_paragraph(docs);
    put(docs, DOCS_PLAIN, "The members of ");
    put_type(docs, type);
    put(docs, DOCS_PLAIN, ".");
    end_paragraph(docs);
}

/* The type, and in the same paragraph what the text begins with. */
static void put_returns(struct docs *docs, const struct command *command)
{
    const struct doc *doc = command->doc;
    const struct doc_entry *entry = doc ? doc_find(doc->sections.items, doc->sections.count, "Returns") : NULL;
    struct blocks blocks = { 0 };
    if (!command->returns && !entry)
        return;
    docs->format->heading(docs, "Returns");
    if (entry)
        markup_blocks(docs->output->arena, entry->text, &blocks);
    bool joined = command->returns && blocks.list.count && blocks.list.items[0].kind == BLOCK_PARAGRAPH;
    if (command->returns) {
        begin_paragraph(docs);
        put_type(docs, command->returns);
        if (joined) {
            put(docs, DOCS_PLAIN, ": ");
            put_line(docs, blocks.list.items[0].text);
        }
        end_paragraph(docs);
    }
    put_blocks(docs, &blocks, joined ? 1 : 0);
}

/* The classes that a command declares; the section about errors says when. */
static void put_error_classes(struct docs *docs, const struct command *command)
{
    if (!command->errors_declared)
        return;
    begin_paragraph(docs);
    put(docs, DOCS_PLAIN, "Fails with ");
    for (size_t i = 0; i < command->errors.count; i++) {
        put(docs, DOCS_PLAIN, i == 0 ? "" : i + 1 == command->errors.count ? " or " : ", ");
        put(docs, DOCS_CODE, command->errors.items[i].name);
    }
    put(docs, DOCS_PLAIN, command->errors.count ? "." : "nothing.");
    end_paragraph(docs);
}

static void put_sections(struct docs *docs, const struct doc *doc)
{
    for (size_t i = 0; i < doc->sections.count; i++) {
        const struct doc_entry *section = &doc->sections.items[i];
        struct blocks blocks = { 0 };
        markup_blocks(docs->output->arena, section->text, &blocks);
        bool prose = false;
        for (size_t k = 0; k < blocks.list.count; k++)
            prose = prose || blocks.list.items[k].kind != BLOCK_EXAMPLE;
        const char *name = section->name ? section->name : "";
        if (!prose || strcmp(name, "Returns") == 0 || strcmp(name, "TODO") == 0)
            continue;
        if (*name)
            docs->format->heading(docs, name);
        docs_prose(docs, section->text);
    }
}

static void put_features(struct docs *docs, const struct doc *doc)
{
    if (!doc->features.count)
        return;
    docs->format->heading(docs, "Features");
    docs->format->table_begin(docs);
    for (size_t i = 0; i < doc->features.count; i++) {
        docs->format->row_name(docs, doc->features.items[i].name);
        begin_row_text(docs);
        docs_prose(docs, doc->features.items[i].text);
        end_row(docs);
    }
    docs->format->table_end(docs);
}

static void put_examples(struct docs *docs, const struct doc *doc)
{
    struct blocks examples = { 0 };
    markup_examples(docs->output->arena, doc, &examples);
    if (!examples.list.count)
        return;
    docs->format->heading(docs, examples.list.count > 1 ? "Examples" : "Example");
    for (size_t i = 0; i < examples.list.count; i++)
        docs->format->example(docs, examples.list.items[i].title, examples.list.items[i].text);
}

static const char *kind_words(const struct entity *entity)
{
    if (entity->command)
        return "command";
    if (entity->event)
        return "event";
    switch (entity->type->kind) {
    case TYPE_ENUM:
        return "enumeration";
    case TYPE_ALTERNATE:
        return "alternate";
    case TYPE_BUILTIN:
        return "scalar";
    default:
        return entity->type->discriminator ? "union" : "struct";
    }
}

static const char *join(struct arena *arena, const char *list, const char *word)
{
    return arena_printf(arena, "%s%s%s", list, *list ? ", " : "", word);
}

static const char *marks_of(struct docs *docs, const struct entity *entity)
{
    static const char *const roles[] = {
        [ROLE_READ] = "role read", [ROLE_OPERATE] = "role operate", [ROLE_ADMIN] = "role admin"
    };
    struct arena *arena = docs->output->arena;
    const struct features *features = features_of(entity);
    const char *marks = "";
    for (size_t i = 0; i < features->list.count; i++)
        marks = join(arena, marks, features->list.items[i].name);
    if (entity->command && entity->command->allow_oob)
        marks = join(arena, marks, "out of band");
    if (entity->command && docs_has_roles(docs))
        marks = join(arena, marks, roles[entity->command->role]);
    if (entity->event && entity->event->rate_limit_ms)
        marks = join(arena, marks, arena_printf(arena, "at most one in %u ms", entity->event->rate_limit_ms));
    if (condition_of(entity))
        marks = join(arena, marks, arena_printf(arena, "if %s", condition_words(arena, condition_of(entity))));
    return marks;
}

static void put_scalar(struct docs *docs, const struct type *type)
{
    begin_paragraph(docs);
    put_type(docs, type->plain);
    put_constraints(docs, type->constraints);
    end_paragraph(docs);
}

static void put_type_body(struct docs *docs, const struct type *type)
{
    if (type->kind == TYPE_ENUM)
        put_values(docs, type);
    if (type->kind == TYPE_OBJECT)
        put_members(docs, type, type->doc, "Members");
    if (type->kind == TYPE_OBJECT || type->kind == TYPE_ALTERNATE)
        put_branches(docs, type, type->doc);
    if (type->plain)
        put_scalar(docs, type);
}

/* Where a type is used: the way back from it to the commands. */
static void put_uses(struct docs *docs, const struct type *type)
{
    bool any = false;
    for (size_t i = 0; i < docs->model->entities.count; i++) {
        const struct entity *entity = &docs->model->entities.items[i];
        if (!docs_uses(entity, type))
            continue;
        if (!any)
            begin_paragraph(docs);
        put(docs, DOCS_PLAIN, any ? ", " : "Used by ");
        docs->format->piece(docs, DOCS_LINK, docs_name(entity), docs_anchor(docs->output->arena, entity));
        any = true;
    }
    if (any) {
        put(docs, DOCS_PLAIN, ".");
        end_paragraph(docs);
    }
}

static void put_entity(struct docs *docs, const struct entity *entity)
{
    const struct doc *doc = doc_of(entity);
    docs->format->entity_begin(docs, entity, kind_words(entity), marks_of(docs, entity));
    if (doc)
        docs_prose(docs, doc->text);
    if (entity->command)
        put_payload(docs, entity->command->arguments, doc, "Arguments");
    if (entity->event)
        put_payload(docs, entity->event->data, doc, "Data");
    if (entity->type)
        put_type_body(docs, entity->type);
    if (entity->command)
        put_returns(docs, entity->command);
    if (doc)
        put_sections(docs, doc);
    if (entity->command)
        put_error_classes(docs, entity->command);
    if (doc) {
        put_features(docs, doc);
        put_examples(docs, doc);
    }
    if (entity->type)
        put_uses(docs, entity->type);
    docs->format->entity_end(docs);
}

static void put_chapter(struct docs *docs, enum docs_kind kind, const char *title)
{
    size_t count;
    const struct entity **list = docs_sorted(docs, kind, &count);
    if (!count)
        return;
    docs->format->chapter(docs, title);
    for (size_t i = 0; i < count; i++)
        put_entity(docs, list[i]);
}

void docs_write(struct output *output, const struct model *model, const struct backend_options *options,
                const struct docs_format *format)
{
    struct docs docs = { .output = output, .model = model, .options = options, .format = format };
    format->begin(&docs);
    docs_put_roles(&docs);
    put_chapter(&docs, DOCS_COMMAND, "Commands");
    put_chapter(&docs, DOCS_EVENT, "Events");
    put_chapter(&docs, DOCS_TYPE, "Types");
    format->end(&docs);
}
