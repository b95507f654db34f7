/* refcount_field - one refcount inside the bytes of a refcount block
 *
 * Widths from 1 to 64 bits: below a byte, bit 0 of a byte comes first; from 16 bits on, big endian.
 *
 * Source: the qcow2 specification, "Refcount block entry". */
#ifndef CAIRN_QCOW2_REFCOUNT_FIELD_H
#define CAIRN_QCOW2_REFCOUNT_FIELD_H

#include "blockcore/base/endian.h"

#include <stddef.h>

/* The largest count of 1 << @order bits. */
static inline uint64_t refcount_max(uint32_t order)
{
    return order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << order)) - 1;
}

static inline uint64_t refcount_get(const void *block, uint32_t order, size_t index)
{
    const uint8_t *bytes = block;
    switch (order) {
    case 3:
        return bytes[index];
    case 4:
        return load_be16(bytes + index * 2);
    case 5:
        return load_be32(bytes + index * 4);
    case 6:
        return load_be64(bytes + index * 8);
    default: {
        size_t bit = index << order;
        return (uint64_t)bytes[bit / 8] >> (bit % 8) & refcount_max(order);
    }
    }
}

/* @count is at most refcount_max(@order). */
static inline void refcount_set(void *block, uint32_t order, size_t index, uint64_t count)
{
    uint8_t *bytes = block;
    switch (order) {
    case 3:
        bytes[index] = (uint8_t)count;
        return;
    case 4:
        store_be16(bytes + index * 2, (uint16_t)count);
        return;
    case 5:
        store_be32(bytes + index * 4, (uint32_t)count);
        return;
    case 6:
        store_be64(bytes + index * 8, count);
        return;
    default: {
        size_t bit = index << order;
        unsigned mask = (unsigned)refcount_max(order) << (bit % 8);
        bytes[bit / 8] = (uint8_t)((bytes[bit / 8] & ~mask) | ((unsigned)count << (bit % 8)));
        return;
    }
    }
}

/* Which bytes of the block hold entry @index: [*first, *first + *bytes). */
static inline void refcount_place(uint32_t order, size_t index, size_t *first, size_t *bytes)
{
    *first = (index << order) / 8;
    *bytes = order > 3 ? (size_t)1 << (order - 3) : 1;
}

#endif
