/* check - the shape of each definition
 *
 * Whether a definition has the keys its kind needs, with values of the right form and well-formed names: all that can
 * be said without looking at any other definition. */
#ifndef SCHEMAC_CHECK_H
#define SCHEMAC_CHECK_H

#include "schema/compiler/syntax.h"

/* Sets meta and name of each definition. False after an error, which was reported. */
bool program_check(struct program *program, struct compilation *compilation);

#endif
