# What `cairnd --help` says of its options, as a list: "  --name ARGUMENTS", the text from column 25 on. Several names
# that follow each other share a text.

function item(text) {
    printf "%s\n.B %s\n", open ? ".TQ" : ".TP", breakable(text)
    open = 1
}

/^  -/ {
    if (substr($0, 24, 1) == " " && substr($0, 25, 1) ~ /[^ ]/) {
        name = substr($0, 3, 21)
        sub(/ +$/, "", name)
        item(name)
        line(substr($0, 25))
        open = 0
    } else {
        item(substr($0, 3))
    }
    next
}

/^            \[/ { # what did not fit in the line of the name
    sub(/^ +/, "")
    item("    " $0)
    next
}

/^                        / {
    line(substr($0, 25))
    open = 0
}
