/* json_get - members of replies, with what stands for those that are absent or of another type
 *
 * Foreign daemons answer as well: nothing about a reply is taken for granted. */
#ifndef CAIRN_CLI_JSON_GET_H
#define CAIRN_CLI_JSON_GET_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Borrowed; "" when there is none. */
static inline const char *get_text(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text ? text : "";
}

/* 0 when there is none. */
static inline uint64_t get_number(const json_t *object, const char *member)
{
    return (uint64_t)json_integer_value(json_object_get(object, member));
}

static inline bool get_flag(const json_t *object, const char *member)
{
    return json_is_true(json_object_get(object, member));
}

#endif
