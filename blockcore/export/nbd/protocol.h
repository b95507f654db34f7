/* protocol - the numbers of the NBD protocol
 *
 * Source of all of them: NetworkBlockDevice/nbd, doc/proto.md; of extended headers, its branch extension-ext-header.
 * Names are the specification's, without what C adds. Everything on the wire is big-endian. */
#ifndef CAIRN_EXPORT_NBD_PROTOCOL_H
#define CAIRN_EXPORT_NBD_PROTOCOL_H

#include <stdint.h>

/* "Handshake" */
#define NBD_MAGIC UINT64_C(0x4e42444d41474943)        /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC UINT64_C(0x3e889045565a9)

#define NBD_GREETING_BYTES 18
#define NBD_CLIENT_FLAGS_BYTES 4
#define NBD_OPTION_BYTES 16
#define NBD_OPTION_REPLY_BYTES 20
#define NBD_EXPORT_NAME_REPLY_BYTES 10
#define NBD_EXPORT_NAME_ZEROES 124 /* after it, unless NO_ZEROES */

#define NBD_STRING_MAX 4096 /* bytes of an export's name, a description, a query */

enum nbd_handshake_flags {
    NBD_FLAG_FIXED_NEWSTYLE = 1 << 0,
    NBD_FLAG_NO_ZEROES = 1 << 1,
};

enum nbd_client_flags {
    NBD_FLAG_C_FIXED_NEWSTYLE = 1 << 0,
    NBD_FLAG_C_NO_ZEROES = 1 << 1,
};

enum nbd_option {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
    NBD_OPT_EXTENDED_HEADERS = 11,
};

/* How requests and replies look. */
enum nbd_mode {
    NBD_MODE_SIMPLE,
    NBD_MODE_STRUCTURED, /* replies may be several chunks */
    NBD_MODE_EXTENDED,   /* all replies are chunks, and lengths have 64 bits */
};

#define NBD_REP_ERROR(number) (UINT32_C(1) << 31 | (number))

#define NBD_REP_ACK UINT32_C(1)
#define NBD_REP_SERVER UINT32_C(2)
#define NBD_REP_INFO UINT32_C(3)
#define NBD_REP_META_CONTEXT UINT32_C(4)
#define NBD_REP_ERR_UNSUP NBD_REP_ERROR(1)
#define NBD_REP_ERR_POLICY NBD_REP_ERROR(2)
#define NBD_REP_ERR_INVALID NBD_REP_ERROR(3)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERROR(5)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERROR(6)
#define NBD_REP_ERR_SHUTDOWN NBD_REP_ERROR(7)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERROR(9)
#define NBD_REP_ERR_EXT_HEADER_REQD NBD_REP_ERROR(10)

enum nbd_info {
    NBD_INFO_EXPORT = 0,
    NBD_INFO_NAME = 1,
    NBD_INFO_DESCRIPTION = 2,
    NBD_INFO_BLOCK_SIZE = 3,
};

/* "Transmission flags" */
enum nbd_transmission_flags {
    NBD_FLAG_HAS_FLAGS = 1 << 0,
    NBD_FLAG_READ_ONLY = 1 << 1,
    NBD_FLAG_SEND_FLUSH = 1 << 2,
    NBD_FLAG_SEND_FUA = 1 << 3,
    NBD_FLAG_SEND_TRIM = 1 << 5,
    NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7,
    NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
    NBD_FLAG_SEND_CACHE = 1 << 10,
    NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
    NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12,
};

/* "Transmission" */
#define NBD_REQUEST_MAGIC UINT32_C(0x25609513)
#define NBD_EXTENDED_REQUEST_MAGIC UINT32_C(0x21e41c71)
#define NBD_SIMPLE_REPLY_MAGIC UINT32_C(0x67446698)
#define NBD_CHUNK_MAGIC UINT32_C(0x668e33ef) /* of a structured reply's chunk */
#define NBD_EXTENDED_CHUNK_MAGIC UINT32_C(0x6e8a278c)

#define NBD_REQUEST_BYTES 28
#define NBD_EXTENDED_REQUEST_BYTES 32
#define NBD_SIMPLE_REPLY_BYTES 16
#define NBD_CHUNK_BYTES 20
#define NBD_EXTENDED_CHUNK_BYTES 32
#define NBD_EXTENT_BYTES 8
#define NBD_EXTENDED_EXTENT_BYTES 16

#define NBD_PAYLOAD_MAX (UINT32_C(32) << 20) /* bytes of data in one request or reply */
#define NBD_LONG_MAX UINT32_MAX              /* bytes that a client may ask for nevertheless, and gets in pieces */

enum nbd_command {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
    NBD_COMMANDS,
};

enum nbd_command_flags {
    NBD_CMD_FLAG_FUA = 1 << 0,
    NBD_CMD_FLAG_NO_HOLE = 1 << 1,
    NBD_CMD_FLAG_DF = 1 << 2,
    NBD_CMD_FLAG_REQ_ONE = 1 << 3,
    NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
    NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5, /* extended headers: the length is that of the data that follow */
};

#define NBD_REPLY_FLAG_DONE 1

enum nbd_chunk_type {
    NBD_REPLY_TYPE_NONE = 0,
    NBD_REPLY_TYPE_OFFSET_DATA = 1,
    NBD_REPLY_TYPE_OFFSET_HOLE = 2,
    NBD_REPLY_TYPE_BLOCK_STATUS = 5,
    NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6,
    NBD_REPLY_TYPE_ERROR = 1 << 15 | 1,
    NBD_REPLY_TYPE_ERROR_OFFSET = 1 << 15 | 2,
};

/* Flags of an extent of base:allocation. */
enum nbd_state {
    NBD_STATE_HOLE = 1 << 0,
    NBD_STATE_ZERO = 1 << 1,
};

/* The flag of an extent of qemu:dirty-bitmap:NAME (QEMU, docs/interop/nbd.txt). */
#define NBD_STATE_DIRTY UINT32_C(1)

/* "Error values" */
enum nbd_error {
    NBD_SUCCESS = 0,
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

#endif
