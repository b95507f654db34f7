/* Any text of a scalar: it becomes a text within its limit, or an error. */
#include "daemon/variables.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *look_up(const char *name)
{
    static char value[] = "${A}$";
    assert(*name && strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789") == strlen(name));
    return *name == 'A' ? value : *name == 'E' ? value + 5 : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    assert(text);
    for (size_t i = 0; i < size; i++)
        text[i] = data[i] ? (char)data[i] : 'A';
    text[size] = '\0';
    char *out = NULL;
    struct error *err = variables_expand(text, size, look_up, &out);
    if (!err)
        assert(out ? strlen(out) <= VARIABLES_TEXT_MAX : !strchr(text, '$'));
    error_free(err);
    free(out);
    free(text);
    return 0;
}
