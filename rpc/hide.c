#include "rpc/hide.h"

#include "schema/codec/text.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define HIDDEN "(secret)"
#define DESCRIPTION "json:"
#define DEPTH_MAX 4 /* of descriptions in strings of descriptions; what is deeper is hidden as a whole */

/* Addresses ------------------------------------------------------------------------------------------------------- */

/* Behind the two slashes that follow @at, each of them escaped perhaps; NULL: there are none. */
static const char *behind_slashes(const char *at, const char *end)
{
    for (int i = 0; i < 2; i++) {
        while (at < end && *at == '\\')
            at++;
        if (at == end || *at++ != '/')
            return NULL;
    }
    return at;
}

/* Where the host begins of the next address from @at on; NULL: there is none. */
static const char *find_address(const char *at, const char *end)
{
    while ((at = memchr(at, ':', (size_t)(end - at)))) {
        const char *host = behind_slashes(++at, end);
        if (host)
            return host;
    }
    return NULL;
}

/* Bytes of the user in an address that begins at @at; 0: there is none. */
static size_t user_bytes(const char *at, const char *end)
{
    const char *last = NULL;
    for (const char *byte = at; byte < end && *byte != '/' && *byte != '"'; byte++) {
        if (*byte == '@')
            last = byte;
        byte += *byte == '\\'; /* and what it escapes */
    }
    return last ? (size_t)(last - at) : 0;
}

static void copy_without_users(struct text *out, const char *at, const char *end)
{
    const char *host;
    while ((host = find_address(at, end))) {
        size_t user = user_bytes(host, end);
        text_append(out, at, (size_t)(host - at));
        if (user > 0)
            text_append_string(out, HIDDEN);
        at = host + user;
    }
    text_append(out, at, (size_t)(end - at));
}

/* Descriptions ----------------------------------------------------------------------------------------------------
 *
 * A quote that a string of JSON contains is escaped by a backslash, one of a string inside of that by three, then
 * seven, and backslashes before it come doubled each time. So the ones at the end of their number tell how deep it is.
 */

struct scan {
    struct text *out;
    const char *at;
    const char *end;
    unsigned depth; /* of its double quotes; one that is less deep ends the string that the description is in */
};

static bool is_quote(char byte)
{
    return byte == '"' || byte == '\'';
}

/* memchr(), since a zero byte is none of them. */
static bool is_one_of(char byte, const char *bytes)
{
    return memchr(bytes, byte, strlen(bytes));
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

/* What is between the quotes, and where it goes on. */
struct string {
    const char *begin; /* behind the quote */
    const char *end;   /* before the backslashes of the other quote */
    const char *after;
    unsigned depth; /* of double quotes inside of it */
};

static size_t backslashes(const char *at, const char *end)
{
    const char *byte = at;
    while (byte < end && *byte == '\\')
        byte++;
    return (size_t)(byte - at);
}

static unsigned depth_of_quote(size_t escapes)
{
    unsigned depth = 0;
    for (; escapes & 1; escapes >>= 1)
        depth++;
    return depth;
}

/* Without the backslashes that are its own. */
static const char *before_quote(const char *quote, unsigned depth)
{
    return quote - (((size_t)1 << depth) - 1);
}

/* The string whose quote stands at @quote behind @escapes backslashes. One that does not end goes to the end. */
static struct string read_string(const struct scan *scan, const char *quote, size_t escapes)
{
    bool is_double = *quote == '"';
    unsigned depth = is_double ? depth_of_quote(escapes) : 0;
    struct string string = { .begin = quote + 1, .depth = is_double ? depth + 1 : scan->depth };
    const char *byte;
    for (const char *at = quote + 1; at < scan->end; at = byte + 1) {
        size_t count = backslashes(at, scan->end);
        byte = at + count;
        if (byte == scan->end)
            break;
        unsigned found = depth_of_quote(count);
        bool ends = *byte == *quote && (is_double ? found == depth : count % ((size_t)2 << scan->depth) == 0);
        if (ends) {
            string.end = before_quote(byte, depth);
            string.after = byte + 1;
            return string;
        }
        if (*byte == '"' && found < scan->depth) { /* of the string around it all */
            string.end = string.after = before_quote(byte, found);
            return string;
        }
    }
    string.end = string.after = scan->end;
    return string;
}

static bool has_word(const char *begin, const char *end, const char *word)
{
    size_t length = strlen(word);
    for (; (size_t)(end - begin) >= length; begin++) {
        if (strncasecmp(begin, word, length) == 0)
            return true;
    }
    return false;
}

/* By the last part of "file.password"; a name that is written in a roundabout way is not trusted. */
static bool is_secret_name(struct string name)
{
    static const char *const words[] = { "password", "passwd", "passphrase", "secret", "cookie", "token" };
    const char *dot = memrchr(name.begin, '.', (size_t)(name.end - name.begin));
    const char *begin = dot ? dot + 1 : name.begin;
    size_t length = (size_t)(name.end - begin);
    if (memchr(name.begin, '\\', (size_t)(name.end - name.begin)))
        return true;
    if ((length == 4 && strncasecmp(begin, "data", 4) == 0) || (length == 3 && strncasecmp(begin, "key", 3) == 0))
        return true;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (has_word(begin, name.end, words[i]))
            return true;
    }
    return false;
}

static void copy_to(struct scan *scan, const char *to)
{
    text_append(scan->out, scan->at, (size_t)(to - scan->at));
    scan->at = to;
}

static void copy_hidden(struct text *out, const char *at, const char *end, unsigned quotes, unsigned depth);

/* The content of a string that is copied so far up to its beginning. */
static void copy_content(struct scan *scan, struct string string, bool secret, unsigned depth)
{
    copy_to(scan, string.begin);
    if (secret || depth == DEPTH_MAX)
        text_append_string(scan->out, string.begin < string.end ? HIDDEN : "");
    else
        copy_hidden(scan->out, string.begin, string.end, string.depth, depth + 1);
    scan->at = string.end;
    copy_to(scan, string.after);
}

/* Is a colon next, behind blanks that are escaped perhaps? */
static bool is_name(const struct scan *scan, const char *at)
{
    while (at < scan->end) {
        size_t count = backslashes(at, scan->end);
        if (is_blank(at[0]))
            at++;
        else if (count > 0 && at + count < scan->end && is_one_of(at[count], "ntr"))
            at += count + 1;
        else
            return *at == ':';
    }
    return false;
}

/* A number, a word: what is no string, list or object. */
static const char *end_of_word(const struct scan *scan, const char *at)
{
    while (at < scan->end && !is_one_of(*at, ",}]") && !is_quote(*at) && *at != '\\')
        at++;
    return at;
}

/* "\\u0018" is one, whose digits are no number. */
static const char *end_of_character(const struct scan *scan, const char *byte, size_t escapes)
{
    const char *end = byte + 1;
    for (int i = 0; escapes > 0 && *byte == 'u' && i < 4 && end < scan->end && isxdigit((unsigned char)*end); i++)
        end++;
    return end;
}

/* From the brace that opens the description to its end, or to that of the string that it stands in. */
static void copy_description(struct scan *scan, unsigned depth)
{
    size_t braces = 0;
    size_t secret_from = 0; /* depth of braces of what is secret; 0: nothing is */
    bool secret = false;    /* the value that comes next */
    while (scan->at < scan->end) {
        size_t escapes = backslashes(scan->at, scan->end);
        const char *byte = scan->at + escapes;
        if (byte == scan->end || (*byte == '"' && depth_of_quote(escapes) < scan->depth))
            break;
        if (is_quote(*byte)) {
            struct string string = read_string(scan, byte, escapes);
            bool name = is_name(scan, string.after);
            copy_content(scan, string, !name && (secret || secret_from), depth);
            secret = name && is_secret_name(string);
            continue;
        }
        if (is_one_of(*byte, "{[")) {
            braces++;
            if (secret && !secret_from)
                secret_from = braces;
            secret = false;
        } else if (is_one_of(*byte, "}]")) {
            if (braces == secret_from)
                secret_from = 0;
            secret = false;
            braces -= braces > 0;
        } else if ((secret || secret_from) && !is_blank(*byte) && !is_one_of(*byte, ":,") && escapes == 0) {
            text_append_string(scan->out, "0");
            scan->at = end_of_word(scan, byte);
            secret = false;
            continue;
        }
        copy_to(scan, end_of_character(scan, byte, escapes));
        if (braces == 0)
            break;
    }
}

/* @quotes: how deep double quotes are in it; @depth: how many descriptions are around it. */
static void copy_hidden(struct text *out, const char *at, const char *end, unsigned quotes, unsigned depth)
{
    const char *mark;
    while ((mark = memmem(at, (size_t)(end - at), DESCRIPTION, strlen(DESCRIPTION)))) {
        const char *begin = mark + strlen(DESCRIPTION);
        while (begin < end && is_blank(*begin))
            begin++;
        text_append(out, at, (size_t)(begin - at));
        at = begin;
        if (begin == end || *begin != '{')
            continue;
        struct scan scan = { .out = out, .at = begin, .end = end, .depth = quotes };
        copy_description(&scan, depth);
        at = scan.at;
    }
    text_append(out, at, (size_t)(end - at));
}

/* ----------------------------------------------------------------------------------------------------------------- */

void hide_secrets(struct text *text, uint64_t begin, enum hide_in in)
{
    CLEANUP(text_fini) struct text addresses = { 0 };
    CLEANUP(text_fini) struct text descriptions = { 0 };
    const char *at = text->data + begin;
    const char *end = text->data + text->length;
    if (text->length == begin ||
        (!find_address(at, end) && !memmem(at, (size_t)(end - at), DESCRIPTION, strlen(DESCRIPTION))))
        return;
    copy_hidden(&descriptions, at, end, in == HIDE_IN_JSON ? 1 : 0, 0);
    copy_without_users(&addresses, descriptions.data, descriptions.data + descriptions.length);
    text->length = begin;
    text_append(text, addresses.data, addresses.length);
}
