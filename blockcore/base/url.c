#include "blockcore/base/url.h"

#include "blockcore/base/memory.h"

#include <string.h>

/* Generous about the number of slashes, as those are who connect. */
char *url_without_user(const char *url)
{
    const char *colon = strchr(url, ':');
    if (!colon)
        return xstrdup(url);
    const char *authority = colon + 1 + strspn(colon + 1, "/");
    const char *end = authority + strcspn(authority, "/?#");
    const char *at = memrchr(authority, '@', (size_t)(end - authority));
    if (!at)
        return xstrdup(url);
    return xasprintf("%.*s%s", (int)(authority - url), url, at + 1);
}
