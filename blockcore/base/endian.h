/* endian - integers of disk formats and wire protocols, at any alignment */
#ifndef CAIRN_BASE_ENDIAN_H
#define CAIRN_BASE_ENDIAN_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define DEFINE_ENDIAN(order, bits)                                                                                     \
    static inline uint##bits##_t load_##order##bits(const void *p)                                                     \
    {                                                                                                                  \
        uint##bits##_t value;                                                                                          \
        memcpy(&value, p, sizeof(value));                                                                              \
        return order##bits##toh(value);                                                                                \
    }                                                                                                                  \
    static inline void store_##order##bits(void *p, uint##bits##_t value)                                              \
    {                                                                                                                  \
        value = hto##order##bits(value);                                                                               \
        memcpy(p, &value, sizeof(value));                                                                              \
    }

DEFINE_ENDIAN(be, 16)
DEFINE_ENDIAN(be, 32)
DEFINE_ENDIAN(be, 64)
DEFINE_ENDIAN(le, 32)
DEFINE_ENDIAN(le, 64)

#endif
