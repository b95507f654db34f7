/* diff_main - "schemac diff OLD NEW": whether a change of an interface breaks its clients */
#ifndef SCHEMAC_DIFF_MAIN_H
#define SCHEMAC_DIFF_MAIN_H

/* @argv[0] is "diff". Prints to standard output; returns the exit status. */
int diff_main(int argc, char **argv);

#endif
