/* secret - passwords and keys by name
 *
 * A secret comes from a client, a configuration or a file; others name it ("key-secret") and get a copy of its bytes,
 * which is overwritten when it is freed. A secret may itself be encrypted with another one, the master key of whoever
 * configures the daemon. No message and no answer ever holds its bytes. */
#ifndef CAIRN_OBJECTS_SECRET_H
#define CAIRN_OBJECTS_SECRET_H

#include "blockcore/crypto/random.h"

#define SECRET_BYTES_MAX (64 * 1024) /* also of a file that holds one */

/* A copy of the bytes. Error: there is no object @id, or it is no secret. */
struct error *secret_get(const char *id, struct key_bytes **out) CONTROL_FN MUST_CHECK;

#endif
