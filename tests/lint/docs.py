"""Checks of the pages: links lead somewhere, commands and files exist."""

import json
import re
import subprocess

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def anchors(path):
    """The anchors that a page's headings make, as the forges make them."""
    text = FENCE.sub("", path.read_text("utf-8"))
    titles = re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            for title in titles}


def links(tree):
    """Links within the tree lead to a file, and to a heading of it."""
    for page in tree.files(".md"):
        text = page.read_text("utf-8")
        for match in LINK.finditer(text):
            target, _, anchor = match[1].partition("#")
            if re.match(r"\w+:", match[1]):
                continue
            path = (page.parent / target).resolve() if target else page
            line = line_of(text, match.start())
            if not path.exists():
                tree.say(page, line, "no such file: " + match[1])
            elif anchor and anchor not in anchors(path):
                tree.say(page, line, "no such heading: " + match[1])


def snippets(text):
    """(line, code) of all that stands in code, in fences and inline."""
    for match in FENCE.finditer(text):
        first = line_of(text, match.start()) + 1
        for number, line in enumerate(match[2].splitlines(), first):
            yield number, re.sub(r"^\s*[$#] ", "", line)
    bare = FENCE.sub(lambda m: "\n" * m.group().count("\n"), text)
    for match in INLINE.finditer(bare):
        yield line_of(bare, match.start()), match[1]


def paths(tree):
    """A file of the tree that a page names is there."""
    named = re.compile(r"(?:include|proto|kernel|runtime-image|tests|docs|"
                       r"cmake|\.ci)/[\w./-]*\w")
    for page in tree.files(".md"):
        for number, code in snippets(page.read_text("utf-8")):
            if not named.fullmatch(code):
                continue
            if not (tree.root / code).exists():
                tree.say(page, number, "no such file: " + code)


class Help:
    """What `cellar --help` and `cellar COMMAND --help` tell, asked once."""

    def __init__(self, build):
        self.cellar = build + "/cellar"
        self.known = {}

    def of(self, *command):
        """None: there is no such command."""
        if command not in self.known:
            done = subprocess.run([self.cellar, *command, "--help"],
                                  stdin=subprocess.DEVNULL, timeout=60,
                                  stdout=subprocess.PIPE, text=True,
                                  stderr=subprocess.DEVNULL)
            self.known[command] = done.stdout if done.returncode == 0 else None
        return self.known[command]


def check_cellar(tree, help_, page, number, words):
    """`words` follow the word cellar."""
    command = words[:2] if words[:1] == ["image"] else words[:1]
    if not command or not re.fullmatch(r"[a-z]+", command[0]):
        command = []
    text = help_.of(*command)
    if text is None:
        tree.say(page, number, "no such command: cellar " + " ".join(command))
        return
    for word in words:
        option = re.match(r"(--?[a-zA-Z][\w-]*)", word)
        if word == "--":
            return
        if option and not re.search(r"(?<![\w-])%s(?![\w-])" %
                                    re.escape(option[1]), text):
            tree.say(page, number, "cellar %s has no %s" %
                     (" ".join(command), option[1]))


def check_preset(tree, page, number, code):
    presets = json.loads((tree.root / "CMakePresets.json").read_text())
    known = {entry["name"] for entry in presets["configurePresets"]}
    for name in re.findall(r"--preset[ =](\w+)", code):
        if name not in known:
            tree.say(page, number, "no such preset: " + name)


def commands(tree, build):
    """Every command of the pages exists, with every option it is given."""
    help_ = Help(build)
    if help_.of() is None:
        tree.findings.append("%s --help failed" % help_.cellar)
        return
    for page in tree.files(".md"):
        # The labels of the wire look like commands: `cellar hello`.
        if page.name == "PROTOCOL.md":
            continue
        for number, code in snippets(page.read_text("utf-8")):
            check_preset(tree, page, number, code)
            match = re.match(r"(?:\./)?(?:build/)?(cellar|quickstart)"
                             r"(?=$|[ ;|&])([^|;&>#]*)", code)
            if not match:
                continue
            words = match[2].split()
            if match[1] == "cellar":
                check_cellar(tree, help_, page, number, words)
            elif words[:1] not in ([], ["build"], ["test"], ["--help"],
                                   ["</dev/null"]):
                tree.say(page, number, "no such command: " + code)
