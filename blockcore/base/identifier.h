/* identifier - what the things that users name may be called
 *
 * A letter, followed by letters, digits, '-', '.' and '_': the rule of QEMU for objects, exports, jobs and nodes. */
#ifndef CAIRN_BASE_IDENTIFIER_H
#define CAIRN_BASE_IDENTIFIER_H

#include <stdbool.h>
#include <string.h>

#define IDENTIFIER_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static inline bool identifier_is_valid(const char *name)
{
    return strspn(name, IDENTIFIER_LETTERS) > 0 && name[strspn(name, IDENTIFIER_LETTERS "0123456789-._")] == '\0';
}

#endif
