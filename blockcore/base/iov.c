#include "blockcore/base/iov.h"

#include <string.h>

struct iov iov_of(struct iovec *storage, void *data, size_t bytes)
{
    *storage = (struct iovec){ .iov_base = data, .iov_len = bytes };
    return (struct iov){ .vec = storage, .bytes = bytes };
}

struct iov iov_of_vec(const struct iovec *vec, size_t count)
{
    struct iov iov = { .vec = vec };
    for (size_t i = 0; i < count; i++)
        iov.bytes += vec[i].iov_len;
    return iov;
}

struct iov iov_slice(const struct iov *iov, size_t offset, size_t bytes)
{
    struct iov slice = { .vec = iov->vec, .skip = iov->skip + offset, .bytes = bytes };
    if (bytes == 0)
        return (struct iov){ .vec = iov->vec };
    while (slice.skip >= slice.vec->iov_len) {
        slice.skip -= slice.vec->iov_len;
        slice.vec++;
    }
    return slice;
}

/* Walks the pieces of a view; piece is empty at the end. */
struct walk {
    const struct iovec *vec;
    size_t skip;
    size_t left;
};

static struct walk walk_begin(const struct iov *iov)
{
    return (struct walk){ .vec = iov->vec, .skip = iov->skip, .left = iov->bytes };
}

static bool walk_next(struct walk *walk, struct iovec *piece)
{
    while (walk->left > 0) {
        size_t bytes = walk->vec->iov_len - walk->skip;
        if (bytes > walk->left)
            bytes = walk->left;
        *piece = (struct iovec){ .iov_base = (char *)walk->vec->iov_base + walk->skip, .iov_len = bytes };
        walk->vec++;
        walk->skip = 0;
        walk->left -= bytes;
        if (bytes > 0)
            return true;
    }
    return false;
}

void *iov_contiguous(const struct iov *iov)
{
    if (iov->bytes == 0)
        return iov->vec ? iov->vec->iov_base : NULL;
    if (iov->vec->iov_len - iov->skip < iov->bytes)
        return NULL;
    return (char *)iov->vec->iov_base + iov->skip;
}

size_t iov_pieces(const struct iov *iov)
{
    size_t count = 0;
    struct iovec piece;
    for (struct walk walk = walk_begin(iov); walk_next(&walk, &piece);)
        count++;
    return count;
}

int iov_export(const struct iov *iov, struct iovec *out, size_t max, size_t *bytes)
{
    size_t count = 0;
    *bytes = 0;
    for (struct walk walk = walk_begin(iov); count < max && walk_next(&walk, &out[count]); count++)
        *bytes += out[count].iov_len;
    return (int)count;
}

bool iov_is_aligned(const struct iov *iov, size_t alignment)
{
    struct iovec piece;
    for (struct walk walk = walk_begin(iov); walk_next(&walk, &piece);) {
        if (((uintptr_t)piece.iov_base | piece.iov_len) & (alignment - 1))
            return false;
    }
    return true;
}

void iov_copy_from(const struct iov *to, const void *data)
{
    const char *from = data;
    struct iovec piece;
    for (struct walk walk = walk_begin(to); walk_next(&walk, &piece); from += piece.iov_len)
        memcpy(piece.iov_base, from, piece.iov_len);
}

void iov_copy_to(const struct iov *from, void *data)
{
    char *to = data;
    struct iovec piece;
    for (struct walk walk = walk_begin(from); walk_next(&walk, &piece); to += piece.iov_len)
        memcpy(to, piece.iov_base, piece.iov_len);
}

void iov_fill(const struct iov *iov, int byte)
{
    struct iovec piece;
    for (struct walk walk = walk_begin(iov); walk_next(&walk, &piece);)
        memset(piece.iov_base, byte, piece.iov_len);
}

bool iov_is_zero(const struct iov *iov)
{
    struct iovec piece;
    for (struct walk walk = walk_begin(iov); walk_next(&walk, &piece);) {
        if (!memory_is_zero(piece.iov_base, piece.iov_len))
            return false;
    }
    return true;
}

bool memory_is_zero(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    if (bytes == 0)
        return true;
    /* Byte 0 is zero and each byte equals the one before it: memcmp compares the block with itself, shifted. */
    size_t head = bytes < 16 ? bytes : 16;
    for (size_t i = 0; i < head; i++) {
        if (p[i])
            return false;
    }
    return bytes <= 16 || memcmp(p, p + 16, bytes - 16) == 0;
}
