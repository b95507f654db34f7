/* descriptor - types of the schema as tables
 *
 * The compiler writes one constant table per type; one decoder and one encoder interpret them. So the amount of code
 * does not grow with the schema, and whatever else walks values (copy, compare, redact) is written once.
 *
 * How values lie in memory:
 *
 *     bool, integers, number       by value                        optional: bool has_NAME
 *     string                       const char *                    optional: NULL is absent
 *     enum                         enum, as wide as an int         optional: bool has_NAME
 *     object, alternate            const struct *                  optional: NULL is absent
 *     array                        const T *NAME; size_t NAME_count; elements lie by value    optional: bool has_NAME
 *     any                          struct json_text                optional: .text NULL is absent
 *     null                         uint8_t without meaning         optional: bool has_NAME
 *
 * An optional member with a default holds it where none was given: has_NAME says what the client said, NAME what
 * counts. A member that may be null is an alternate of its type and null.
 *
 * An object's members lie in one struct, those of its base first; a union's branches lie by value in its member "u". */
#ifndef CAIRN_SCHEMA_DESCRIPTOR_H
#define CAIRN_SCHEMA_DESCRIPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum value_kind {
    VALUE_BOOL,
    VALUE_SIGNED,   /* of type->size bytes */
    VALUE_UNSIGNED, /* of type->size bytes */
    VALUE_SIZE,     /* uint64_t; where text is all there is, a suffix may follow: 64k */
    VALUE_NUMBER,   /* double */
    VALUE_STRING,
    VALUE_ENUM,
    VALUE_OBJECT,
    VALUE_ALTERNATE,
    VALUE_ARRAY,
    VALUE_NULL,
    VALUE_ANY,
};

enum {
    DESCRIPTOR_NO_OFFSET = UINT32_MAX,
    DESCRIPTOR_UNION_DEPTH_MAX = 8, /* unions that are branches of unions; the compiler refuses more */
};

enum member_flags {
    MEMBER_OPTIONAL = 1 << 0,
    MEMBER_DEPRECATED = 1 << 1,
    MEMBER_UNSTABLE = 1 << 2,
    MEMBER_SECRET = 1 << 3, /* neither logged nor quoted in errors */
};

enum type_flags {
    TYPE_HAS_DEFAULTS = 1 << 0, /* an object: one of its own members has a default */
};

enum limit_flags {
    LIMIT_MIN = 1 << 0,
    LIMIT_MAX = 1 << 1,
};

enum {
    PATTERN_UNBOUNDED = UINT32_MAX,
    PATTERN_TEXT_MAX = 4096, /* bytes; a text that has a pattern and is longer does not match it */
};

/* Bytes that may stand at a place, and how often. */
struct value_pattern_item {
    uint32_t set[8];           /* bit b of set[b / 32]: byte b may stand here */
    uint32_t minimum, maximum; /* repetitions; PATTERN_UNBOUNDED as maximum: any number */
};

/* The whole text is one item after the other. */
struct value_pattern {
    const char *text; /* as the schema has it, for people */
    const struct value_pattern_item *items;
    uint32_t count;
};

/* The member that the type is of: VALUE_SIGNED; VALUE_UNSIGNED and VALUE_SIZE; VALUE_NUMBER. */
union limit_number {
    int64_t i;
    uint64_t u;
    double d;
};

/* What values may be, beyond what their type can hold. */
struct value_limits {
    uint32_t flags;                  /* enum limit_flags: which of the next two count */
    union limit_number min, max;     /* inclusive */
    uint64_t multiple_of;            /* integers; 0: any */
    uint32_t min_length, max_length; /* bytes of a string; 0 and UINT32_MAX: any */
    const struct value_pattern *pattern;
};

struct type_descriptor;

/* What few members have. */
struct member_extra {
    const struct value_limits *limits; /* NULL: none beside those of the type */
    const void *default_value;         /* as the member lies in memory: a bool, a const char *, ...; NULL: none */
};

struct member_descriptor {
    const char *name;
    const struct type_descriptor *type;
    const struct member_extra *extra; /* NULL: nothing of it */
    uint16_t name_length;
    uint16_t flags;        /* enum member_flags */
    uint32_t offset;       /* of the value, the pointer or the array's first pointer */
    uint32_t has_offset;   /* of the bool that says whether an optional member is present, or DESCRIPTOR_NO_OFFSET */
    uint32_t count_offset; /* of an array's number of elements, or DESCRIPTOR_NO_OFFSET */
};

/* A branch of an alternate. */
struct alternate_branch {
    const char *name;
    const struct type_descriptor *type;
};

struct type_descriptor {
    const char *name; /* as errors call it: "string", "BlockdevDriver" */
    enum value_kind kind;
    uint32_t size;                     /* bytes of a value that lies by value */
    uint32_t flags;                    /* enum type_flags */
    const struct value_limits *limits; /* of a named scalar; NULL: none */
    union {
        struct {
            const char *const *names; /* as many as the enum has values, none of them NULL */
            uint32_t count;
        } enumeration;
        struct {
            const struct member_descriptor *members;
            uint32_t count;
            uint32_t tag;                                  /* index of the discriminator, if there are branches */
            const struct type_descriptor *const *branches; /* by value of the discriminator; NULL adds nothing */
            uint32_t branch_count;                         /* 0: not a union */
            uint32_t branch_offset;                        /* of the member "u" */
        } object;
        struct {
            const struct alternate_branch *branches; /* by kind; the struct begins with the kind, as wide as an int */
            uint32_t count;
            uint32_t branch_offset; /* of the member "u" */
        } alternate;
        struct {
            const struct type_descriptor *element;
        } array; /* as a value of its own: struct { T *items; size_t count; } */
    };
};

/* All types of a schema that have a table of their own. */
struct descriptor_table {
    const struct type_descriptor *const *types;
    size_t count;
};

/* The layout of every list struct, whatever its elements. */
struct descriptor_list {
    void *items;
    size_t count;
};

extern const struct type_descriptor codec_bool;
extern const struct type_descriptor codec_int;
extern const struct type_descriptor codec_int8;
extern const struct type_descriptor codec_int16;
extern const struct type_descriptor codec_int32;
extern const struct type_descriptor codec_int64;
extern const struct type_descriptor codec_uint8;
extern const struct type_descriptor codec_uint16;
extern const struct type_descriptor codec_uint32;
extern const struct type_descriptor codec_uint64;
extern const struct type_descriptor codec_size;
extern const struct type_descriptor codec_number;
extern const struct type_descriptor codec_str;
extern const struct type_descriptor codec_null;
extern const struct type_descriptor codec_any;
extern const struct type_descriptor codec_empty; /* an object without members */

#endif
