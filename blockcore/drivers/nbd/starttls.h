/* starttls - the few bytes of the NBD protocol that come before TLS
 *
 *     server: "NBDMAGIC" "IHAVEOPT" flags       client: flags, option STARTTLS       server: ACK, or why not
 *
 * Pure functions; numbers are those of the protocol's specification. */
#ifndef CAIRN_DRIVERS_NBD_STARTTLS_H
#define CAIRN_DRIVERS_NBD_STARTTLS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define STARTTLS_GREETING_BYTES 18
#define STARTTLS_FLAGS_BYTES 4
#define STARTTLS_REQUEST_BYTES (STARTTLS_FLAGS_BYTES + 16)
#define STARTTLS_REPLY_BYTES 20
#define STARTTLS_REASON_MAX 4096 /* bytes of text behind a reply, by the specification */

/* Of a server that speaks the newstyle protocol with options; else an error. @flags: those that this side knows too. */
struct error *starttls_parse_greeting(const uint8_t greeting[STARTTLS_GREETING_BYTES], uint16_t *flags) MUST_CHECK;

/* As a server with these flags would send it. */
void starttls_write_greeting(uint8_t greeting[STARTTLS_GREETING_BYTES], uint16_t flags);

/* The flags of a client, which it sends first, and the option. */
void starttls_write_request(uint8_t request[STARTTLS_REQUEST_BYTES], uint16_t flags);

/* @accepted: TLS comes next. Otherwise @reason_bytes of text follow, at most STARTTLS_REASON_MAX. An error: it is no
 * reply to that option. */
struct error *starttls_parse_reply(const uint8_t reply[STARTTLS_REPLY_BYTES], bool *accepted,
                                   uint32_t *reason_bytes) MUST_CHECK;

#endif
