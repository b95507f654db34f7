/* object - what the command line says about objects, beyond making them */
#ifndef CAIRN_DAEMON_OBJECT_H
#define CAIRN_DAEMON_OBJECT_H

/* "help" lists the kinds, "KIND,help" the properties of one: to standard output. */
void object_print_help(const char *text);

#endif
