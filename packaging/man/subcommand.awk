# What `cairnctl SUBCOMMAND --help` says, as a section: usage, summary, text; what is indented is kept as it is.

function literal(wanted) {
    if (wanted && !kept)
        print ".PP\n.EX"
    if (!wanted && kept)
        print ".EE"
    kept = wanted
}

NR == 1 {
    sub(/^usage: cairnctl \[-s SOCKET\] /, "")
    sub(/ $/, "")
    print ".SS " breakable($0)
    next
}

/^$/ {
    literal(0)
    paragraph = 1
    next
}

/^ / {
    literal(1)
    line($0)
    next
}

{
    literal(0)
    if (paragraph && NR > 3)
        print ".PP"
    paragraph = 0
    if (NR == 3)
        $0 = toupper(substr($0, 1, 1)) substr($0, 2) "."
    line($0)
}

END { literal(0) }
