#include "blockcore/crypto/transfer.h"

#include "blockcore/base/range.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/pool.h"

#include <string.h>

#define IN_PLACE_MAX (128 * 1024) /* some 50 microseconds */
#define PIECE_MIN (128 * 1024)
#define PIECES_MAX 8

struct piece {
    struct cipher *cipher;
    uint64_t sector;
    struct iov iov;
    uint8_t *out; /* NULL: decrypt in place */
    int ret;
};

/* One sector that the memory cuts in two or more. */
static int run_cut_sector(const struct piece *piece, uint64_t sector, const struct iov *iov, uint8_t *out)
{
    uint8_t whole[CIPHER_SECTOR_BYTES];
    iov_copy_to(iov, whole);
    if (out)
        return cipher_run(piece->cipher, CIPHER_ENCRYPT, sector, whole, out, sizeof(whole));
    int ret = cipher_run(piece->cipher, CIPHER_DECRYPT, sector, whole, whole, sizeof(whole));
    if (ret == 0)
        iov_copy_from(iov, whole);
    return ret;
}

/* Bytes of the view that lie in one run of memory, from its begin on. */
static size_t first_run(const struct iov *iov, void **data)
{
    struct iovec vec;
    size_t bytes;
    iov_export(iov, &vec, 1, &bytes);
    *data = vec.iov_base;
    return bytes;
}

static int run_piece(const struct piece *piece)
{
    int ret = 0;
    for (size_t done = 0; done < piece->iov.bytes && ret == 0;) {
        struct iov rest = iov_slice(&piece->iov, done, piece->iov.bytes - done);
        uint64_t sector = piece->sector + done / CIPHER_SECTOR_BYTES;
        uint8_t *out = piece->out ? piece->out + done : NULL;
        void *data;
        size_t now = (size_t)align_down(first_run(&rest, &data), CIPHER_SECTOR_BYTES);
        if (now == 0) {
            now = CIPHER_SECTOR_BYTES;
            struct iov cut = iov_slice(&rest, 0, now);
            ret = run_cut_sector(piece, sector, &cut, out);
        } else {
            ret = out ? cipher_run(piece->cipher, CIPHER_ENCRYPT, sector, data, out, now)
                      : cipher_run(piece->cipher, CIPHER_DECRYPT, sector, data, data, now);
        }
        done += now;
    }
    return ret;
}

static int run_on_pool(void *arg)
{
    return run_piece(arg);
}

static void run_member(void *arg)
{
    struct piece *piece = arg;
    piece->ret = co_blocking(NULL, run_on_pool, piece);
}

static __attribute__((noinline)) int run_spread(const struct piece *whole)
{
    struct piece pieces[PIECES_MAX];
    size_t bytes = whole->iov.bytes;
    size_t each = (size_t)align_up(max_u64(div_round_up(bytes, PIECES_MAX), PIECE_MIN), CIPHER_SECTOR_BYTES);
    struct co_group group;
    co_group_init(&group);
    size_t count = 0;
    for (size_t at = 0; at < bytes; at += each, count++) {
        pieces[count] = *whole;
        pieces[count].sector += at / CIPHER_SECTOR_BYTES;
        pieces[count].iov = iov_slice(&whole->iov, at, (size_t)min_u64(each, bytes - at));
        pieces[count].out = whole->out ? whole->out + at : NULL;
        co_group_start(&group, "encryption", run_member, &pieces[count]);
    }
    co_group_join(&group);
    int ret = 0;
    for (size_t i = 0; i < count && ret == 0; i++)
        ret = pieces[i].ret;
    return ret;
}

static int run(const struct piece *piece)
{
    return likely(piece->iov.bytes <= IN_PLACE_MAX) ? run_piece(piece) : run_spread(piece);
}

int transfer_decrypt(struct cipher *cipher, uint64_t sector, const struct iov *iov)
{
    struct piece piece = { .cipher = cipher, .sector = sector, .iov = *iov };
    return run(&piece);
}

int transfer_encrypt(struct cipher *cipher, uint64_t sector, const struct iov *iov, void *out)
{
    struct piece piece = { .cipher = cipher, .sector = sector, .iov = *iov, .out = out };
    return run(&piece);
}
