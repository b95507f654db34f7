#include "blockcore/drivers/file/locks.h"

#include "blockcore/graph/permission.h"

#include <errno.h>
#include <fcntl.h>

enum {
    LOCK_BYTE_HELD = 100,
    LOCK_BYTE_UNSHARED = 200,
};

static int lock_byte(int fd, int byte, short type)
{
    struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? errno : 0;
}

/* Has somebody else locked the byte? Asks whether an exclusive lock would be granted. */
static int byte_is_locked(int fd, int byte, bool *locked)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return errno;
    *locked = lock.l_type != F_UNLCK;
    return 0;
}

bool locks_supported(int fd)
{
    bool locked;

    return byte_is_locked(fd, LOCK_BYTE_HELD, &locked) == 0;
}

bool locks_match(const struct locks *locks, unsigned perm, unsigned shared)
{
    return locks->held == perm && locks->unshared == (PERM_ALL & ~shared);
}

/* Locks the bytes from @base on that @want has and @have has not, adding them to @have one by one. */
static struct error *take(int fd, const char *filename, int base, unsigned want, unsigned *have)
{
    for (int bit = 0; bit < PERM_BITS; bit++) {
        unsigned mask = 1u << bit;
        int errnum = want & ~*have & mask ? lock_byte(fd, base + bit, F_RDLCK) : 0;

        if (errnum)
            return error_errno(errnum, "cannot lock '%s' for permission '%s'", filename, permission_name(mask));
        *have |= want & mask;
    }
    return NULL;
}

/* Unlocks what is not in @keep. Giving up a lock can fail on a broken network file system only; the bit then goes all
 * the same, since nothing better can be done and the lock ends when the file is closed. */
static void drop(int fd, int base, unsigned keep, unsigned *have)
{
    for (int bit = 0; bit < PERM_BITS; bit++) {
        if (*have & ~keep & (1u << bit))
            lock_byte(fd, base + bit, F_UNLCK);
    }
    *have &= keep;
}

static struct error *check(int fd, const char *filename, int base, unsigned mask, const char *conflict)
{
    for (int bit = 0; bit < PERM_BITS; bit++) {
        bool locked = false;
        int errnum = mask & (1u << bit) ? byte_is_locked(fd, base + bit, &locked) : 0;

        if (errnum)
            return error_errno(errnum, "cannot test the locks of '%s'", filename);
        if (locked)
            return error_new("'%s' is in use: another process or node %s permission '%s'", filename, conflict,
                             permission_name(1u << bit));
    }
    return NULL;
}

static struct error *take_and_check(struct locks *locks, int fd, const char *filename, struct locks want)
{
    struct error *err = take(fd, filename, LOCK_BYTE_HELD, want.held, &locks->held);

    if (!err)
        err = take(fd, filename, LOCK_BYTE_UNSHARED, want.unshared, &locks->unshared);
    if (!err)
        err = check(fd, filename, LOCK_BYTE_UNSHARED, want.held, "does not share");
    if (!err)
        err = check(fd, filename, LOCK_BYTE_HELD, want.unshared, "holds, and would have to share,");
    return err;
}

struct error *locks_change(struct locks *locks, int fd, const char *filename, unsigned perm, unsigned shared)
{
    struct locks old = *locks;
    struct locks want = { .held = perm, .unshared = PERM_ALL & ~shared };
    bool less = !(want.held & ~old.held) && !(want.unshared & ~old.unshared);
    /* Who only gives up cannot get into a conflict, and must not fail for one that others have. */
    struct error *err = less ? NULL : take_and_check(locks, fd, filename, want);
    const struct locks *keep = err ? &old : &want;

    drop(fd, LOCK_BYTE_HELD, keep->held, &locks->held);
    drop(fd, LOCK_BYTE_UNSHARED, keep->unshared, &locks->unshared);
    return err;
}

struct error *locks_copy(const struct locks *locks, int fd, const char *filename)
{
    struct locks copied = { 0 };
    struct error *err = take(fd, filename, LOCK_BYTE_HELD, locks->held, &copied.held);

    return err ? err : take(fd, filename, LOCK_BYTE_UNSHARED, locks->unshared, &copied.unshared);
}

void locks_drop_all(int fd)
{
    struct locks all = { .held = PERM_ALL, .unshared = PERM_ALL };

    drop(fd, LOCK_BYTE_HELD, 0, &all.held);
    drop(fd, LOCK_BYTE_UNSHARED, 0, &all.unshared);
}
