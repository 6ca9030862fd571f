# From the texts of --help, as man1.sh collects them, to roff. A line that
# begins with two spaces and a word or an option is an entry; what is indented
# deeper goes on with it.

function roff(text)
{
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    if (text ~ /^[.']/)
        text = "\\&" text
    return text
}

function entry(line,    split_at)
{
    sub(/^ +/, "", line)
    split_at = match(line, /  +/)
    # "-e, --engine ENGINE     what it is"; the text may be on the next line.
    print ".TP"
    if (split_at == 0) {
        print "\\fB" roff(line) "\\fR"
        return
    }
    print "\\fB" roff(substr(line, 1, split_at - 1)) "\\fR"
    print roff(substr(line, split_at + RLENGTH))
}

NR == 1 {
    printf ".TH CELLAR 1 \"\" \"cellar %s\" \"User Commands\"\n", $NF
    print ".SH NAME\ncellar \\- run Python that nobody should trust"
    next
}

/^@command / {
    if (!detailed)
        print ".SH THE COMMANDS"
    detailed = 1
    skip = 0
    print ".SS cellar " $2
    next
}

/^usage: / {
    sub(/^usage: /, "")
    if (!detailed)
        print ".SH SYNOPSIS"
    print ".B " roff($0)
    if (!detailed)
        print ".SH DESCRIPTION"
    next
}

# Told once, of all commands.
/^options of every command:/ { skip = detailed }
skip {
    skip = $0 !~ /^$/
    next
}

/^[a-z][a-z ]*:$/ {
    if (detailed)
        print ".PP"
    else {
        sub(/:$/, "")
        print ".SH " toupper($0)
    }
    next
}

/^exit status: / && !detailed {
    sub(/^exit status: /, "")
    print ".SH EXIT STATUS\n" roff($0)
    next
}

/^$/ { print ".PP"; next }
/^  [^ ]/ || /^      --/ { entry($0); next }
{ sub(/^ +/, ""); print roff($0) }

END { print ".SH SEE ALSO\n.BR cellar (3)" }
