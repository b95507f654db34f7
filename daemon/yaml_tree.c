#include "daemon/yaml_tree.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/hash.h"
#include "blockcore/base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* Where a value stands; values inside it are its children. */
struct place {
    const char *part; /* of the path: a key or an index */
    struct yaml_place value;
    struct yaml_place key; /* the place of the value itself in an array */
    struct place *first;
    struct place *last;
    struct place *next; /* of the same parent */
};

struct anchor {
    struct hash_link by_name;
    json_t *value;
    size_t values;   /* in it, itself included */
    size_t bytes;    /* of the texts in it */
    unsigned height; /* levels below it */
};

struct yaml_tree {
    json_t *root;
    struct place *places;
    struct arena arena; /* of places, anchors and their names */
};

struct loader {
    const char *name;
    yaml_parser_t parser;
    struct yaml_tree *tree;
    variable_look_up *look_up;
    struct hash anchors;
    size_t values;
    size_t bytes;     /* of texts, with what variables put in and aliases repeat */
    unsigned deepest; /* level of any value inside the one being loaded */
};

static struct yaml_place place_of(const yaml_mark_t *mark)
{
    return (struct yaml_place){ .line = mark->line + 1, .column = mark->column + 1 };
}

static struct error *PRINTF_LIKE(3, 4)
    fail_at(const struct loader *loader, struct yaml_place place, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    CLEANUP(free) char *message = NULL;
    if (vasprintf(&message, format, args) < 0)
        message = xstrdup("no memory");
    va_end(args);
    return error_new("%s:%zu:%zu: %s", loader->name, place.line, place.column, message);
}

static struct error *next_event(struct loader *loader, yaml_event_t *event)
{
    if (yaml_parser_parse(&loader->parser, event))
        return NULL;
    const yaml_parser_t *parser = &loader->parser;
    struct yaml_place place = place_of(&parser->problem_mark);
    const char *problem = parser->problem ? parser->problem : "no memory";
    if (parser->error == YAML_READER_ERROR)
        return error_new("%s: byte %zu: %s", loader->name, parser->problem_offset, problem);
    if (parser->context)
        return fail_at(loader, place, "%s %s", problem, parser->context);
    return fail_at(loader, place, "%s", problem);
}

static struct place *add_place(struct loader *loader, struct place *parent, const char *part, struct yaml_place key)
{
    struct place *place = arena_alloc(&loader->tree->arena, sizeof(*place));
    *place = (struct place){ .part = arena_strdup(&loader->tree->arena, part), .key = key, .value = key };
    *(parent->last ? &parent->last->next : &parent->first) = place;
    parent->last = place;
    return place;
}

static struct error *count_values(struct loader *loader, size_t count, struct yaml_place place)
{
    if (count > YAML_VALUES_MAX - loader->values)
        return fail_at(loader, place, "more than %d values, those that aliases repeat included", YAML_VALUES_MAX);
    loader->values += count;
    return NULL;
}

static struct error *count_bytes(struct loader *loader, size_t count, struct yaml_place place)
{
    if (count > YAML_BYTES_MAX - loader->bytes)
        return fail_at(loader, place, "the texts are longer than %d bytes, what variables and aliases add included",
                       YAML_BYTES_MAX);
    loader->bytes += count;
    return NULL;
}

static struct error *check_depth(struct loader *loader, unsigned depth, struct yaml_place place)
{
    if (depth > YAML_DEPTH_MAX)
        return fail_at(loader, place, "nested deeper than %d levels, those that aliases repeat included",
                       YAML_DEPTH_MAX);
    if (depth > loader->deepest)
        loader->deepest = depth;
    return NULL;
}

static struct error *load_value(struct loader *loader, struct place *place, unsigned depth, yaml_event_t *event,
                                json_t **out);

/* Scalars and aliases ----------------------------------------------------------------------------------------- */

static bool is_null(const yaml_event_t *event)
{
    static const char *const nulls[] = { "", "~", "null", "Null", "NULL" };
    if (event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(nulls); i++) {
        if (strcmp((const char *)event->data.scalar.value, nulls[i]) == 0)
            return true;
    }
    return false;
}

/* *@text: to be freed; NULL where there is nothing to be put in. */
static struct error *put_variables_in(struct loader *loader, const yaml_event_t *event, char **text)
{
    struct yaml_place place = place_of(&event->start_mark);
    *text = NULL;
    if (!loader->look_up || event->data.scalar.style == YAML_SINGLE_QUOTED_SCALAR_STYLE)
        return NULL;
    struct error *err =
        variables_expand((const char *)event->data.scalar.value, event->data.scalar.length, loader->look_up, text);
    return error_wrap(err, "%s:%zu:%zu", loader->name, place.line, place.column);
}

static struct error *load_scalar(struct loader *loader, const yaml_event_t *event, json_t **out)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    if (memchr(text, '\0', length))
        return fail_at(loader, place_of(&event->start_mark), "the text contains a zero byte");
    CLEANUP(free) char *with_variables = NULL;
    struct error *err = put_variables_in(loader, event, &with_variables);
    if (!err)
        err = count_bytes(loader, with_variables ? strlen(with_variables) : length, place_of(&event->start_mark));
    if (err)
        return err;
    if (with_variables)
        *out = json_string(with_variables);
    else
        *out = is_null(event) ? json_null() : json_stringn(text, length);
    return *out ? NULL : fail_at(loader, place_of(&event->start_mark), "the text is not valid UTF-8");
}

static struct error *load_alias(struct loader *loader, unsigned depth, const yaml_event_t *event, json_t **out)
{
    const char *name = (const char *)event->data.alias.anchor;
    struct hash_link *link = hash_find_string(&loader->anchors, name);
    if (!link)
        return fail_at(loader, place_of(&event->start_mark), "no value has the anchor '%.64s'", name);
    const struct anchor *anchor = hash_entry(link, struct anchor, by_name);
    struct error *err = count_values(loader, anchor->values - 1, place_of(&event->start_mark));
    if (!err)
        err = count_bytes(loader, anchor->bytes, place_of(&event->start_mark));
    if (!err)
        err = check_depth(loader, depth + anchor->height, place_of(&event->start_mark));
    if (!err)
        *out = json_incref(anchor->value);
    return err;
}

/* A later anchor of the same name takes over (YAML 1.2.2, section 3.2.2.2). */
static void remember_anchor(struct loader *loader, const yaml_char_t *name, json_t *value, size_t values, size_t bytes,
                            unsigned height)
{
    struct hash_link *link = hash_find_string(&loader->anchors, (const char *)name);
    struct anchor *anchor;
    if (link) {
        anchor = hash_entry(link, struct anchor, by_name);
        json_decref(anchor->value);
    } else {
        anchor = arena_alloc(&loader->tree->arena, sizeof(*anchor));
        hash_insert_string(&loader->anchors, &anchor->by_name, arena_strdup(&loader->tree->arena, (const char *)name));
    }
    anchor->value = json_incref(value);
    anchor->values = values;
    anchor->bytes = bytes;
    anchor->height = height;
}

/* Containers -------------------------------------------------------------------------------------------------- */

static struct error *load_key(struct loader *loader, const json_t *object, const yaml_event_t *event)
{
    struct yaml_place place = place_of(&event->start_mark);
    if (event->type != YAML_SCALAR_EVENT)
        return fail_at(loader, place, "a key must be a string");
    const char *key = (const char *)event->data.scalar.value;
    if (strlen(key) != event->data.scalar.length)
        return fail_at(loader, place, "the key contains a zero byte");
    if (json_object_get(object, key))
        return fail_at(loader, place, "the key '%.64s' is given twice", key);
    return NULL;
}

static struct error *load_member(struct loader *loader, struct place *parent, unsigned depth, json_t *object,
                                 yaml_event_t *key_event)
{
    struct error *err = load_key(loader, object, key_event);
    if (err)
        return err;
    const char *key = (const char *)key_event->data.scalar.value;
    struct place *place = add_place(loader, parent, key, place_of(&key_event->start_mark));
    yaml_event_t event;
    err = next_event(loader, &event);
    if (err)
        return err;
    json_t *value = NULL;
    err = load_value(loader, place, depth, &event, &value);
    yaml_event_delete(&event);
    if (err)
        return err;
    if (json_object_set_new(object, key, value) < 0)
        return fail_at(loader, place->key, "the key is not valid UTF-8");
    return NULL;
}

static struct error *load_element(struct loader *loader, struct place *parent, unsigned depth, json_t *array,
                                  yaml_event_t *event)
{
    char index[24];
    snprintf(index, sizeof(index), "%zu", json_array_size(array));
    struct place *place = add_place(loader, parent, index, place_of(&event->start_mark));
    json_t *value = NULL;
    struct error *err = load_value(loader, place, depth, event, &value);
    if (!err)
        json_array_append_new(array, value);
    return err;
}

static struct error *load_container(struct loader *loader, struct place *place, unsigned depth, yaml_event_type_t end,
                                    json_t *container)
{
    for (;;) {
        yaml_event_t event;
        struct error *err = next_event(loader, &event);
        if (err)
            return err;
        bool over = event.type == end;
        if (!over && end == YAML_MAPPING_END_EVENT)
            err = load_member(loader, place, depth + 1, container, &event);
        else if (!over)
            err = load_element(loader, place, depth + 1, container, &event);
        yaml_event_delete(&event);
        if (over || err)
            return err;
    }
}

/* The anchor and the tag of a value, whatever its kind. */
static void properties_of(const yaml_event_t *event, const yaml_char_t **anchor, const yaml_char_t **tag)
{
    *anchor = NULL;
    *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        *anchor = event->data.scalar.anchor;
        *tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        *anchor = event->data.sequence_start.anchor;
        *tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        *anchor = event->data.mapping_start.anchor;
        *tag = event->data.mapping_start.tag;
    }
}

static struct error *load_by_kind(struct loader *loader, struct place *place, unsigned depth, const yaml_event_t *event,
                                  json_t **out)
{
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return load_alias(loader, depth, event, out);
    case YAML_SCALAR_EVENT:
        return load_scalar(loader, event, out);
    case YAML_SEQUENCE_START_EVENT:
        *out = json_array();
        return load_container(loader, place, depth, YAML_SEQUENCE_END_EVENT, *out);
    case YAML_MAPPING_START_EVENT:
        *out = json_object();
        return load_container(loader, place, depth, YAML_MAPPING_END_EVENT, *out);
    default:
        return fail_at(loader, place_of(&event->start_mark), "a value is missing");
    }
}

/* The value that begins with @event. What was loaded until an error is dropped here. */
static struct error *load_value(struct loader *loader, struct place *place, unsigned depth, yaml_event_t *event,
                                json_t **out)
{
    const yaml_char_t *anchor;
    const yaml_char_t *tag;
    place->value = place_of(&event->start_mark);
    properties_of(event, &anchor, &tag);
    if (tag)
        return fail_at(loader, place->value, "tags such as '%.64s' are not supported", (const char *)tag);

    size_t values_before = loader->values;
    size_t bytes_before = loader->bytes;
    unsigned deepest_before = loader->deepest;
    loader->deepest = 0;
    struct error *err = count_values(loader, 1, place->value);
    if (!err)
        err = check_depth(loader, depth, place->value);
    if (!err)
        err = load_by_kind(loader, place, depth, event, out);
    if (err) {
        json_decref(*out);
        *out = NULL;
        return err;
    }
    if (anchor)
        remember_anchor(loader, anchor, *out, loader->values - values_before, loader->bytes - bytes_before,
                        loader->deepest - depth);
    if (deepest_before > loader->deepest)
        loader->deepest = deepest_before;
    return NULL;
}

/* The file ---------------------------------------------------------------------------------------------------- */

static struct error *expect_event(struct loader *loader, yaml_event_type_t type, const char *otherwise)
{
    yaml_event_t event;
    struct error *err = next_event(loader, &event);
    if (err)
        return err;
    if (event.type != type)
        err = fail_at(loader, place_of(&event.start_mark), "%s", otherwise);
    yaml_event_delete(&event);
    return err;
}

static struct error *load_document(struct loader *loader)
{
    yaml_event_t event;
    struct error *err = next_event(loader, &event);
    if (err)
        return err;
    err = load_value(loader, loader->tree->places, 0, &event, &loader->tree->root);
    yaml_event_delete(&event);
    if (!err)
        err = expect_event(loader, YAML_DOCUMENT_END_EVENT, "the document does not end here");
    if (!err)
        err = expect_event(loader, YAML_STREAM_END_EVENT, "a file has one document only");
    return err;
}

static struct error *load_stream(struct loader *loader)
{
    struct error *err = expect_event(loader, YAML_STREAM_START_EVENT, "the stream does not begin here");
    if (err)
        return err;
    yaml_event_t event;
    err = next_event(loader, &event);
    if (err)
        return err;
    bool empty = event.type == YAML_STREAM_END_EVENT;
    yaml_event_delete(&event);
    return empty ? NULL : load_document(loader);
}

static void free_anchors(struct loader *loader)
{
    struct hash_link *link = NULL;
    while ((link = hash_next(&loader->anchors, link)))
        json_decref(hash_entry(link, struct anchor, by_name)->value);
    hash_fini(&loader->anchors);
}

struct error *yaml_tree_parse(const char *name, const char *text, size_t length, variable_look_up *look_up,
                              struct yaml_tree **out)
{
    if (length > YAML_BYTES_MAX)
        return error_new("%s: larger than %d bytes", name, YAML_BYTES_MAX);
    struct yaml_tree *tree = xcalloc(1, sizeof(*tree));
    struct loader loader = { .name = name, .tree = tree, .look_up = look_up };
    arena_init(&tree->arena, SIZE_MAX);
    tree->places = arena_alloc(&tree->arena, sizeof(*tree->places));
    tree->places->value = tree->places->key = (struct yaml_place){ .line = 1, .column = 1 };
    hash_init(&loader.anchors);
    if (!yaml_parser_initialize(&loader.parser)) {
        yaml_tree_destroy(tree);
        return error_new("%s: no memory for a parser", name);
    }
    yaml_parser_set_input_string(&loader.parser, (const unsigned char *)text, length);
    struct error *err = load_stream(&loader);
    yaml_parser_delete(&loader.parser);
    free_anchors(&loader);
    if (err) {
        yaml_tree_destroy(tree);
        return err;
    }
    if (!tree->root || json_is_null(tree->root)) {
        json_decref(tree->root);
        tree->root = json_object();
    }
    *out = tree;
    return NULL;
}

void yaml_tree_destroy(struct yaml_tree *tree)
{
    if (!tree)
        return;
    json_decref(tree->root);
    arena_fini(&tree->arena);
    free(tree);
}

void yaml_tree_drop_values(struct yaml_tree *tree)
{
    json_decref(tree->root);
    tree->root = NULL;
}

const json_t *yaml_tree_root(const struct yaml_tree *tree)
{
    return tree->root;
}

static const struct place *find_child(const struct place *parent, const char *part, size_t length)
{
    const struct place *child = parent->first;
    while (child && (strncmp(child->part, part, length) != 0 || child->part[length] != '\0'))
        child = child->next;
    return child;
}

struct yaml_place yaml_tree_find(const struct yaml_tree *tree, const char *path, bool key)
{
    const struct place *found = tree->places;
    while (*path) {
        size_t length = strcspn(path, ".");
        const struct place *child = find_child(found, path, length);
        if (!child)
            return found->value;
        found = child;
        path += length + (path[length] == '.');
    }
    return key ? found->key : found->value;
}
