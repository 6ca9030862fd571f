"""Checks that other programs do: clang-format, clang-tidy, shellcheck, nm."""

import concurrent.futures
import json
import os
import re
import subprocess


def run(arguments, **options):
    return subprocess.run(arguments, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, timeout=600, **options)


def format(tree):
    """clang-format has nothing to change."""
    files = [str(path) for path in tree.files(".c", ".h")]
    done = run(["clang-format", "--style=file:%s/.clang-format" % tree.style,
                "--dry-run", "-Werror", *files])
    places = re.findall(r"^(.*?):(\d+):.*error:", done.stdout, re.MULTILINE)
    for name in sorted({name for name, _ in places}):
        lines = [line for named, line in places if named == name]
        tree.findings.append("%s: clang-format would change line %s" %
                             (name, ", ".join(lines[:8])))
    if done.returncode and not places:
        tree.findings.append(done.stdout)


def shell(tree):
    """shellcheck has nothing to say."""
    done = run(["shellcheck", *map(str, tree.scripts)], cwd=tree.root)
    if done.returncode:
        tree.findings.append(done.stdout)


def sources(tree, build):
    """The files of the tree that are compiled; each once."""
    with open(os.path.join(build, "compile_commands.json")) as file:
        named = {os.path.realpath(entry["file"]) for entry in json.load(file)}
    own = {str(path.resolve()) for path in tree.files(".c")}
    return sorted(named & own, key=os.path.getsize, reverse=True)


def tidy(tree, build):
    """clang-tidy (.clang-tidy) has nothing to say of what is compiled."""
    def one(source):
        return run(["clang-tidy", "--quiet", "-p", build, source])

    found = sources(tree, build)
    if not found:
        tree.findings.append("nothing to look at in " + build)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for source, done in zip(found, pool.map(one, found)):
            said = [line for line in done.stdout.splitlines()
                    if re.search(r"(error|warning): ", line)]
            if done.returncode and not said:
                said = ["%s: %s" % (source, done.stdout)]
            tree.findings += said
    tree.findings = sorted(set(tree.findings))


def symbols(tree, build):
    """What crosses a file is called cellar_...; what is public is exported."""
    archive = os.path.join(build, "lib", "libcellar.a")
    shared = os.path.join(build, "lib", "libcellar.so")
    listed = run(["nm", "--defined-only", "--extern-only", archive]).stdout
    names = set(re.findall(r" [A-Z] (\w+)$", listed, re.MULTILINE))
    for name in sorted(names):
        if not name.startswith("cellar_"):
            tree.findings.append("libcellar.a: %s is no cellar_ name" % name)
    listed = run(["nm", "--dynamic", "--defined-only", shared]).stdout
    exported = set(re.findall(r" [TDBR] (\w+)$", listed, re.MULTILINE))
    public = set()
    for header in (tree.root / "include/cellar").glob("*.h"):
        text = re.sub(r"/\*.*?\*/", "", header.read_text("utf-8"),
                      flags=re.DOTALL)
        public |= set(re.findall(r"CELLAR_API[^;(]*?\b(cellar_\w+)\(", text))
    for name in sorted(exported ^ public):
        tree.findings.append("libcellar.so: %s is %s" % (
            name, "not exported" if name in public else "not public"))
    if not public:
        tree.findings.append("no public names in include/cellar")
