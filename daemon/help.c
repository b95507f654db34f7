#include "daemon/help.h"

#include "daemon/daemon.h"
#include "daemon/object.h"
#include "daemon/trace.h"

#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
    "usage: cairnd [OPTION...]\n"
    "Serves disk images: builds a graph of block nodes, exports it, and is told what to do over QMP.\n"
    "\n"
    "Options are taken in the order given; what an option refers to stands before it. They are spelled as those of\n"
    "qemu-storage-daemon.\n"
    "\n"
    "  --blockdev [driver=]DRIVER,node-name=NAME[,OPTION=VALUE...]\n"
    "                        add a block node; the members are those of the command blockdev-add, with dots for those\n"
    "                        inside others (file.filename=a.img); a JSON object is taken too\n"
    "  --chardev socket,id=ID,{path=PATH|host=HOST,port=PORT|fd=N},server=on[,wait=on|off]\n"
    "                        listen on a socket, for --monitor; with wait=on, which is the default, the options that\n"
    "                        follow are taken when the first client has come\n"
    "  --chardev socket,id=ID,{path=PATH|host=HOST,port=PORT|fd=N}[,reconnect-ms=N]\n"
    "                        connect to a client that listens\n"
    "  --chardev stdio,id=ID talk over standard input and output\n"
    "  --monitor [chardev=]ID[,mode=control][,pretty=on|off][,role=none|read|operate|admin]\n"
    "            [,roles.0.{user=USER|group=GROUP|tls-name=PATTERN},roles.0.role=ROLE...]\n"
    "                        let any number of QMP clients connect there, who may do what their role allows\n"
    "  --nbd-server addr.type=unix,addr.path=PATH[,max-connections=N]\n"
    "  --nbd-server addr.type=inet,addr.host=HOST,addr.port=PORT[,max-connections=N]\n"
    "                        start the NBD server\n"
    "  --export [type=]nbd,id=ID,node-name=NAME[,name=EXPORT][,writable=on|off]\n"
    "                        export a node; the members are those of the command block-export-add\n"
    "  --object [qom-type=]TYPE,id=ID[,PROPERTY=VALUE...]\n"
    "                        make an object, as with the command object-add; \"help\" lists the types, TYPE,help the\n"
    "                        properties of one\n"
    "  --config FILE         make what a YAML file describes\n"
    "  --audit {path=FILE|journal=SOCKET}[,on-failure=continue|refuse]\n"
    "                        note each command that may change something, as a line of JSON\n"
    "  --check               only check the options and files; no image is touched\n"
    "  --image-policy [directories.0=DIR...][,schemes.0=SCHEME...][,json=on|off]\n"
    "                        what images may name as backing files: only files below these directories, remote\n"
    "                        storage by these schemes, json: descriptions; by default any file and nothing else\n"
    "  --policy [paths.0=PATH...][,protocols.0=DRIVER...][,hosts.0=PATTERN...][,listen.0=PATTERN...]\n"
    "                        what clients may name: only files at or below these paths, only these drivers of "
    "storage,\n"
    "                        hosts to connect to, hosts to listen at; by default everything\n"
    "  --sandbox [mode=]on|auto[,paths.0=PATH...][,landlock=off][,seccomp=off]\n"
    "                        give up what is not needed: other paths than these (or those of the policy), other\n"
    "                        programs and processes\n"
    "  --limits [clients=N][,nodes=N][,memory=BYTES][,message-bytes=N]...\n"
    "                        how much clients may take; the members are those of LimitsOptions in the manual\n"
    "  -T, --trace [enable=]PATTERN[,events=FILE][,file=FILE]\n"
    "                        show the trace points whose names match, and those that a file lists, on standard error\n"
    "                        or in a file; \"help\" lists all of them\n"
    "  --metrics addr.type=unix,addr.path=PATH[,timeout=SECONDS]\n"
    "  --metrics addr.type=inet,addr.host=HOST,addr.port=PORT[,timeout=SECONDS]\n"
    "                        serve metrics over HTTP, at /metrics, in OpenMetrics form\n"
    "  --pidfile PATH        write the process id there, once everything is made\n"
    "  --daemonize           go to the background, once everything is made\n"
    "  --log [level=]LEVEL[,target=auto|stderr|json|journal][,fields=on|off]\n"
    "                        where the log goes, and in which form; \"auto\" is the journal of systemd where standard\n"
    "                        error leads there; with fields=on, lines end with what they are about (node=disk0)\n"
    "  --log-level LEVEL     what is written to standard error: error, warning (the default), info, or debug,\n"
    "                        which has each command and its reply, without secrets\n"
    "  -h, --help            show this and exit\n"
    "  -V, --version         show the version and exit\n";

void help_usage(void)
{
    fputs(usage, stdout);
    exit(EXIT_SUCCESS);
}

void help_version(void)
{
    const struct version_triple *qemu = daemon_version.qemu;
    printf("%s (interface of qemu-storage-daemon %lld.%lld.%lld)\n", daemon_version.package, (long long)qemu->major,
           (long long)qemu->minor, (long long)qemu->micro);
    exit(EXIT_SUCCESS);
}

void help_object(const char *text)
{
    object_print_help(text);
    exit(EXIT_SUCCESS);
}

void help_chardev(void)
{
    puts("Available chardev backend types:\n  socket\n  stdio");
    exit(EXIT_SUCCESS);
}

void help_trace(void)
{
    trace_print_names();
    exit(EXIT_SUCCESS);
}
