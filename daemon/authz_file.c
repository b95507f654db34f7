#include "daemon/authz_file.h"

#include "blockcore/objects/authz.h"
#include "schema/cairn_descriptors.h"
#include "schema/codec/decode.h"
#include "schema/codec/json_parse.h"

struct error *authz_file_parse(const char *text, size_t bytes, struct arena *arena,
                               const struct auth_z_list_properties **out)
{
    json_t *tree = NULL;
    void *value = NULL;
    struct error *err = json_parse(text, bytes, JSON_VALUES_MAX, &tree);
    if (!err)
        err = decode_value(&auth_z_list_properties_descriptor, tree, DECODE_JSON, "", arena, &value, NULL);
    json_decref(tree);
    if (!err)
        *out = value;
    return err;
}

void authz_file_begin(void)
{
    authz_set_parser(authz_file_parse);
}
