/* replay - feeds seeds to a fuzz target without a fuzzer
 *
 * usage: NAME_fuzz FOLDER: every file of the folder, and the empty input. A folder that does not exist has no seeds. */
#include "blockcore/base/cleanup.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define SEED_BYTES_MAX (16 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

DEFINE_CLEANUP(fclose, FILE *)
DEFINE_CLEANUP(closedir, DIR *)

static int replay_file(const char *path)
{
    CLEANUP(fclose) FILE *file = fopen(path, "rb");
    CLEANUP(free) uint8_t *data = malloc(SEED_BYTES_MAX);
    if (!file || !data) {
        perror(path);
        return 1;
    }
    size_t bytes = fread(data, 1, SEED_BYTES_MAX, file);
    /* A block of exactly this size, so that AddressSanitizer sees the first byte past its end. */
    CLEANUP(free) uint8_t *exact = realloc(steal(&data), bytes ? bytes : 1);
    if (!exact)
        return 1;
    LLVMFuzzerTestOneInput(exact, bytes);
    printf("%s: %zu bytes\n", path, bytes);
    return 0;
}

static int replay_folder(const char *folder)
{
    CLEANUP(closedir) DIR *dir = opendir(folder);
    int failures = 0;

    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        if (entry->d_name[0] == '.')
            continue;
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        failures += replay_file(path);
    }
    return failures;
}

int main(int argc, char **argv)
{
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    return argc == 2 && replay_folder(argv[1]) ? EXIT_FAILURE : EXIT_SUCCESS;
}
