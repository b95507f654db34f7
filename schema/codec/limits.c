#include "schema/codec/limits.h"

#include "schema/codec/value.h"

#include <inttypes.h>
#include <stdio.h>

/* A number as errors show it. */
struct shown {
    char text[40];
};

static struct shown show(enum value_kind kind, union limit_number number)
{
    struct shown shown;
    if (kind == VALUE_SIGNED)
        snprintf(shown.text, sizeof(shown.text), "%" PRId64, number.i);
    else if (kind == VALUE_NUMBER)
        snprintf(shown.text, sizeof(shown.text), "%.15g", number.d);
    else
        snprintf(shown.text, sizeof(shown.text), "%" PRIu64, number.u);
    return shown;
}

static bool is_below(enum value_kind kind, union limit_number a, union limit_number b)
{
    return kind == VALUE_SIGNED ? a.i < b.i : kind == VALUE_NUMBER ? a.d < b.d : a.u < b.u;
}

static bool is_multiple(enum value_kind kind, union limit_number number, uint64_t of)
{
    if (kind == VALUE_NUMBER)
        return true;
    uint64_t magnitude = kind == VALUE_SIGNED && number.i < 0 ? 0 - number.u : number.u;
    return magnitude % of == 0;
}

static struct error *check_number(const struct value_limits *limits, enum value_kind kind, union limit_number number,
                                  bool secret)
{
    struct shown shown = show(kind, number);
    const char *value = secret ? "the value" : shown.text;
    if ((limits->flags & LIMIT_MIN) && is_below(kind, number, limits->min))
        return error_new("%s is below the minimum %s", value, show(kind, limits->min).text);
    if ((limits->flags & LIMIT_MAX) && is_below(kind, limits->max, number))
        return error_new("%s is above the maximum %s", value, show(kind, limits->max).text);
    if (limits->multiple_of && !is_multiple(kind, number, limits->multiple_of))
        return error_new("%s is not a multiple of %" PRIu64, value, limits->multiple_of);
    return NULL;
}

static struct error *check_string(const struct value_limits *limits, const char *text, bool secret)
{
    char quoted[80] = "the value";
    size_t length = strlen(text);
    if (!secret)
        snprintf(quoted, sizeof(quoted), "'%.64s'", text);
    if (length < limits->min_length)
        return error_new("%s is shorter than %" PRIu32 " byte%s", quoted, limits->min_length,
                         limits->min_length == 1 ? "" : "s");
    if (length > limits->max_length)
        return error_new("%s is longer than %" PRIu32 " byte%s", quoted, limits->max_length,
                         limits->max_length == 1 ? "" : "s");
    if (limits->pattern && !pattern_matches(limits->pattern, text, length))
        return error_new("%s does not match the pattern '%s'", quoted, limits->pattern->text);
    return NULL;
}

struct error *limits_check(const struct value_limits *limits, const struct type_descriptor *type, const void *place,
                           bool secret)
{
    union limit_number number;
    switch (type->kind) {
    case VALUE_SIGNED:
        number.i = value_signed(place, type->size);
        break;
    case VALUE_UNSIGNED:
    case VALUE_SIZE:
        number.u = value_unsigned(place, type->size);
        break;
    case VALUE_NUMBER:
        memcpy(&number.d, place, sizeof(number.d));
        break;
    case VALUE_STRING:
        return check_string(limits, value_pointer(place), secret);
    default:
        return NULL;
    }
    return check_number(limits, type->kind, number, secret);
}

/* Positions in a text, 0 to PATTERN_TEXT_MAX. */
struct positions {
    uint64_t words[PATTERN_TEXT_MAX / 64 + 1];
};

static bool positions_have(const struct positions *positions, size_t at)
{
    return positions->words[at / 64] >> at % 64 & 1;
}

/* Where the text behind one item can begin, if the item can begin at @from. */
static void step(const struct value_pattern_item *item, const char *text, size_t length, const struct positions *from,
                 struct positions *to)
{
    size_t latest = SIZE_MAX; /* the last place where the item may have begun that leaves room for its minimum */
    size_t run = 0;           /* bytes before @at, without a gap, that the item takes */
    memset(to->words, 0, (length / 64 + 1) * sizeof(to->words[0]));
    for (size_t at = 0; at <= length; at++) {
        if (at >= item->minimum && positions_have(from, at - item->minimum))
            latest = at - item->minimum;
        if (latest != SIZE_MAX && at - latest <= run && at - latest <= item->maximum)
            to->words[at / 64] |= (uint64_t)1 << at % 64;
        run = at < length && pattern_item_takes(item, (unsigned char)text[at]) ? run + 1 : 0;
    }
}

bool pattern_matches(const struct value_pattern *pattern, const char *text, size_t length)
{
    struct positions positions[2];
    if (length > PATTERN_TEXT_MAX)
        return false;
    memset(positions[0].words, 0, (length / 64 + 1) * sizeof(positions[0].words[0]));
    positions[0].words[0] = 1;
    for (uint32_t i = 0; i < pattern->count; i++)
        step(&pattern->items[i], text, length, &positions[i % 2], &positions[(i + 1) % 2]);
    return positions_have(&positions[pattern->count % 2], length);
}
