#include "daemon/image_name.h"

#include "blockcore/base/memory.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/decode.h"
#include "schema/codec/json_parse.h"
#include "schema/codec/keyval.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NBD_PORT "10809"

/* Everything becomes key=value text first, since that has both: dots, and scalars that are strings. */
struct pairs {
    char *text;
    size_t length;
    FILE *stream;
};

static void pairs_begin(struct pairs *pairs)
{
    *pairs = (struct pairs){ 0 };
    pairs->stream = open_memstream(&pairs->text, &pairs->length);
    if (!pairs->stream)
        abort();
}

static void pair_add(struct pairs *pairs, const char *key, const char *value)
{
    if (ftell(pairs->stream) > 0)
        fputc(',', pairs->stream);
    fprintf(pairs->stream, "%s=", key);
    for (; *value; value++) {
        if (*value == ',')
            fputc(',', pairs->stream);
        fputc(*value, pairs->stream);
    }
}

static struct error *pairs_decode(struct pairs *pairs, struct arena *arena, const struct blockdev_options **out)
{
    json_t *tree = NULL;
    void *value = NULL;
    fclose(pairs->stream);
    struct error *err = keyval_parse(pairs->text, NULL, &tree);
    if (!err)
        err = decode_value(&blockdev_options_descriptor, tree, DECODE_TEXT, "", arena, &value, NULL);
    if (!err)
        *out = value;
    json_decref(tree);
    free(pairs->text);
    return err;
}

static void pairs_drop(struct pairs *pairs)
{
    fclose(pairs->stream);
    free(pairs->text);
}

/* json: ------------------------------------------------------------------------------------------------------- */

static struct error *check_key(const char *key)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    const char *last = strrchr(key, '.');
    last = last ? last + 1 : key;
    size_t length = strlen(last);
    if (!*key || key[strspn(key, allowed)])
        return error_new("'%s' is not the name of an option", key);
    bool secret = (length >= 7 && strcmp(last + length - 7, "-secret") == 0) || strcmp(last, "tls-creds") == 0;
    if (secret || strcmp(last, "node-name") == 0)
        return error_new("'%s' names something of the daemon, which an image cannot do", key);
    return NULL;
}

static struct error *flatten(struct pairs *pairs, const char *key, const json_t *value, unsigned depth);

static struct error *flatten_members(struct pairs *pairs, const char *key, const json_t *object, unsigned depth)
{
    const char *name;
    json_t *member;
    struct error *err = NULL;
    json_object_foreach((json_t *)(uintptr_t)object, name, member)
    {
        CLEANUP(free) char *path = *key ? xasprintf("%s.%s", key, name) : xstrdup(name);
        err = check_key(path);
        if (!err)
            err = flatten(pairs, path, member, depth + 1);
        if (err)
            break;
    }
    return err;
}

static struct error *flatten_elements(struct pairs *pairs, const char *key, const json_t *array, unsigned depth)
{
    struct error *err = NULL;
    for (size_t i = 0; i < json_array_size(array) && !err; i++) {
        CLEANUP(free) char *path = xasprintf("%s.%zu", key, i);
        err = flatten(pairs, path, json_array_get(array, i), depth + 1);
    }
    return err;
}

static struct error *flatten(struct pairs *pairs, const char *key, const json_t *value, unsigned depth)
{
    char number[32];
    if (depth > IMAGE_NAME_DEPTH_MAX)
        return error_new("the description is too deep");
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return flatten_members(pairs, key, value, depth);
    case JSON_ARRAY:
        return flatten_elements(pairs, key, value, depth);
    case JSON_STRING:
        pair_add(pairs, key, json_string_value(value));
        return NULL;
    case JSON_INTEGER:
        snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        pair_add(pairs, key, number);
        return NULL;
    case JSON_TRUE:
    case JSON_FALSE:
        pair_add(pairs, key, json_is_true(value) ? "on" : "off");
        return NULL;
    case JSON_NULL:
        pair_add(pairs, key, "");
        return NULL;
    default:
        return error_new("%s: numbers with a fraction are not taken", key);
    }
}

static struct error *parse_json(const char *text, struct arena *arena, const struct blockdev_options **out)
{
    json_t *tree = NULL;
    struct error *err = json_parse(text, strlen(text), JSON_VALUES_MAX, &tree);
    if (err)
        return err;
    struct pairs pairs;
    pairs_begin(&pairs);
    err = json_is_object(tree) ? flatten(&pairs, "", tree, 0) : error_new("an object is expected");
    json_decref(tree);
    if (!err)
        return pairs_decode(&pairs, arena, out);
    pairs_drop(&pairs);
    return err;
}

/* Addresses --------------------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place. False when there is a '%' without two digits, or one that stands for the end of a string. */
static bool decode_percent(char *text)
{
    char *out = text;
    for (const char *in = text; *in; in++) {
        if (*in != '%') {
            *out++ = *in;
            continue;
        }
        int high = hex_digit(in[1]);
        int low = high < 0 ? -1 : hex_digit(in[2]);
        if (low < 0 || (high == 0 && low == 0))
            return false;
        *out++ = (char)(high * 16 + low);
        in += 2;
    }
    *out = '\0';
    return true;
}

static void add_unix(struct pairs *pairs, const char *path, const char *export)
{
    pair_add(pairs, "driver", "nbd");
    pair_add(pairs, "server.type", "unix");
    pair_add(pairs, "server.path", path);
    if (*export)
        pair_add(pairs, "export", export);
}

static void add_inet(struct pairs *pairs, const char *host, const char *port, const char *export)
{
    pair_add(pairs, "driver", "nbd");
    pair_add(pairs, "server.type", "inet");
    pair_add(pairs, "server.host", host);
    pair_add(pairs, "server.port", *port ? port : NBD_PORT);
    if (*export)
        pair_add(pairs, "export", export);
}

/* "host", "host:port", "[v6]:port": splits @text in place. */
static bool split_host(char *text, char **host, const char **port)
{
    char *colon;
    *host = text;
    *port = "";
    if (*text == '[') {
        char *end = strchr(text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return false;
        *host = text + 1;
        *end = '\0';
        colon = end[1] ? end + 1 : NULL;
    } else {
        colon = strchr(text, ':');
    }
    if (colon) {
        *colon = '\0';
        *port = colon + 1;
    }
    return **host && (*port)[strspn(*port, "0123456789")] == '\0';
}

/* What stands behind "nbd://" or "nbd+unix://". */
static bool add_nbd_uri(struct pairs *pairs, char *rest, bool is_unix)
{
    char *query = strchr(rest, '?');
    if (query)
        *query++ = '\0';
    char *path = strchr(rest, '/');
    if (path)
        *path++ = '\0';
    else
        path = rest + strlen(rest);
    char *host;
    const char *port;
    if (!decode_percent(path))
        return false;
    if (is_unix) {
        if (*rest || !query || strncmp(query, "socket=", 7) != 0 || !decode_percent(query + 7) || !query[7])
            return false;
        add_unix(pairs, query + 7, path);
        return true;
    }
    if (query || !split_host(rest, &host, &port))
        return false;
    add_inet(pairs, host, port, path);
    return true;
}

/* What stands behind "nbd:" in the older form. */
static bool add_nbd_old(struct pairs *pairs, char *rest)
{
    static const char mark[] = ":exportname=";
    char *export = strstr(rest, mark);
    if (export) {
        *export = '\0';
        export += sizeof(mark) - 1;
    }
    char *host;
    const char *port;
    if (strncmp(rest, "unix:", 5) == 0 && rest[5]) {
        add_unix(pairs, rest + 5, export ? export : "");
        return true;
    }
    if (!split_host(rest, &host, &port) || !*port)
        return false;
    add_inet(pairs, host, port, export ? export : "");
    return true;
}

static bool add_address(struct pairs *pairs, const char *name, char *copy)
{
    static const char *const urls[] = { "http", "https", "ftp", "ftps" };
    size_t scheme = strcspn(name, ":");
    for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
        if (strlen(urls[i]) == scheme && strncmp(urls[i], name, scheme) == 0) {
            pair_add(pairs, "driver", urls[i]);
            pair_add(pairs, "url", name);
            return true;
        }
    }
    if (strncmp(name, "nbd://", 6) == 0 || strncmp(name, "nbd+tcp://", 10) == 0)
        return add_nbd_uri(pairs, copy + scheme + 3, false);
    if (strncmp(name, "nbd+unix://", 11) == 0)
        return add_nbd_uri(pairs, copy + scheme + 3, true);
    return strncmp(name, "nbd:", 4) == 0 && add_nbd_old(pairs, copy + 4);
}

struct error *image_name_parse(const char *name, struct arena *arena, const struct blockdev_options **out)
{
    if (strncmp(name, "json:", 5) == 0)
        return parse_json(name + 5, arena, out);
    CLEANUP(free) char *copy = xstrdup(name);
    struct pairs pairs;
    pairs_begin(&pairs);
    if (add_address(&pairs, name, copy))
        return pairs_decode(&pairs, arena, out);
    pairs_drop(&pairs);
    return error_new("the address is malformed, or of a kind that is not known");
}
