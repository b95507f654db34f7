/* Any string in the arguments of a command: what is hidden in its line leaves JSON behind, and no user of an address.
 */
#include "rpc/hide.h"

#include "blockcore/base/error.h"
#include "schema/codec/json_parse.h"
#include "schema/codec/text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_addresses(const char *text)
{
    static const char hidden[] = "(secret)";
    for (const char *at = strstr(text, "://"); at; at = strstr(at + 1, "://")) {
        size_t authority = strcspn(at + 3, "/");
        const char *user = memrchr(at + 3, '@', authority);
        if (user && user > at + 3 &&
            ((size_t)(user - at - 3) != strlen(hidden) || strncmp(at + 3, hidden, strlen(hidden)) != 0))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *tree = NULL;
    struct text line = { 0 };
    char *copy = malloc(size + 1);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    copy[size] = '\0';
    text_append_string(&line, "[");
    text_append_json(&line, copy);
    text_append_string(&line, "]");
    hide_secrets(&line, 0, HIDE_IN_JSON);
    struct error *err = json_parse(line.data, line.length, 16, &tree);
    if (err)
        abort();
    check_addresses(json_string_value(json_array_get(tree, 0)));
    json_decref(tree);
    text_fini(&line);
    free(copy);
    return 0;
}
