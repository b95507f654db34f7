/* size_survey - storage that many nodes occupy, asked at once, with patience for the slow and none for the dead
 *
 * Asking a file for its allocated size may hang as long as its file server does. Some coroutines ask node after node;
 * when no answer has come for SURVEY_PATIENCE_MS, the survey is over and what is missing stays unknown. A node that
 * still owes an answer is not asked again until it has given it, so a dead one costs one coroutine, and costs patience
 * once only. */
#ifndef CAIRN_DAEMON_SIZE_SURVEY_H
#define CAIRN_DAEMON_SIZE_SURVEY_H

#include "blockcore/base/annotations.h"

#include <stddef.h>
#include <stdint.h>

#define SURVEY_PATIENCE_MS 100

#define SIZE_UNKNOWN INT64_MIN

/* Sets sizes[i] to the bytes that the node called names[i] occupies, or to SIZE_UNKNOWN. Both arrays have @count
 * elements. */
void size_survey(const char *const *names, int64_t *sizes, size_t count) CO_FN CONTROL_FN;

/* For the end of the process: until nodes that answer late have answered. */
void size_survey_wait_end(void) CO_FN CONTROL_FN;

#endif
