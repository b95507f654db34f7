#include "schema/codec/random.h"

#include "schema/codec/limits.h"
#include "schema/codec/value.h"

enum {
    DEPTH_SIMPLE = 5, /* from here on everything that can be left out is */
    DEPTH_MAX = 60,   /* a type that has no smaller values has none */
    ELEMENTS_MAX = 3,
    TEXT_BYTES_MAX = PATTERN_TEXT_MAX, /* where the schema demands long ones */
    TRIES_MAX = 200,
};

struct generator {
    uint64_t *seed;
    struct arena *arena;
    unsigned depth;
};

static bool generate(struct generator *generator, const struct type_descriptor *type, const struct value_limits *limits,
                     void *place);

/* SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators). */
static uint64_t next_bits(struct generator *generator)
{
    uint64_t z = *generator->seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* 0 to @bound - 1. */
static uint64_t below(struct generator *generator, uint64_t bound)
{
    return next_bits(generator) % bound;
}

static bool chance(struct generator *generator, unsigned percent)
{
    return below(generator, 100) < percent;
}

static void put_integer(void *place, uint64_t bits, uint32_t bytes)
{
    memcpy(place, (char *)&bits + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? sizeof(bits) - bytes : 0), bytes);
}

/* Any number from @min to @max: the ends, something near them, small ones, anything. */
static uint64_t between(struct generator *generator, uint64_t min, uint64_t max)
{
    uint64_t span = max - min;
    switch (below(generator, 5)) {
    case 0:
        return min;
    case 1:
        return max;
    case 2:
        return min + (span < 100 ? below(generator, span + 1) : below(generator, 100));
    default:
        return min + (span == UINT64_MAX ? next_bits(generator) : below(generator, span + 1));
    }
}

static void generate_signed(struct generator *generator, const struct type_descriptor *type,
                            const struct value_limits *limits, void *place)
{
    int64_t max = (int64_t)(UINT64_MAX >> (65 - 8 * type->size)), min = -max - 1;
    if (limits && (limits->flags & LIMIT_MIN) && limits->min.i > min)
        min = limits->min.i;
    if (limits && (limits->flags & LIMIT_MAX) && limits->max.i < max)
        max = limits->max.i;
    /* Order is kept when the sign bit is turned over. */
    uint64_t flip = (uint64_t)1 << 63;
    int64_t value = (int64_t)(between(generator, (uint64_t)min ^ flip, (uint64_t)max ^ flip) ^ flip);
    if (limits && limits->multiple_of) {
        int64_t factor = (int64_t)limits->multiple_of;
        value -= value % factor;
        if (value < min)
            value += factor;
    }
    put_integer(place, (uint64_t)value, type->size);
}

static void generate_unsigned(struct generator *generator, const struct type_descriptor *type,
                              const struct value_limits *limits, void *place)
{
    uint64_t min = 0, max = UINT64_MAX >> (64 - 8 * type->size);
    if (limits && (limits->flags & LIMIT_MIN))
        min = limits->min.u;
    if (limits && (limits->flags & LIMIT_MAX) && limits->max.u < max)
        max = limits->max.u;
    uint64_t value = between(generator, min, max);
    if (limits && limits->multiple_of) {
        value -= value % limits->multiple_of;
        if (value < min)
            value += limits->multiple_of;
    }
    put_integer(place, value, type->size);
}

static void generate_number(struct generator *generator, const struct value_limits *limits, void *place)
{
    double min = -1e15, max = 1e15;
    if (limits && (limits->flags & LIMIT_MIN))
        min = limits->min.d;
    if (limits && (limits->flags & LIMIT_MAX))
        max = limits->max.d;
    double part = (double)(next_bits(generator) >> 11) / 9007199254740992.0;
    double value = chance(generator, 10) ? min : chance(generator, 10) ? max : min * (1 - part) + max * part;
    memcpy(place, &value, sizeof(value));
}

/* A byte that the item takes; those that can be read come first. */
static char pattern_byte(struct generator *generator, const struct value_pattern_item *item)
{
    unsigned start = (unsigned)below(generator, 95);
    for (unsigned i = 0; i < 95; i++)
        if (pattern_item_takes(item, (unsigned char)(0x20 + (start + i) % 95)))
            return (char)(0x20 + (start + i) % 95);
    for (unsigned byte = 1; byte < 256; byte++)
        if (pattern_item_takes(item, (unsigned char)byte))
            return (char)byte;
    return '\0';
}

static size_t pattern_text(struct generator *generator, const struct value_pattern *pattern, char *text)
{
    size_t length = 0;
    for (uint32_t i = 0; i < pattern->count; i++) {
        const struct value_pattern_item *item = &pattern->items[i];
        uint32_t spread = item->maximum - item->minimum < 16 ? item->maximum - item->minimum : 16;
        uint64_t count = item->minimum + below(generator, spread + 1);
        for (uint64_t j = 0; j < count && length < TEXT_BYTES_MAX - 1; j++)
            text[length++] = pattern_byte(generator, item);
    }
    return length;
}

static size_t any_text(struct generator *generator, const struct value_limits *limits, char *text)
{
    static const char *const pieces[] = {
        "a",  "B7",   "-", ".", "/srv", " ", "\"", "\\", "\n", "\x01", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
        "%s", "null", "0"
    };
    size_t length = 0, wanted = below(generator, 24);
    if (limits && wanted < limits->min_length)
        wanted = limits->min_length;
    if (limits && wanted > limits->max_length)
        wanted = limits->max_length;
    while (length < wanted && length < TEXT_BYTES_MAX - 4) {
        const char *piece = pieces[below(generator, sizeof(pieces) / sizeof(pieces[0]))];
        if (length + strlen(piece) > wanted)
            piece = "x";
        memcpy(text + length, piece, strlen(piece));
        length += strlen(piece);
    }
    return length;
}

static bool generate_string(struct generator *generator, const struct type_descriptor *type,
                            const struct value_limits *limits, void *place)
{
    char text[TEXT_BYTES_MAX + 1];
    const struct value_limits *of_type = type->limits;
    const struct value_pattern *pattern = of_type && of_type->pattern ? of_type->pattern : NULL;
    if (limits && limits->pattern)
        pattern = limits->pattern;
    for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
        size_t length =
            pattern ? pattern_text(generator, pattern, text) : any_text(generator, limits ? limits : of_type, text);
        text[length] = '\0';
        const char *pointer = text;
        struct error *err = limits ? limits_check(limits, type, &pointer, false) : NULL;
        if (!err && of_type)
            err = limits_check(of_type, type, &pointer, false);
        if (!err) {
            pointer = arena_try_strndup(generator->arena, text, length);
            memcpy(place, &pointer, sizeof(pointer));
            return pointer;
        }
        error_free(err);
    }
    return false;
}

static bool generate_any(struct generator *generator, void *place)
{
    static const char *const texts[] = {
        "null", "true", "-3", "1.5", "\"text\"", "[]", "{}", "[1,{\"a\":[null]}]", "{\"b\":{\"c\":\"\"},\"a\":0}"
    };
    const char *text = texts[below(generator, sizeof(texts) / sizeof(texts[0]))];
    struct any_value any = { .text = arena_try_strndup(generator->arena, text, strlen(text)), .length = strlen(text) };
    memcpy(place, &any, sizeof(any));
    return any.text;
}

static bool generate_elements(struct generator *generator, const struct type_descriptor *element, void *items_place,
                              void *count_place)
{
    size_t count = generator->depth >= DEPTH_SIMPLE ? 0 : below(generator, ELEMENTS_MAX + 1);
    char *items = arena_try_array(generator->arena, count, element->size);
    if (!items)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!generate(generator, element, NULL, items + i * element->size))
            return false;
    memcpy(items_place, &items, sizeof(items));
    memcpy(count_place, &count, sizeof(count));
    return true;
}

static bool generate_pointed(struct generator *generator, const struct type_descriptor *type,
                             const struct value_limits *limits, void *place)
{
    void *value = arena_try_alloc(generator->arena, type->size);
    if (!value || !generate(generator, type, limits, value))
        return false;
    memcpy(place, &value, sizeof(value));
    return true;
}

static bool generate_member(struct generator *generator, const struct member_descriptor *member, char *object)
{
    const struct value_limits *limits = member->extra ? member->extra->limits : NULL;
    void *place = object + member->offset;
    if (member_default(member))
        memcpy(place, member_default(member), member->type->size);
    if ((member->flags & MEMBER_OPTIONAL) && (generator->depth >= DEPTH_SIMPLE || chance(generator, 40)))
        return true;
    if (member->has_offset != DESCRIPTOR_NO_OFFSET)
        object[member->has_offset] = true;
    if (member->type->kind == VALUE_ARRAY)
        return generate_elements(generator, member->type->array.element, place, object + member->count_offset);
    if (member->type->kind == VALUE_OBJECT || member->type->kind == VALUE_ALTERNATE)
        return generate_pointed(generator, member->type, limits, place);
    return generate(generator, member->type, limits, place);
}

static bool generate_object(struct generator *generator, const struct type_descriptor *type, char *object)
{
    while (type) {
        for (uint32_t i = 0; i < type->object.count; i++)
            if (!generate_member(generator, &type->object.members[i], object))
                return false;
        const struct type_descriptor *branch = union_branch(type, object);
        object += type->object.branch_offset;
        type = branch;
    }
    return true;
}

static bool is_simple(const struct type_descriptor *type)
{
    return type->kind != VALUE_OBJECT && type->kind != VALUE_ARRAY;
}

/* Strings that an alternate with an enum or text beside them would read otherwise are no matter: each kind of JSON
 * value stands in one branch only. */
static bool generate_alternate(struct generator *generator, const struct type_descriptor *type,
                               const struct value_limits *limits, char *value)
{
    int kind = (int)below(generator, type->alternate.count);
    for (int i = 0; generator->depth >= DEPTH_SIMPLE && i < (int)type->alternate.count; i++)
        if (is_simple(type->alternate.branches[i].type))
            kind = i;
    const struct type_descriptor *branch = type->alternate.branches[kind].type;
    memcpy(value, &kind, sizeof(kind));
    char *place = value + type->alternate.branch_offset;
    return branch->kind == VALUE_OBJECT ? generate_pointed(generator, branch, limits, place)
                                        : generate(generator, branch, limits, place);
}

static bool generate_parts(struct generator *generator, const struct type_descriptor *type,
                           const struct value_limits *limits, void *place)
{
    if (generator->depth >= DEPTH_MAX)
        return false;
    generator->depth++;
    bool generated = type->kind == VALUE_OBJECT ? generate_object(generator, type, place)
                     : type->kind == VALUE_ALTERNATE
                         ? generate_alternate(generator, type, limits, place)
                         : generate_elements(generator, type->array.element, place,
                                             (char *)place + offsetof(struct descriptor_list, count));
    generator->depth--;
    return generated;
}

static bool generate_enum(struct generator *generator, const struct type_descriptor *type, void *place)
{
    int value = type->enumeration.count ? (int)below(generator, type->enumeration.count) : 0;
    memcpy(place, &value, sizeof(value));
    return type->enumeration.count > 0;
}

/* @limits: of the member; they are narrower than those of a named scalar, as far as both say something. */
static bool generate(struct generator *generator, const struct type_descriptor *type, const struct value_limits *limits,
                     void *place)
{
    const struct value_limits *of_number = limits ? limits : type->limits;
    bool flag;
    switch (type->kind) {
    case VALUE_BOOL:
        flag = chance(generator, 50);
        memcpy(place, &flag, sizeof(flag));
        return true;
    case VALUE_SIGNED:
        generate_signed(generator, type, of_number, place);
        return true;
    case VALUE_UNSIGNED:
    case VALUE_SIZE:
        generate_unsigned(generator, type, of_number, place);
        return true;
    case VALUE_NUMBER:
        generate_number(generator, of_number, place);
        return true;
    case VALUE_NULL:
        return true;
    case VALUE_STRING:
        return generate_string(generator, type, limits, place);
    case VALUE_ANY:
        return generate_any(generator, place);
    case VALUE_ENUM:
        return generate_enum(generator, type, place);
    default:
        return generate_parts(generator, type, limits, place);
    }
}

void *value_random(const struct type_descriptor *type, uint64_t *seed, struct arena *arena)
{
    struct generator generator = { .seed = seed, .arena = arena };
    void *value = arena_try_alloc(arena, type->size);
    return value && generate(&generator, type, NULL, value) ? value : NULL;
}
