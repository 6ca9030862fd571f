# Makes cellar(3) from the public headers: comments become text, what is
# indented in them and the declarations become examples. Any POSIX awk does.

function roff(text)
{
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    if (text ~ /^[.']/)
        text = "\\\\\\&" text
    return text
}

function mode(wanted)
{
    if (state == wanted)
        return
    if (state == "code")
        print ".EE\n.in"
    if (wanted == "code")
        print ".PP\n.in +4n\n.EX"
    else if (wanted == "text")
        print ".PP"
    state = wanted
}

# Blank lines end a paragraph, but are kept within code.
function blank()
{
    if (state == "code")
        held = held "\n"
    else
        state = ""
}

function code(line)
{
    mode("code")
    printf "%s%s\n", held, roff(line)
    held = ""
}

function text(line)
{
    held = ""
    mode("text")
    sub(/^ +/, "", line)
    print roff(line)
}

function comment_line(line)
{
    if (line ~ /^ [*]/)
        line = substr(line, 3)
    sub(/^ /, "", line)
    if (line ~ /^ *$/)
        blank()
    else if (line ~ /^    /)
        code(substr(line, 5))
    else
        text(line)
}

function section(title)
{
    mode("")
    held = ""
    print ".SH " toupper(title)
}

BEGIN {
    printf ".TH CELLAR 3 \"\" \"cellar %s\" \"Library Functions Manual\"\n", \
        version
    print ".SH NAME\ncellar \\- run Python that nobody should trust"
    print ".SH SYNOPSIS\n.EX"
    print "#include <cellar/cellar.h>\n"
    print "cc prog.c $(pkg\\-config \\-\\-cflags \\-\\-libs cellar)"
    print "cc prog.c $(pkg\\-config \\-\\-cflags \\-\\-libs cellar\\-static)"
    print ".EE"
}

FNR == 1 {
    file = FILENAME
    sub(/.*\//, "", file)
    title["cellar.h"] = "description"
    title["history.h"] = "history"
    title["ending.h"] = "how a cell ends"
    title["error.h"] = "errors"
    section(title[file])
}

# What only the compiler needs.
/^#(include|endif|else|ifdef|ifndef|if)/ || /^#define CELLAR_[A-Z]+_H$/ { next }
/^extern "C"/ { skip = 1; next }
skip && /^}$/ { skip = 0; next }

/^\/[*] -+ .* -+ [*]\/$/ {
    line = $0
    gsub(/^\/[*] -+ | -+ [*]\/$/, "", line)
    section(line)
    next
}

/^\/[*]/ {
    blank()
    line = substr($0, 3)
    inside = line !~ /[*]\/ *$/
    sub(/ *[*]\/ *$/, "", line)
    comment_line(line)
    next
}

inside {
    line = $0
    inside = line !~ /[*]\/ *$/
    sub(/ *[*]\/ *$/, "", line)
    comment_line(line)
    next
}

/^ *$/ { blank(); next }

{
    gsub(/CELLAR_API |CELLAR_CHECK /, "")
    sub(/^CELLAR_API$|^CELLAR_CHECK$/, "")
    code($0)
}

END {
    mode("")
    print ".SH SEE ALSO\n.BR cellar (1)"
}
