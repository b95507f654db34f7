#include "schema/codec/encode.h"

#include "schema/codec/value.h"

#include <string.h>

struct encoder {
    struct text *text;
    unsigned flags;
    unsigned depth;
};

static struct error *encode(struct encoder *encoder, const struct type_descriptor *type, const void *value);

static void new_line(struct encoder *encoder)
{
    static const char spaces[] = "                                ";
    text_append(encoder->text, "\n", 1);
    for (unsigned left = encoder->depth * 4; left;) {
        unsigned now = left < sizeof(spaces) - 1 ? left : (unsigned)sizeof(spaces) - 1;
        text_append(encoder->text, spaces, now);
        left -= now;
    }
}

static void begin(struct encoder *encoder, const char *bracket)
{
    text_append(encoder->text, bracket, 1);
    encoder->depth++;
}

/* Before each element of an object or array. */
static void separate(struct encoder *encoder, bool *first)
{
    bool pretty = encoder->flags & ENCODE_PRETTY;
    if (!*first)
        text_append(encoder->text, ", ", pretty ? 1 : 2);
    if (pretty)
        new_line(encoder);
    *first = false;
}

static void end(struct encoder *encoder, const char *bracket, bool empty)
{
    encoder->depth--;
    if (!empty && (encoder->flags & ENCODE_PRETTY))
        new_line(encoder);
    text_append(encoder->text, bracket, 1);
}

static struct error *encode_array(struct encoder *encoder, const struct type_descriptor *element, const char *items,
                                  size_t count)
{
    bool first = true;
    begin(encoder, "[");
    for (size_t i = 0; i < count; i++) {
        separate(encoder, &first);
        struct error *err = encode(encoder, element, items + i * element->size);
        if (err)
            return error_prepend(err, "[%zu]", i);
    }
    end(encoder, "]", first);
    return NULL;
}

static struct error *encode_member_value(struct encoder *encoder, const struct member_descriptor *member,
                                         const void *object)
{
    const void *place = member_place(member, object);
    if (member->type->kind == VALUE_ARRAY)
        return encode_array(encoder, member->type->array.element, value_pointer(place),
                            value_count((const char *)object + member->count_offset));
    if (member->type->kind == VALUE_OBJECT || member->type->kind == VALUE_ALTERNATE) {
        place = value_pointer(place);
        if (!place)
            return error_new(": no value");
    }
    return encode(encoder, member->type, place);
}

static struct error *encode_members(struct encoder *encoder, const struct type_descriptor *type, const void *object,
                                    bool *first)
{
    for (uint32_t i = 0; i < type->object.count; i++) {
        const struct member_descriptor *member = &type->object.members[i];
        if (!member_present(member, object))
            continue;
        separate(encoder, first);
        text_append(encoder->text, "\"", 1);
        text_append(encoder->text, member->name, member->name_length);
        text_append(encoder->text, "\": ", 3);
        if ((encoder->flags & ENCODE_REDACT) && (member->flags & MEMBER_SECRET)) {
            text_append_string(encoder->text, "\"(secret)\"");
            continue;
        }
        struct error *err = encode_member_value(encoder, member, object);
        if (err)
            return error_prepend(err, ".%s", member->name);
    }
    return NULL;
}

static struct error *encode_object(struct encoder *encoder, const struct type_descriptor *type, const void *object)
{
    bool first = true;
    begin(encoder, "{");
    for (const struct type_descriptor *part = type; part;) {
        struct error *err = encode_members(encoder, part, object, &first);
        if (err)
            return err;
        const struct type_descriptor *branch = union_branch(part, object);
        if (branch)
            object = (const char *)object + part->object.branch_offset;
        part = branch;
    }
    end(encoder, "}", first);
    return NULL;
}

static struct error *encode_alternate(struct encoder *encoder, const struct type_descriptor *type, const void *value)
{
    int kind = value_enum(value);
    if (kind < 0 || (uint32_t)kind >= type->alternate.count)
        return error_new(": %d is no kind of %s", kind, type->name);
    const struct type_descriptor *branch = type->alternate.branches[kind].type;
    const void *place = (const char *)value + type->alternate.branch_offset;
    if (branch->kind == VALUE_OBJECT) {
        place = value_pointer(place);
        if (!place)
            return error_new(": no value");
    }
    return encode(encoder, branch, place);
}

static struct error *encode_enum(struct encoder *encoder, const struct type_descriptor *type, const void *value)
{
    int number = value_enum(value);
    if (number < 0 || (uint32_t)number >= type->enumeration.count)
        return error_new(": %d is no %s", number, type->name);
    text_append(encoder->text, "\"", 1);
    text_append_string(encoder->text, type->enumeration.names[number]);
    text_append(encoder->text, "\"", 1);
    return NULL;
}

static struct error *encode_string(struct encoder *encoder, const void *value)
{
    const char *string = value_pointer(value);
    if (!string)
        return error_new(": no value");
    text_append_json(encoder->text, string);
    return NULL;
}

static struct error *encode_any(struct encoder *encoder, const void *value)
{
    struct any_value any;
    memcpy(&any, value, sizeof(any));
    if (!any.text)
        return error_new(": no value");
    text_append(encoder->text, any.text, any.length);
    return NULL;
}

static struct error *encode(struct encoder *encoder, const struct type_descriptor *type, const void *value)
{
    double number;
    switch (type->kind) {
    case VALUE_BOOL:
        text_append_string(encoder->text, value_bool(value) ? "true" : "false");
        return NULL;
    case VALUE_SIGNED:
        text_append_signed(encoder->text, value_signed(value, type->size));
        return NULL;
    case VALUE_UNSIGNED:
    case VALUE_SIZE:
        text_append_unsigned(encoder->text, value_unsigned(value, type->size));
        return NULL;
    case VALUE_NUMBER:
        memcpy(&number, value, sizeof(number));
        text_append_double(encoder->text, number);
        return NULL;
    case VALUE_NULL:
        text_append(encoder->text, "null", 4);
        return NULL;
    case VALUE_STRING:
        return encode_string(encoder, value);
    case VALUE_ENUM:
        return encode_enum(encoder, type, value);
    case VALUE_OBJECT:
        return encode_object(encoder, type, value);
    case VALUE_ALTERNATE:
        return encode_alternate(encoder, type, value);
    case VALUE_ARRAY:
        return encode_array(encoder, type->array.element, value_pointer(value),
                            value_count((const char *)value + offsetof(struct descriptor_list, count)));
    case VALUE_ANY:
        break;
    }
    return encode_any(encoder, value);
}

struct error *encode_value(struct text *text, const struct type_descriptor *type, const void *value, unsigned flags,
                           unsigned depth)
{
    struct encoder encoder = { .text = text, .flags = flags, .depth = depth };
    struct error *err = encode(&encoder, type ? type : &codec_empty, value);
    return err || !text->failed ? err : error_new("out of memory");
}

/* One key of a message that is written by hand. */
static void put_key(struct encoder *encoder, const char *key, bool *first)
{
    separate(encoder, first);
    text_append_json(encoder->text, key);
    text_append(encoder->text, ": ", 2);
}

struct error *encode_event(struct text *text, const struct event_descriptor *event, const void *data, int64_t seconds,
                           int64_t microseconds, unsigned flags)
{
    struct encoder encoder = { .text = text, .flags = flags };
    struct error *err = NULL;
    bool first = true, first_inside = true;

    begin(&encoder, "{");
    put_key(&encoder, "timestamp", &first);
    begin(&encoder, "{");
    put_key(&encoder, "seconds", &first_inside);
    text_append_signed(text, seconds);
    put_key(&encoder, "microseconds", &first_inside);
    text_append_signed(text, microseconds);
    end(&encoder, "}", false);
    put_key(&encoder, "event", &first);
    text_append_json(text, event->name);
    if (event->data) {
        put_key(&encoder, "data", &first);
        err = encode(&encoder, event->data, data);
    }
    end(&encoder, "}", false);
    if (!err && text->failed)
        err = error_new("out of memory");
    return error_wrap(err, "event %s", event->name);
}
