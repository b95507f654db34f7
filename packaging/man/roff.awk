# Functions for the other scripts: text that means in a man page what it means in print.

function roff(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    gsub(/`/, "\\(ga", text)
    gsub(/'/, "\\(aq", text)
    gsub(/\^/, "\\(ha", text)
    gsub(/~/, "\\(ti", text)
    return text
}

# A line of text: what begins with a dot is no request.
function line(text) {
    text = roff(text)
    print (text ~ /^[.]/ ? "\\&" : "") text
}

# What has no blanks may be broken after a comma and a bar.
function breakable(text) {
    text = roff(text)
    gsub(/[,|]/, "&\\:", text)
    return text
}
