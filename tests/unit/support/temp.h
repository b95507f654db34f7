/* temp - a folder for a test that needs files or sockets, below $TMPDIR */
#ifndef CAIRN_TESTS_TEMP_H
#define CAIRN_TESTS_TEMP_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* Its path: room for a socket beside it. Whoever makes it removes it. */
#define TEMP_FOLDER_BYTES 96

static inline void temp_folder_make(char folder[TEMP_FOLDER_BYTES])
{
    const char *parent = getenv("TMPDIR");
    int length = snprintf(folder, TEMP_FOLDER_BYTES, "%s/cairn-test-XXXXXX", parent && parent[0] ? parent : "/tmp");
    assert(length < TEMP_FOLDER_BYTES);
    (void)length;
    char *made = mkdtemp(folder);
    assert(made);
    (void)made;
}

#endif
