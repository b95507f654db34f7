/* wire - bytes of the NBD protocol to structs, and back
 *
 * Without I/O and without state: what a client sent is looked at here first, and only here. All lengths inside a
 * message are checked against the bytes that are there. Strings stay where they are in the message. */
#ifndef CAIRN_EXPORT_NBD_WIRE_H
#define CAIRN_EXPORT_NBD_WIRE_H

#include "blockcore/export/nbd/protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Inside a message; not terminated; at most NBD_STRING_MAX bytes, none of them NUL. */
struct nbd_string {
    const char *data;
    uint32_t bytes;
};

bool nbd_string_is(struct nbd_string string, const char *text);
/* For messages: at most @bytes with the NUL, cut between two characters; what is no UTF-8 becomes '?'. */
void nbd_string_show(struct nbd_string string, char *out, size_t bytes);

/* Handshake: what the client sends ------------------------------------------------------------------------- */

struct nbd_option_header {
    uint32_t option; /* enum nbd_option, or anything else */
    uint32_t bytes;  /* of data that follow */
};

/* NBD_OPTION_BYTES of @bytes; false when the magic is wrong. */
bool nbd_parse_option(const uint8_t *bytes, struct nbd_option_header *out);

/* A string that is all of the option's data: EXPORT_NAME. False when it is no string. */
bool nbd_parse_name(const uint8_t *data, size_t bytes, struct nbd_string *out);

/* The data of INFO and GO. */
struct nbd_info_query {
    struct nbd_string name;
    const uint8_t *infos; /* 16 bits each */
    uint16_t info_count;
};

/* False when it is malformed. */
bool nbd_parse_info_query(const uint8_t *data, size_t bytes, struct nbd_info_query *out);
bool nbd_info_query_wants(const struct nbd_info_query *query, uint16_t info);

/* The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
struct nbd_context_query {
    struct nbd_string name;
    uint32_t count;    /* queries not taken yet */
    const uint8_t *at; /* the first of them */
};

/* False when it is malformed: all queries have been checked when it returns true. */
bool nbd_parse_context_query(const uint8_t *data, size_t bytes, struct nbd_context_query *out);
/* Takes the first query that is left; false when none is. */
bool nbd_context_query_next(struct nbd_context_query *query, struct nbd_string *out);

/* Handshake: what the server sends. Each writes at @out and returns the number of bytes ------------------------ */

size_t nbd_put_greeting(uint8_t *out, uint16_t flags);
/* Header of a reply to @option; @bytes of data are to follow. */
size_t nbd_put_option_reply(uint8_t *out, uint32_t option, uint32_t type, uint32_t bytes);
/* Reply to EXPORT_NAME; with @zeroes, NBD_EXPORT_NAME_ZEROES more bytes. */
size_t nbd_put_export_name_reply(uint8_t *out, uint64_t length, uint16_t flags, bool zeroes);
/* Data of NBD_REP_INFO. */
#define NBD_INFO_EXPORT_BYTES 12
#define NBD_INFO_BLOCK_SIZE_BYTES 14
size_t nbd_put_info_export(uint8_t *out, uint64_t length, uint16_t flags);
size_t nbd_put_info_block_size(uint8_t *out, uint32_t minimum, uint32_t preferred, uint32_t maximum);

/* Transmission ------------------------------------------------------------------------------------------------- */

struct nbd_request_header {
    uint16_t flags;  /* enum nbd_command_flags */
    uint16_t type;   /* enum nbd_command, or anything else */
    uint64_t cookie; /* the client's; comes back in the reply */
    uint64_t offset;
    uint64_t bytes;
};

#define NBD_REQUEST_BYTES_MAX NBD_EXTENDED_REQUEST_BYTES

static inline size_t nbd_request_bytes(enum nbd_mode mode)
{
    return mode == NBD_MODE_EXTENDED ? NBD_EXTENDED_REQUEST_BYTES : NBD_REQUEST_BYTES;
}

/* nbd_request_bytes() of @bytes; false when the magic is wrong. */
bool nbd_parse_request(const uint8_t *bytes, enum nbd_mode mode, struct nbd_request_header *out);

/* Bytes that follow the header. */
uint64_t nbd_request_payload(const struct nbd_request_header *header, enum nbd_mode mode);

/* The payload of BLOCK_STATUS: which contexts are asked about. */
#define NBD_STATUS_FILTER_BYTES_MIN 12
struct nbd_status_filter {
    uint64_t bytes;    /* of the export, from the header's offset on */
    uint64_t contexts; /* a set */
};

/* False when it is malformed: another length, an id twice, or one that is not in @contexts. */
bool nbd_parse_status_filter(const uint8_t *data, size_t bytes, uint64_t contexts, struct nbd_status_filter *out);

/* What a reply repeats of the request that it answers. */
struct nbd_reply_to {
    enum nbd_mode mode;
    uint64_t cookie;
    uint64_t offset;
};

/* A reply without data: 0 or an enum nbd_error. Only in modes other than NBD_MODE_EXTENDED. NBD_SIMPLE_REPLY_BYTES. */
size_t nbd_put_simple_reply(uint8_t *out, const struct nbd_reply_to *to, uint32_t error);

/* Heads of chunks, in modes other than NBD_MODE_SIMPLE. With @done the reply ends with it. */

#define NBD_CHUNK_HEAD_MAX (NBD_EXTENDED_CHUNK_BYTES + 12)

/* With @bytes of payload to follow. */
size_t nbd_put_chunk(uint8_t *out, const struct nbd_reply_to *to, bool done, uint16_t type, uint32_t bytes);
/* @bytes of data from @offset of the export on are to follow. */
size_t nbd_put_data_chunk(uint8_t *out, const struct nbd_reply_to *to, bool done, uint64_t offset, uint32_t bytes);
/* Complete. */
size_t nbd_put_hole_chunk(uint8_t *out, const struct nbd_reply_to *to, bool done, uint64_t offset, uint32_t bytes);
/* The last one. A message of @message_bytes is to follow, and after it, when @has_offset, an offset of 64 bits. */
size_t nbd_put_error_chunk(uint8_t *out, const struct nbd_reply_to *to, uint32_t error, uint16_t message_bytes,
                           bool has_offset);

/* What a request's result is called on the wire. @ret: 0 or -errno. Numbers that the protocol knows for one kind of
 * request only are NBD_EINVAL for others. */
uint32_t nbd_error_of(const struct nbd_request_header *header, int ret);

#endif
