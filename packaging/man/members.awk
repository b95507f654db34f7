# Members of the configuration and of what is in it, out of the manual in Markdown; types that are the arguments of
# commands are told there only.

function plain(text) {
    text = gensub_links(text)
    gsub(/`/, "", text)
    return text
}

# [`name`](#place) is name.
function gensub_links(text,    begin) {
    while (match(text, /\[`[^]]*`\]\([^)]*\)/)) {
        begin = substr(text, RSTART + 2, RLENGTH)
        sub(/`\].*/, "", begin)
        text = substr(text, 1, RSTART - 1) begin substr(text, RSTART + RLENGTH)
    }
    return text
}

/^### / {
    type = $2
    gsub(/`/, "", type)
    next
}

/^- `/ && type {
    members[type] = members[type] $0 "\n"
}

/^[A-Z]/ && type && !(type in about) && !/^\*\*/ {
    about[type] = $0
}

function print_members(of,    lines, count, i, name, rest) {
    count = split(members[of], lines, "\n")
    for (i = 1; i < count; i++) {
        name = lines[i]
        sub(/^- `/, "", name)
        rest = name
        sub(/`.*/, "", name)
        sub(/^[^`]*` ?/, "", rest)
        print ".TP"
        print ".B " roff(name)
        line(plain(rest))
        if (of == "CairnConfig" && match(rest, /\(#type-[A-Za-z]*\)/))
            parts[++parts_count] = substr(rest, RSTART + 7, RLENGTH - 8)
    }
}

END {
    print_members("CairnConfig")
    print ".SH TYPES"
    print "The others are the arguments of commands, in"
    print ".BR cairn\\-qmp (7)."
    for (part = 1; part <= parts_count; part++) {
        type = parts[part]
        if (type ~ /^(ObjectOptions|BlockdevOptions|BlockDirtyBitmapAdd|BlockExportOptions)$/ || done[type]++)
            continue
        print ".SS " type
        line(plain(about[type]))
        print_members(type)
    }
}
