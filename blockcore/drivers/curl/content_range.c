#include "blockcore/drivers/curl/content_range.h"

#include <string.h>
#include <strings.h>

#define NAME "content-range:"
#define UNIT "bytes "

/* What is left of the line. */
struct rest {
    const char *text;
    size_t bytes;
};

static bool take_char(struct rest *rest, char c)
{
    if (rest->bytes == 0 || *rest->text != c)
        return false;
    rest->text++;
    rest->bytes--;
    return true;
}

static bool take_word(struct rest *rest, const char *word)
{
    size_t length = strlen(word);
    if (rest->bytes < length || strncasecmp(rest->text, word, length) != 0)
        return false;
    rest->text += length;
    rest->bytes -= length;
    return true;
}

static void skip_blanks(struct rest *rest)
{
    while (take_char(rest, ' ') || take_char(rest, '\t'))
        ;
}

static bool take_number(struct rest *rest, uint64_t *out)
{
    uint64_t value = 0;
    size_t digits = 0;
    for (; rest->bytes > 0 && *rest->text >= '0' && *rest->text <= '9'; rest->text++, rest->bytes--, digits++) {
        uint64_t digit = (uint64_t)(*rest->text - '0');
        if (value > (INT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return digits > 0;
}

static bool take_range(struct rest *rest, struct range *out)
{
    uint64_t first;
    uint64_t last;
    if (take_char(rest, '*'))
        return true;
    if (!take_number(rest, &first) || !take_char(rest, '-') || !take_number(rest, &last) || last < first ||
        last == INT64_MAX)
        return false;
    *out = range_make(first, last - first + 1);
    return true;
}

static bool parse_value(struct rest rest, struct content_range *told)
{
    skip_blanks(&rest);
    if (!take_word(&rest, UNIT))
        return false;
    skip_blanks(&rest);
    if (!take_range(&rest, &told->range) || !take_char(&rest, '/'))
        return false;
    if (!take_char(&rest, '*')) {
        told->total_is_known = true;
        if (!take_number(&rest, &told->total) || !range_inside(told->range, told->total))
            return false;
    }
    skip_blanks(&rest);
    while (take_char(&rest, '\r') || take_char(&rest, '\n'))
        ;
    return rest.bytes == 0;
}

void content_range_read_line(struct content_range *told, const char *line, size_t bytes)
{
    struct rest rest = { line, bytes };
    if (!take_word(&rest, NAME))
        return;
    struct content_range found = { 0 };
    bool good = told->state == CONTENT_RANGE_ABSENT && parse_value(rest, &found);
    *told = good ? found : (struct content_range){ 0 };
    told->state = good ? CONTENT_RANGE_TOLD : CONTENT_RANGE_MALFORMED;
}
