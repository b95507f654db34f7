#include "schema/codec/descriptor.h"

/* Integers have one name for people, whatever their width. */
const struct type_descriptor codec_bool = { .name = "boolean", .kind = VALUE_BOOL, .size = sizeof(bool) };
const struct type_descriptor codec_int = { .name = "integer", .kind = VALUE_SIGNED, .size = sizeof(int64_t) };
const struct type_descriptor codec_int8 = { .name = "integer", .kind = VALUE_SIGNED, .size = sizeof(int8_t) };
const struct type_descriptor codec_int16 = { .name = "integer", .kind = VALUE_SIGNED, .size = sizeof(int16_t) };
const struct type_descriptor codec_int32 = { .name = "integer", .kind = VALUE_SIGNED, .size = sizeof(int32_t) };
const struct type_descriptor codec_int64 = { .name = "integer", .kind = VALUE_SIGNED, .size = sizeof(int64_t) };
const struct type_descriptor codec_uint8 = { .name = "integer", .kind = VALUE_UNSIGNED, .size = sizeof(uint8_t) };
const struct type_descriptor codec_uint16 = { .name = "integer", .kind = VALUE_UNSIGNED, .size = sizeof(uint16_t) };
const struct type_descriptor codec_uint32 = { .name = "integer", .kind = VALUE_UNSIGNED, .size = sizeof(uint32_t) };
const struct type_descriptor codec_uint64 = { .name = "integer", .kind = VALUE_UNSIGNED, .size = sizeof(uint64_t) };
const struct type_descriptor codec_size = { .name = "integer", .kind = VALUE_SIZE, .size = sizeof(uint64_t) };
const struct type_descriptor codec_number = { .name = "number", .kind = VALUE_NUMBER, .size = sizeof(double) };
const struct type_descriptor codec_str = { .name = "string", .kind = VALUE_STRING, .size = sizeof(const char *) };
const struct type_descriptor codec_null = { .name = "null", .kind = VALUE_NULL, .size = sizeof(uint8_t) };
const struct type_descriptor codec_any = { .name = "value", .kind = VALUE_ANY, .size = 2 * sizeof(void *) };
const struct type_descriptor codec_empty = { .name = "object", .kind = VALUE_OBJECT, .size = 1 };
