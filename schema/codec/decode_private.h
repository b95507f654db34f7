/* What the parts of the decoder share. */
#ifndef CAIRN_SCHEMA_DECODE_PRIVATE_H
#define CAIRN_SCHEMA_DECODE_PRIVATE_H

#include "schema/codec/decode.h"
#include "schema/codec/json_tree.h"

/* One step of the path to the value that is being decoded; they lie on the stack, linked upwards. */
struct step {
    const struct step *up;
    const char *key; /* NULL: an element of an array */
    size_t index;
};

struct decoder {
    struct arena *arena;
    enum decode_mode mode;
    const char *root;
    unsigned depth;
    bool secret; /* the member that is being decoded: errors must not quote it */
    struct error *error;
    struct decode_failure *failure;
};

/* The path to a value, without the root; in the arena. NULL when there is no memory. */
const char *decode_path(const struct decoder *decoder, const struct step *step);

/* Keep the error and where it is, with the path in front of the message; return false, to be returned. */
bool decode_fail(struct decoder *decoder, const struct step *step, bool is_key, struct error *err);
bool decode_fail_type(struct decoder *decoder, const struct step *step, const char *expected, const json_t *json);
bool decode_fail_memory(struct decoder *decoder, const struct step *step);

/* Whether a scalar is to be converted from text. */
static inline bool is_text(const struct decoder *decoder, const json_t *json)
{
    return decoder->mode == DECODE_TEXT && json_is_string(json) && !json_wide_digits(json);
}

/* Checks what was decoded to @place against limits. False after an error. */
bool decode_limited(struct decoder *decoder, const struct step *step, const struct value_limits *limits,
                    const struct type_descriptor *type, const void *place);

/* Values without parts: @place is where they lie. False after an error. */
bool decode_scalar(struct decoder *decoder, const struct step *step, const struct type_descriptor *type,
                   const json_t *json, void *place);

#endif
