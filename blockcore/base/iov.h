/* iov - a view of the memory of a request
 *
 * A request's memory may lie in pieces. A view names a run of bytes inside an array of pieces without copying it,
 * so that layers can cut requests (at clusters, at transfer limits) at no cost. The view owns nothing: the array and
 * the memory live as long as the request. Byte count and the range of the request always agree.
 *
 *     vec:   |------ piece 0 ------|--- piece 1 ---|---- piece 2 ----|
 *     view:          ^skip ............ bytes ............^ */
#ifndef CAIRN_BASE_IOV_H
#define CAIRN_BASE_IOV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct iov {
    const struct iovec *vec; /* pieces; only those that the view reaches are looked at */
    size_t skip;             /* bytes before the view in vec[0]; less than its length unless bytes == 0 */
    size_t bytes;            /* length of the view */
};

/* One contiguous piece: fills in *storage, which must live as long as the view. */
struct iov iov_of(struct iovec *storage, void *data, size_t bytes);

/* All of @count pieces. */
struct iov iov_of_vec(const struct iovec *vec, size_t count);

/* The view of @bytes bytes from @offset on; @offset + @bytes <= iov->bytes. */
struct iov iov_slice(const struct iov *iov, size_t offset, size_t bytes);

/* The memory as one piece if it is one, else NULL. */
void *iov_contiguous(const struct iov *iov);

/* Number of pieces that the view touches. */
size_t iov_pieces(const struct iov *iov);

/* Writes at most @max pieces as plain iovecs for a system call; returns their number, *bytes what they cover. */
int iov_export(const struct iov *iov, struct iovec *out, size_t max, size_t *bytes);

/* Are all pieces' addresses and lengths multiples of @alignment (a power of two)? */
bool iov_is_aligned(const struct iov *iov, size_t alignment);

void iov_copy_from(const struct iov *to, const void *data); /* iov->bytes bytes into the view */
void iov_copy_to(const struct iov *from, void *data);       /* iov->bytes bytes out of the view */
void iov_fill(const struct iov *iov, int byte);

/* Is every byte of the view zero? */
bool iov_is_zero(const struct iov *iov);

/* Is every byte zero? Any alignment. */
bool memory_is_zero(const void *data, size_t bytes);

#endif
