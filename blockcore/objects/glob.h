/* glob - patterns as shells have them, for names
 *
 * "*" stands for any bytes, none included, "?" for one byte, "[a-z_]" for one of a set and "[!a-z]" for one that is not
 * in it; "\" goes before a byte that means itself. "/" and a leading "." are bytes like others. A "[" that nothing
 * closes means itself. */
#ifndef CAIRN_OBJECTS_GLOB_H
#define CAIRN_OBJECTS_GLOB_H

#include <stdbool.h>

/* Does @pattern fit all of @text? Takes time proportional to the product of their lengths at worst. */
bool glob_matches(const char *pattern, const char *text);

#endif
