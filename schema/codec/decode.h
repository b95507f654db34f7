/* decode - JSON trees as values of the schema's types
 *
 * One walk over the tree, led by the table of the type that is expected. All memory comes from one arena, so that
 * nothing is to be freed, whatever goes wrong. The result keeps nothing of the tree.
 *
 * An error names the path to what is wrong, what was expected, and, where a name is unknown, the one that was probably
 * meant:
 *
 *     arguments.file.filename: expected string, got integer
 *     arguments.driver: 'fil' is not a BlockdevDriver (did you mean 'file'?)
 *     arguments.server.keep-alivee: unknown member (did you mean 'keep-alive'?)
 *     arguments.l2-cache-size: 100 is below the minimum 65536
 *
 * Integers that a json_t cannot hold are in the tree as json_tree.h has it.
 *
 * Members that are absent and have a default get it. Secrets are not quoted, and where there are some the arena is
 * overwritten when it is freed; the tree is its owner's business (json_wipe_strings).
 *
 * Trees that come from text where everything is a string (key=value on the command line) are decoded with DECODE_TEXT:
 * strings are then converted to what is expected, as QEMU does it:
 *
 *     boolean     on, off, yes, no, true, false, y, n
 *     integer     decimal, 0x..., 0...
 *     size        the same, or a decimal fraction, with a suffix B, K, M, G, T, P or E: 1.5G
 *     number      what strtod() takes, if it is finite
 *     null        the empty string */
#ifndef CAIRN_SCHEMA_DECODE_H
#define CAIRN_SCHEMA_DECODE_H

#include "blockcore/base/arena.h"
#include "blockcore/base/error.h"
#include "schema/codec/descriptor.h"

#include <jansson.h>

enum decode_mode {
    DECODE_JSON,
    DECODE_TEXT,
    DECODE_REPLY, /* JSON of a server, which may be newer: members that are not known are passed over */
};

enum {
    DECODE_DEPTH_MAX = 256, /* levels of objects and arrays; each takes a few hundred bytes of stack */
};

/* Where decoding failed, for those who know more about the place (line and column of a configuration file). */
struct decode_failure {
    /* Path of the value that is wrong, in the arena, without the root: "nodes[1].file.filename", in text
     * "nodes.1.file.filename"; of an unknown member its own, of a missing one that of the object that lacks it. Empty
     * for the whole. */
    const char *path;
    bool is_key; /* the member's name is wrong, not its value */
};

/* Decodes @json, which may be NULL for "nothing given" where @type is an object.
 * @root      what paths begin with ("arguments"), or "" for nothing
 * @arena     where *value and all it points to are taken from; its limit bounds what a client can make us take
 * @value     out: type->size bytes; untouched on failure
 * @failure   out on failure; may be NULL
 * The error's class is GenericError. Any thread that may use @arena. */
struct error *decode_value(const struct type_descriptor *type, const json_t *json, enum decode_mode mode,
                           const char *root, struct arena *arena, void **value,
                           struct decode_failure *failure) MUST_CHECK;

#endif
