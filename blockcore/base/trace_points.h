/* trace_points - all trace points: one line each
 *
 * A name, whether the black box has it always, and how it reads. In the format stand, in the order of TRACE()'s
 * arguments: %t the text, then up to three of %u (unsigned), %d (signed), %x (hexadecimal) and %c (TRACE_CONSTANT()).
 */
#ifndef CAIRN_BASE_TRACE_POINTS_H
#define CAIRN_BASE_TRACE_POINTS_H

#define TRACE_POINTS(P)                                                                                                \
    /* Requests, at each node that they come through. */                                                               \
    P(node_read, TRACE_ON_DEMAND, "node %t offset %u bytes %u")                                                        \
    P(node_read_done, TRACE_ON_DEMAND, "node %t offset %u bytes %u ret %d")                                            \
    P(node_write, TRACE_ON_DEMAND, "node %t offset %u bytes %u flags %x")                                              \
    P(node_write_done, TRACE_ON_DEMAND, "node %t offset %u bytes %u ret %d")                                           \
    P(node_zero, TRACE_ON_DEMAND, "node %t offset %u bytes %u flags %x")                                               \
    P(node_zero_done, TRACE_ON_DEMAND, "node %t offset %u bytes %u ret %d")                                            \
    P(node_discard, TRACE_ON_DEMAND, "node %t offset %u bytes %u")                                                     \
    P(node_flush, TRACE_ON_DEMAND, "node %t")                                                                          \
    P(node_flush_done, TRACE_ON_DEMAND, "node %t ret %d")                                                              \
    P(request_failed, TRACE_ALWAYS, "node %t kind %c ret %d")                                                          \
    /* The graph. */                                                                                                   \
    P(node_open, TRACE_ALWAYS, "node %t driver %c")                                                                    \
    P(node_opened, TRACE_ALWAYS, "node %t bytes %u")                                                                   \
    P(node_open_failed, TRACE_ALWAYS, "node %t")                                                                       \
    P(node_close, TRACE_ALWAYS, "node %t")                                                                             \
    P(node_closed, TRACE_ALWAYS, "node %t")                                                                            \
    P(change_commit, TRACE_ALWAYS, "edges %u nodes %u")                                                                \
    P(change_edge_of, TRACE_ALWAYS, "%t")                                                                              \
    P(change_edge_to, TRACE_ALWAYS, "node %t")                                                                         \
    P(change_end, TRACE_ALWAYS, "%c")                                                                                  \
    P(drain_begin, TRACE_ALWAYS, "node %t")                                                                            \
    P(drain_held, TRACE_ALWAYS, "node %t handles %u")                                                                  \
    P(drain_end, TRACE_ALWAYS, "node %t ns %u")                                                                        \
    /* Jobs. */                                                                                                        \
    P(job_status, TRACE_ALWAYS, "job %t from %c to %c")                                                                \
    /* The NBD server. */                                                                                              \
    P(nbd_connected, TRACE_ALWAYS, "client %t socket %d")                                                              \
    P(nbd_option, TRACE_ALWAYS, "client %t option %u bytes %u socket %d")                                              \
    P(nbd_handshake_end, TRACE_ALWAYS, "client %t result %c socket %d")                                                \
    P(nbd_request, TRACE_ON_DEMAND, "client %t command %u offset %u bytes %u")                                         \
    P(nbd_closed, TRACE_ALWAYS, "client %t socket %d")                                                                 \
    /* The NBD client. */                                                                                              \
    P(nbd_link_connect, TRACE_ALWAYS, "node %t")                                                                       \
    P(nbd_link_connected, TRACE_ALWAYS, "node %t")                                                                     \
    P(nbd_link_lost, TRACE_ALWAYS, "node %t")                                                                          \
    P(nbd_link_retry, TRACE_ALWAYS, "node %t after-ms %u")                                                             \
    /* qcow2. */                                                                                                       \
    P(qcow2_write_table, TRACE_ON_DEMAND, "file %t offset %u bytes %u")                                                \
    P(qcow2_write_part, TRACE_ON_DEMAND, "file %t offset %u bytes %u")                                                 \
    P(qcow2_write_back, TRACE_ON_DEMAND, "file %t")                                                                    \
    P(qcow2_write_back_done, TRACE_ON_DEMAND, "file %t ret %d")                                                        \
    /* QMP. */                                                                                                         \
    P(qmp_connected, TRACE_ALWAYS, "client %u")                                                                        \
    P(qmp_command, TRACE_ALWAYS, "command %t client %u number %u")                                                     \
    P(qmp_reply, TRACE_ALWAYS, "command %t number %u ns %u result %c")                                                 \
    P(qmp_closed, TRACE_ALWAYS, "client %u")                                                                           \
    /* The process. */                                                                                                 \
    P(daemon_state, TRACE_ALWAYS, "%t")

#endif
