#include "daemon/path.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"

#include <unistd.h>

static bool will_move;

void path_will_move(void)
{
    will_move = true;
}

bool path_moves(void)
{
    return will_move;
}

char *path_for_later(const char *path)
{
    CLEANUP(free) char *directory = will_move && *path && *path != '/' ? getcwd(NULL, 0) : NULL;
    return directory ? xasprintf("%s/%s", directory, path) : xstrdup(path);
}
