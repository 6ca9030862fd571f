"""Checks of the text alone: words, lengths, guards, folders, paths."""

import ast
import re

from tree import code_only

LINES_MAX = 600

# What has a better way, and which.
BANNED = {
    "goto": "cleanup attributes", "strcpy": "snprintf", "strcat": "snprintf",
    "strncpy": "snprintf", "strncat": "snprintf", "sprintf": "snprintf",
    "vsprintf": "vsnprintf", "strtok": "strcspn", "strtok_r": "strcspn",
    "atoi": "strtoull", "atol": "strtoull", "atoll": "strtoull",
    "atof": "strtod", "gets": "fgets", "system": "posix_spawn",
    "popen": "posix_spawn", "alloca": "malloc", "tmpnam": "mkstemp",
    "mktemp": "mkstemp",
}

# A library is known by one file, which others may use instead.
KNOWN_BY = {
    "curl/": r"kernel/engine/docker/http\w*\.[ch]",
    "uv.h": r"kernel/loop\.c",
    "archive": r"kernel/image/(context|unpack)\.c",
    "editline/|histedit": r"kernel/cli/\w+\.c",
    "seccomp.h": r"runtime-image/launcher/\w+\.c",
    "linux/landlock": r"runtime-image/launcher/\w+\.c",
    "Python.h": r"runtime-image/worker/\w+\.[ch]",
    "msgpack": r"proto/(message|scan)\w*\.[ch]",
    "sqlite3": r"kernel/journal_private\.h",
}

# Whom a folder may include; proto/ is pure, a peer is never trusted.
MAY_NOT_INCLUDE = {
    "include/": r"proto/|kernel/|runtime-image/",
    "proto/": r"kernel/|runtime-image/|stdio\.h|unistd\.h|time\.h|fcntl\.h|"
              r"sys/",
    "kernel/": r"runtime-image/",
    "runtime-image/": r"kernel/",
}

MACHINE = re.compile(r"/home/\w|/Users/\w|/work/|\.pyenv|/tmp/w/")


def name_of(tree, path):
    return path.relative_to(tree.root).as_posix()


def each_line(path):
    return enumerate(path.read_text("utf-8", "replace").splitlines(), 1)


def words(tree):
    """Banned calls in C; unfinished business everywhere."""
    call = re.compile(r"\b(goto\b|(?:%s)(?=\s*\())" %
                      "|".join(w for w in BANNED if w != "goto"))
    for path in tree.files(".c", ".h"):
        code = code_only(path.read_text("utf-8")).splitlines()
        for number, line in enumerate(code, 1):
            for word in call.findall(line):
                tree.say(path, number, "%s is banned; use %s" %
                         (word, BANNED[word]))
    unfinished = re.compile(r"\b(%s)\b" % "|".join(("TO" "DO", "FIX" "ME",
                                                   "XX" "X", "HA" "CK")))
    for path in tree.files(".c", ".h", ".py", ".sh", ".md", ".txt", ".cmake"):
        for number, line in each_line(path):
            if unfinished.search(line):
                tree.say(path, number, "unfinished: " + line.strip())


def length(tree):
    """No file over 600 lines."""
    for path in tree.files(".c", ".h", ".py", ".sh", ".cmake") + tree.scripts:
        count = sum(1 for _ in each_line(path))
        if count > LINES_MAX:
            tree.say(path, count, "%d lines; at most %d" % (count, LINES_MAX))


def guards(tree):
    """Every header is guarded by a name of its own."""
    seen = {}
    for path in tree.files(".h"):
        text = code_only(path.read_text("utf-8"))
        match = re.match(r"\s*#ifndef (\w+)\n#define (\w+)\n", text)
        stem = re.sub(r"\W", "_", path.stem).upper()
        if not match or match[1] != match[2]:
            tree.say(path, 1, "no header guard before all else")
        elif not re.fullmatch(r"CELLAR_(\w+_)?%s_H" % stem, match[1]):
            tree.say(path, 1, "guard %s is not CELLAR_..._%s_H" %
                     (match[1], stem))
        elif match[1] in seen:
            tree.say(path, 1, "guard of " + seen[match[1]])
        else:
            seen[match[1]] = name_of(tree, path)


def includes(tree):
    """Folders keep their distance; a library is known by one file."""
    include = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
    for path in tree.files(".c", ".h"):
        name = name_of(tree, path)
        if not name.startswith(tuple(MAY_NOT_INCLUDE)):
            continue
        folder = name[:name.index("/") + 1]
        for number, line in each_line(path):
            match = include.match(line)
            if not match:
                continue
            if re.match(MAY_NOT_INCLUDE[folder], match[1]):
                tree.say(path, number, "%s may not include %s" %
                         (folder, match[1]))
            for library, files in KNOWN_BY.items():
                if re.match(library, match[1]) and \
                        not re.fullmatch(files, name):
                    tree.say(path, number, "%s is for %s alone" %
                             (match[1], files))


def machine(tree):
    """No path of somebody's machine."""
    for path in tree.all_files:
        if path.parent.name == "lint" or path.suffix in (".png", ".bin"):
            continue
        for number, line in each_line(path):
            if MACHINE.search(line):
                tree.say(path, number, "a path of a machine: " + line.strip())


def python(tree):
    """Python parses; what runs inside a container, under 3.8 too."""
    for path in tree.files(".py"):
        inside = name_of(tree, path).startswith("runtime-image/")
        try:
            ast.parse(path.read_text("utf-8"), str(path),
                      feature_version=(3, 8) if inside else None)
        except SyntaxError as error:
            tree.say(path, error.lineno or 1, str(error))
