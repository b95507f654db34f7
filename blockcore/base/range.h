/* range - a run of bytes of a node: offset and length, never wrapping around */
#ifndef CAIRN_BASE_RANGE_H
#define CAIRN_BASE_RANGE_H

#include <stdbool.h>
#include <stdint.h>

struct range {
    uint64_t offset;
    uint64_t bytes;
};

static inline struct range range_make(uint64_t offset, uint64_t bytes)
{
    return (struct range){ offset, bytes };
}

/* From @begin up to, not including, @end; empty when @end <= @begin. */
static inline struct range range_between(uint64_t begin, uint64_t end)
{
    return (struct range){ begin, end > begin ? end - begin : 0 };
}

/* First byte after the range. */
static inline uint64_t range_end(struct range range)
{
    return range.offset + range.bytes;
}

/* Does [offset, offset + bytes) lie in [0, limit), without wrapping? True for an empty range at the limit. */
static inline bool range_inside(struct range range, uint64_t limit)
{
    return range.bytes <= limit && range.offset <= limit - range.bytes;
}

static inline bool range_overlaps(struct range a, struct range b)
{
    return a.offset < range_end(b) && b.offset < range_end(a);
}

static inline bool range_contains(struct range outer, struct range inner)
{
    return inner.offset >= outer.offset && range_end(inner) <= range_end(outer);
}

static inline struct range range_intersect(struct range a, struct range b)
{
    uint64_t begin = a.offset > b.offset ? a.offset : b.offset;
    uint64_t end = range_end(a) < range_end(b) ? range_end(a) : range_end(b);
    return range_between(begin, end);
}

/* @alignment is a power of two. */
static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

/* @alignment is a power of two; @value + @alignment must not wrap. */
static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return align_down(value + alignment - 1, alignment);
}

static inline bool is_aligned(uint64_t value, uint64_t alignment)
{
    return (value & (alignment - 1)) == 0;
}

static inline bool is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static inline struct range range_align_out(struct range range, uint64_t alignment)
{
    return range_between(align_down(range.offset, alignment), align_up(range_end(range), alignment));
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline uint64_t div_round_up(uint64_t value, uint64_t divisor)
{
    return value / divisor + (value % divisor != 0);
}

#endif
