/* Any file: it is refused with a message, or its rules can be asked about its own bytes. */
#include "daemon/authz_file.h"

#include "blockcore/objects/authz_private.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    struct arena arena;
    arena_init(&arena, 1 << 20);
    const struct auth_z_list_properties *rules = NULL;
    CLEANUP(error_free) struct error *err = authz_file_parse(text, size, &arena, &rules);
    if (!err == !rules || (err && !*error_message(err)))
        abort();
    CLEANUP(error_free) struct error *too_much = rules ? authz_check_rules(rules) : NULL;
    for (size_t i = 0; rules && !too_much && i < rules->rules_count && i < 8; i++)
        (void)authz_rules_allow(rules, rules->rules[i].match);
    if (rules && !too_much)
        (void)authz_rules_allow(rules, text);
    arena_fini(&arena);
    free(text);
    return 0;
}
