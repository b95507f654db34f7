#include "blockcore/drivers/encrypted.h"

#include "blockcore/crypto/transfer.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>
#include <string.h>

#define CHUNK_BYTES (1024 * 1024) /* encrypted and written at once */

int encrypted_preadv(struct child *child, struct cipher *cipher, uint64_t sector, uint64_t offset,
                     const struct iov *iov)
{
    int ret = child_preadv(child, range_make(offset, iov->bytes), iov, 0);
    return ret < 0 ? ret : transfer_decrypt(cipher, sector, iov);
}

static int write_chunk(struct child *child, uint64_t offset, void *data, size_t bytes, unsigned flags)
{
    struct iovec piece;
    struct iov iov = iov_of(&piece, data, bytes);
    return child_pwritev(child, range_make(offset, bytes), &iov, flags);
}

int encrypted_pwritev(struct child *child, struct cipher *cipher, uint64_t sector, uint64_t offset,
                      const struct iov *iov, unsigned flags)
{
    size_t buffer_bytes = (size_t)min_u64(iov->bytes, CHUNK_BYTES);
    void *buffer = buffer_get(buffer_bytes);
    int ret = buffer ? 0 : -ENOMEM;
    for (size_t done = 0; done < iov->bytes && ret == 0; done += buffer_bytes) {
        size_t now = (size_t)min_u64(iov->bytes - done, buffer_bytes);
        struct iov part = iov_slice(iov, done, now);
        ret = transfer_encrypt(cipher, sector + done / CIPHER_SECTOR_BYTES, &part, buffer);
        if (ret == 0)
            ret = write_chunk(child, offset + done, buffer, now, flags);
    }
    buffer_put(buffer, buffer_bytes);
    return ret;
}

int encrypted_pwrite_zeroes(struct child *child, struct cipher *cipher, uint64_t sector, struct range range)
{
    size_t chunk = (size_t)min_u64(range.bytes, CHUNK_BYTES);
    void *zeroes = buffer_get(chunk);
    if (!zeroes)
        return -ENOMEM;
    memset(zeroes, 0, chunk);
    int ret = 0;
    for (uint64_t done = 0; done < range.bytes && ret == 0; done += chunk) {
        struct iovec piece;
        struct iov iov = iov_of(&piece, zeroes, (size_t)min_u64(range.bytes - done, chunk));
        ret = encrypted_pwritev(child, cipher, sector + done / CIPHER_SECTOR_BYTES, range.offset + done, &iov, 0);
    }
    buffer_put(zeroes, chunk);
    return ret;
}
