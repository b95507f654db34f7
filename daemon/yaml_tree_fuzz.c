/* Any text: the parser must end, within its limits, with a tree or with an error that names a place. */
#include "daemon/yaml_tree.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct yaml_tree *tree = NULL;
    struct error *err = yaml_tree_parse("fuzz", (const char *)data, size, NULL, &tree);
    assert(!err == !!tree);
    if (tree) {
        struct yaml_place place = yaml_tree_find(tree, "nodes.0.file.filename", true);
        assert(place.line > 0 && place.column > 0);
        json_t *copy = json_deep_copy(yaml_tree_root(tree));
        assert(copy);
        json_decref(copy);
    }
    error_free(err);
    yaml_tree_destroy(tree);
    return 0;
}
