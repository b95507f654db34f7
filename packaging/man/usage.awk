# What `schemac --help` says: the usage as the synopsis, the list of modes and options as it is.

NR == 1 { sub(/^usage: /, "       ") }

/^       / && !described {
    line(substr($0, 8))
    next
}

/^$/ && !described {
    described = 1
    print ".EE\n.SH DESCRIPTION"
    next
}

/^  / {
    if (!kept)
        print ".PP\n.EX"
    kept = 1
    line($0)
    next
}

{
    if (kept)
        print ".EE"
    kept = 0
    if ($0 ~ /^Exit status: /) {
        sub(/^Exit status: /, "")
        print ".SH EXIT STATUS\n.EX"
    } else if ($0 == "") {
        next
    } else if (NR > 7) {
        print ".PP"
    }
    line($0)
}
