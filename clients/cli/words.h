/* words - a line of the shell, cut into words
 *
 * White space separates; '...' and "..." hold together what they enclose, and are dropped; a word that begins with '{'
 * is JSON and takes the rest of the line as it is. */
#ifndef CAIRN_CLI_WORDS_H
#define CAIRN_CLI_WORDS_H

#include "blockcore/base/error.h"

#include <stddef.h>

#define WORDS_MAX 256

struct words {
    char *text; /* owns the characters */
    char *items[WORDS_MAX];
    size_t count;
};

struct error *words_split(const char *line, struct words *words) MUST_CHECK;
void words_fini(struct words *words);
static inline void words_fini_cleanup(struct words *words)
{
    words_fini(words);
}

#endif
