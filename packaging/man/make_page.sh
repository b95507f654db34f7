#!/bin/sh
# make_page.sh PAGE SOURCE VERSION DATE: fills in the template PAGE.in, on standard output. SOURCE: the program that the page
# is about, whose help is the source of what it says, or the manual in Markdown.
set -eu
here=$(dirname "$0")
page=$1 source=$2 version=$3 date=$4

fill()
{
    awk -f "$here/roff.awk" -f "$here/$1"
}

part()
{
    case $page in
    cairnd.8) "$source" --help | fill options.awk ;;
    cairnctl.1)
        "$source" --help | sed -n '/^Subcommands:/,/^$/s/^  \([a-z-]*\) .*/\1/p' |
            while read -r subcommand; do
                "$source" "$subcommand" --help | fill subcommand.awk
            done
        ;;
    schemac.1) "$source" --help | fill usage.awk ;;
    cairn.yaml.5) fill members.awk <"$source" ;;
    esac
}

sed -e "s/@VERSION@/$version/" -e "s/@DATE@/$date/" -e '/^@PART@$/,$d' "$here/$page.in"
part
sed -e '1,/^@PART@$/d' "$here/$page.in"
