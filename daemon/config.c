#include "daemon/config.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "daemon/config_files.h"
#include "daemon/yaml_tree.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/decode.h"
#include "schema/codec/value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One file. */
struct part {
    char *name; /* as given, for messages */
    struct yaml_tree *tree;
    const struct cairn_config *values;
};

/* Lists of several parts are one after the other; anything else is in one part at most. */
struct config {
    struct part *parts;
    size_t parts_count;
    struct arena arena;
    const struct cairn_config *values;
};

/* Places -------------------------------------------------------------------------------------------------------- */

static struct error *place_error(const struct part *part, const char *path, bool key, struct error *err)
{
    struct yaml_place place = yaml_tree_find(part->tree, path, key);
    return error_wrap(err, "%s:%zu:%zu", part->name, place.line, place.column);
}

static const struct member_descriptor *find_member(const char *path)
{
    size_t length = strcspn(path, ".");
    for (uint32_t i = 0; i < cairn_config_descriptor.object.count; i++) {
        const struct member_descriptor *member = &cairn_config_descriptor.object.members[i];
        if (member->name_length == length && strncmp(member->name, path, length) == 0)
            return member;
    }
    return NULL;
}

static size_t elements_of(const struct member_descriptor *member, const struct cairn_config *values)
{
    return value_count((const char *)values + member->count_offset);
}

/* @path in the whole becomes one in the part that it leads to: "nodes.7" is perhaps "nodes.2" of another file. The
 * caller frees *@inside. NULL: no part has it. */
static const struct part *find_part(const struct config *config, const char *path, char **inside)
{
    const struct member_descriptor *member = find_member(path);
    bool is_list = member && member->type->kind == VALUE_ARRAY;
    const char *rest = path + strcspn(path, ".");
    char *behind = NULL;
    size_t index = is_list && *rest ? strtoul(rest + 1, &behind, 10) : 0;
    for (size_t i = 0; member && i < config->parts_count; i++) {
        const struct part *part = &config->parts[i];
        if (!member_present(member, part->values))
            continue;
        size_t count = is_list && behind ? elements_of(member, part->values) : SIZE_MAX;
        if (index < count) {
            *inside = behind ? xasprintf("%s.%zu%s", member->name, index, behind) : xstrdup(path);
            return part;
        }
        index -= count;
    }
    return NULL;
}

struct error *config_error(const struct config *config, const char *path, struct error *err)
{
    CLEANUP(free) char *inside = NULL;
    if (!err)
        return NULL;
    const struct part *part = find_part(config, path, &inside);
    if (!part)
        return error_wrap(err, "%s", path);
    return place_error(part, inside, false, error_wrap(err, "%s", inside));
}

/* One file ------------------------------------------------------------------------------------------------------ */

static bool has_secret(const struct object_options *object)
{
    return object->qom_type == OBJECT_TYPE_SECRET && object->u.secret.data;
}

static struct error *secret_in_config(void)
{
    return error_new("secrets do not stand in configurations: put it into a file of its own and write 'file: PATH'");
}

static struct error *check_secrets(const struct part *part)
{
    for (size_t i = 0; i < part->values->objects_count; i++) {
        if (!has_secret(&part->values->objects[i]))
            continue;
        CLEANUP(free) char *path = xasprintf("objects.%zu.data", i);
        return place_error(part, path, true, error_wrap(secret_in_config(), "%s", path));
    }
    return NULL;
}

static struct error *decode(struct config *config, struct part *part)
{
    struct decode_failure failure = { 0 };
    void *values = NULL;
    struct error *err = decode_value(&cairn_config_descriptor, yaml_tree_root(part->tree), DECODE_TEXT, "",
                                     &config->arena, &values, &failure);
    yaml_tree_drop_values(part->tree);
    if (err)
        return place_error(part, failure.path ? failure.path : "", failure.is_key, err);
    part->values = values;
    return check_secrets(part);
}

static struct error *add_part(struct config *config, const struct config_source *text)
{
    config->parts = xrealloc_array(config->parts, config->parts_count + 1, sizeof(*config->parts));
    struct part *part = &config->parts[config->parts_count++];
    *part = (struct part){ .name = xstrdup(text->name) };
    struct error *err = yaml_tree_parse(text->name, text->text, text->length, getenv, &part->tree);
    return err ? err : decode(config, part);
}

/* All of them --------------------------------------------------------------------------------------------------- */

static struct error *given_twice(const struct member_descriptor *member, const struct part *first,
                                 const struct part *second)
{
    struct yaml_place place = yaml_tree_find(first->tree, member->name, true);
    struct error *err =
        error_new("%s: is given twice, also at %s:%zu:%zu", member->name, first->name, place.line, place.column);
    return place_error(second, member->name, true, err);
}

struct error *config_check_once(const struct config *config, const struct config *other)
{
    for (uint32_t i = 0; i < cairn_config_descriptor.object.count; i++) {
        const struct member_descriptor *member = &cairn_config_descriptor.object.members[i];
        CLEANUP(free) char *inside = NULL;
        CLEANUP(free) char *inside_other = NULL;
        if (member->type->kind == VALUE_ARRAY)
            continue;
        const struct part *part = find_part(config, member->name, &inside);
        const struct part *first = find_part(other, member->name, &inside_other);
        if (part && first)
            return given_twice(member, first, part);
    }
    return NULL;
}

static void merge_list(struct config *config, const struct member_descriptor *member, char *merged)
{
    size_t size = member->type->array.element->size;
    size_t total = 0;
    for (size_t i = 0; i < config->parts_count; i++)
        total += elements_of(member, config->parts[i].values);
    char *items = arena_array(&config->arena, total, size);
    size_t count = 0;
    for (size_t i = 0; i < config->parts_count; i++) {
        const struct cairn_config *values = config->parts[i].values;
        size_t more = elements_of(member, values);
        if (more)
            memcpy(items + count * size, value_pointer(member_place(member, values)), more * size);
        count += more;
    }
    const bool given = true;
    memcpy(merged + member->offset, &items, sizeof(items));
    memcpy(merged + member->count_offset, &total, sizeof(total));
    if (member->has_offset != DESCRIPTOR_NO_OFFSET)
        memcpy(merged + member->has_offset, &given, sizeof(given));
}

static size_t size_in_memory(const struct type_descriptor *type)
{
    bool by_pointer = type->kind == VALUE_STRING || type->kind == VALUE_OBJECT || type->kind == VALUE_ALTERNATE;
    return by_pointer ? sizeof(void *) : type->size;
}

static void merge_scalar(const struct member_descriptor *member, const struct cairn_config *values, char *merged)
{
    const bool given = true;
    memcpy(merged + member->offset, member_place(member, values), size_in_memory(member->type));
    if (member->has_offset != DESCRIPTOR_NO_OFFSET)
        memcpy(merged + member->has_offset, &given, sizeof(given));
}

bool config_is_setting(const struct member_descriptor *member)
{
    static const char *const things[] = { "objects",    "monitors",    "nodes",  "bitmaps",
                                          "nbd-server", "nbd-servers", "exports" };
    for (size_t i = 0; i < ARRAY_SIZE(things); i++) {
        if (strcmp(member->name, things[i]) == 0)
            return false;
    }
    return true;
}

static void append_list(const struct member_descriptor *member, const struct cairn_config *values, char *settings,
                        struct arena *arena)
{
    size_t size = member->type->array.element->size;
    size_t before = value_count(settings + member->count_offset);
    size_t more = elements_of(member, values);
    size_t total = before + more;
    char *items = arena_array(arena, total, size);
    if (before)
        memcpy(items, value_pointer(settings + member->offset), before * size);
    if (more)
        memcpy(items + before * size, value_pointer(member_place(member, values)), more * size);
    memcpy(settings + member->offset, &items, sizeof(items));
    memcpy(settings + member->count_offset, &total, sizeof(total));
    memcpy(settings + member->has_offset, &(const bool){ true }, sizeof(bool));
}

void config_take_settings(const struct cairn_config *values, struct cairn_config *settings, struct arena *arena)
{
    for (uint32_t i = 0; i < cairn_config_descriptor.object.count; i++) {
        const struct member_descriptor *member = &cairn_config_descriptor.object.members[i];
        if (!config_is_setting(member) || !member_present(member, values))
            continue;
        if (member->type->kind == VALUE_ARRAY)
            append_list(member, values, (char *)settings, arena);
        else
            merge_scalar(member, values, (char *)settings);
    }
}

static struct error *merge_member(struct config *config, const struct member_descriptor *member, char *merged)
{
    const struct part *first = NULL;
    for (size_t i = 0; i < config->parts_count; i++) {
        const struct part *part = &config->parts[i];
        if (!member_present(member, part->values))
            continue;
        if (member->type->kind == VALUE_ARRAY) {
            merge_list(config, member, merged);
            return NULL;
        }
        if (first)
            return given_twice(member, first, part);
        merge_scalar(member, part->values, merged);
        first = part;
    }
    return NULL;
}

static struct error *merge(struct config *config)
{
    if (config->parts_count == 1) {
        config->values = config->parts[0].values;
        return NULL;
    }
    char *merged = arena_alloc(&config->arena, cairn_config_descriptor.size);
    memset(merged, 0, cairn_config_descriptor.size);
    struct error *err = NULL;
    for (uint32_t i = 0; i < cairn_config_descriptor.object.count && !err; i++)
        err = merge_member(config, &cairn_config_descriptor.object.members[i], merged);
    config->values = (const void *)merged;
    return err;
}

struct error *config_parse(const struct config_source *texts, size_t count, struct config **out)
{
    struct config *config = xcalloc(1, sizeof(*config));
    arena_init(&config->arena, SIZE_MAX);
    struct error *err = NULL;
    for (size_t i = 0; i < count && !err; i++)
        err = add_part(config, &texts[i]);
    if (!err)
        err = merge(config);
    if (err)
        config_destroy(config);
    else
        *out = config;
    return err;
}

struct error *config_load(const char *const *paths, size_t count, bool by_client, struct config **out)
{
    struct config_source *texts = NULL;
    size_t texts_count = 0;
    struct error *err = config_files_read(paths, count, by_client, &texts, &texts_count);
    if (!err)
        err = config_parse(texts, texts_count, out);
    config_files_free(texts, texts_count);
    return err;
}

struct error *config_of_values(const struct cairn_config *values, struct config **out)
{
    for (size_t i = 0; i < values->objects_count; i++) {
        if (has_secret(&values->objects[i]))
            return error_wrap(secret_in_config(), "objects[%zu].data", i);
    }
    struct config *config = xcalloc(1, sizeof(*config));
    arena_init(&config->arena, SIZE_MAX);
    config->values = values;
    *out = config;
    return NULL;
}

void config_destroy(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->parts_count; i++) {
        yaml_tree_destroy(config->parts[i].tree);
        free(config->parts[i].name);
    }
    arena_fini(&config->arena);
    free(config->parts);
    free(config);
}

const struct cairn_config *config_values(const struct config *config)
{
    return config->values;
}
