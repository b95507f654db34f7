/* endian - integers of disk formats and wire protocols, at any alignment */
#ifndef CAIRN_BASE_ENDIAN_H
#define CAIRN_BASE_ENDIAN_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define DEFINE_ENDIAN(bits)                                                                                            \
    static inline uint##bits##_t load_be##bits(const void *p)                                                          \
    {                                                                                                                  \
        uint##bits##_t value;                                                                                          \
        memcpy(&value, p, sizeof(value));                                                                              \
        return be##bits##toh(value);                                                                                   \
    }                                                                                                                  \
    static inline void store_be##bits(void *p, uint##bits##_t value)                                                   \
    {                                                                                                                  \
        value = htobe##bits(value);                                                                                    \
        memcpy(p, &value, sizeof(value));                                                                              \
    }

DEFINE_ENDIAN(16)
DEFINE_ENDIAN(32)
DEFINE_ENDIAN(64)

#endif
