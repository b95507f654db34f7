#include "schema/compiler/pattern.h"

#include <ctype.h>
#include <string.h>

static void set_byte(struct pattern_item *item, unsigned char byte)
{
    item->set[byte / 32] |= 1u << (byte % 32);
}

static bool has_byte(const struct pattern_item *item, unsigned char byte)
{
    return item->set[byte / 32] >> (byte % 32) & 1;
}

static const char *parse_class(struct pattern_item *item, const char *p, const char **wrong)
{
    bool negated = *p == '^';
    p += negated;
    for (bool first = true; *p != ']'; first = false) {
        unsigned char from = (unsigned char)*p, to = from;
        bool dash = from == '-' && !first && p[1] != ']';
        if (from == '\0' || from == '[' || from == '\\' || dash) {
            *wrong = from == '\0' ? "']' is missing" : "'[', '\\' and '-' inside do not stand in a class";
            return NULL;
        }
        if (p[1] == '-' && p[2] != ']' && p[2] != '\0') {
            to = (unsigned char)p[2];
            p += 2;
        }
        if (to < from || strchr("[\\-", to == from ? 'a' : to)) {
            *wrong = "a range of a class goes from a smaller character to a larger one";
            return NULL;
        }
        for (unsigned byte = from; byte <= to; byte++)
            set_byte(item, (unsigned char)byte);
        p++;
    }
    if (negated)
        for (size_t i = 0; i < ARRAY_SIZE(item->set); i++)
            item->set[i] = ~item->set[i];
    return p + 1;
}

static const char *parse_item(struct pattern_item *item, const char *p, const char **wrong)
{
    if (*p == '[' && p[1] != ']')
        return parse_class(item, p + 1, wrong);
    if (*p == '.') {
        memset(item->set, 0xff, sizeof(item->set));
        return p + 1;
    }
    if (*p == '\\' && ispunct((unsigned char)p[1]))
        p++;
    else if (strchr("\\()|^$*+?{}[]", *p)) {
        *wrong = "'\\' goes before characters with a meaning; there are no groups and no alternatives";
        return NULL;
    }
    set_byte(item, (unsigned char)*p);
    return p + 1;
}

static const char *parse_count(const char *p, uint32_t *count)
{
    const char *start = p;
    *count = 0;
    for (; isdigit((unsigned char)*p) && *count <= PATTERN_REPEAT_MAX; p++)
        *count = *count * 10 + (uint32_t)(*p - '0');
    return p > start && *count <= PATTERN_REPEAT_MAX ? p : NULL;
}

static const char *parse_braces(struct pattern_item *item, const char *p, const char **wrong)
{
    p = parse_count(p, &item->minimum);
    item->maximum = item->minimum;
    if (p && *p == ',') {
        p++;
        item->maximum = PATTERN_UNBOUNDED;
        if (*p != '}')
            p = parse_count(p, &item->maximum);
    }
    if (p && *p == '}' && item->minimum <= item->maximum)
        return p + 1;
    *wrong = "in braces stand one or two numbers up to 255, the smaller one first";
    return NULL;
}

static const char *parse_repetition(struct pattern_item *item, const char *p, const char **wrong)
{
    item->minimum = item->maximum = 1;
    switch (*p) {
    case '?':
        item->minimum = 0;
        return p + 1;
    case '*':
        item->minimum = 0;
        item->maximum = PATTERN_UNBOUNDED;
        return p + 1;
    case '+':
        item->maximum = PATTERN_UNBOUNDED;
        return p + 1;
    case '{':
        return parse_braces(item, p + 1, wrong);
    default:
        return p;
    }
}

const struct pattern *pattern_parse(struct arena *arena, const char *text, const char **wrong)
{
    struct pattern *pattern = arena_alloc(arena, sizeof(*pattern));
    pattern->text = text;
    for (const char *p = text; *p;) {
        struct pattern_item item = { 0 };
        p = parse_item(&item, p, wrong);
        p = p ? parse_repetition(&item, p, wrong) : NULL;
        if (!p)
            return NULL;
        if (pattern->items.count == PATTERN_ITEMS_MAX) {
            *wrong = "it has more than 64 items";
            return NULL;
        }
        VECTOR_PUSH(arena, &pattern->items, item);
    }
    return pattern;
}

/* One item after another moves the set of places up to which the text can have matched. From each of them an item
 * reaches a range of places, so it is enough to count where ranges begin and end. */
static void advance(const struct pattern_item *item, const unsigned char *text, size_t length, bool *reached)
{
    int opened[PATTERN_TEXT_MAX + 2] = { 0 };
    size_t run = 0;
    for (size_t i = length + 1; i-- > 0;) {
        run = i < length && has_byte(item, text[i]) ? run + 1 : 0;
        size_t farthest = run < item->maximum ? run : item->maximum;
        if (reached[i] && farthest >= item->minimum) {
            opened[i + item->minimum]++;
            opened[i + farthest + 1]--;
        }
    }
    int open = 0;
    for (size_t i = 0; i <= length; i++) {
        open += opened[i];
        reached[i] = open > 0;
    }
}

bool pattern_matches(const struct pattern *pattern, const char *text)
{
    bool reached[PATTERN_TEXT_MAX + 1] = { true };
    size_t length = strlen(text);
    if (length > PATTERN_TEXT_MAX)
        return false;
    for (size_t i = 0; i < pattern->items.count; i++)
        advance(&pattern->items.items[i], (const unsigned char *)text, length, reached);
    return reached[length];
}
