/* yaml_tree - a YAML file as a tree, with the place of every value
 *
 * The tree is what the decoder takes, so a configuration file is checked by the same code as commands. Scalars stay
 * text: what they mean is decided by the type that the schema expects (schema/codec/decode.h, DECODE_TEXT), so that
 * "off" is a boolean in one place and a word in another. A plain null (null, ~ or nothing) is null.
 *
 * Variables (variables.h) are put into scalars that are values; not into keys, nor into scalars in single quotes, which
 * stand for themselves.
 *
 * A file may come from anywhere: it is bounded in size, depth and number of values. Values and texts that an alias
 * repeats count each time, so that a few lines cannot unfold into gigabytes. Tags, keys that are no strings, keys given
 * twice and further documents are errors.
 *
 * Paths are those of the decoder: "nodes.1.file.filename". A pure function of the text. */
#ifndef CAIRN_DAEMON_YAML_TREE_H
#define CAIRN_DAEMON_YAML_TREE_H

#include "blockcore/base/error.h"
#include "daemon/variables.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define YAML_BYTES_MAX (64 * 1024 * 1024)
#define YAML_DEPTH_MAX 200
#define YAML_VALUES_MAX (1024 * 1024)

/* Counted from 1. */
struct yaml_place {
    size_t line;
    size_t column;
};

struct yaml_tree;

/* @name stands in front of errors: "name:line:column: ". @look_up NULL: a dollar is a dollar. */
struct error *yaml_tree_parse(const char *name, const char *text, size_t length, variable_look_up *look_up,
                              struct yaml_tree **out) MUST_CHECK;

/* NULL is allowed. */
void yaml_tree_destroy(struct yaml_tree *tree);

/* The root; an empty object for an empty file. Owned by the tree, until yaml_tree_drop_values(). */
const json_t *yaml_tree_root(const struct yaml_tree *tree);

/* The values have been decoded: the root is gone, places stay. */
void yaml_tree_drop_values(struct yaml_tree *tree);

/* Where the value at @path stands, or with @key its key. Where the path leads to nothing, the place of the nearest
 * value above it. */
struct yaml_place yaml_tree_find(const struct yaml_tree *tree, const char *path, bool key);

#endif
