/* node_options - what blockcore has done with descriptions, by the tables of the schema (graph/options.h) */
#ifndef CAIRN_DAEMON_NODE_OPTIONS_H
#define CAIRN_DAEMON_NODE_OPTIONS_H

/* Before the first node is opened. */
void node_options_begin(void);

#endif
