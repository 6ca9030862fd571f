"""Real cells that nobody here wrote.

The `>>>` examples of the tutorial and howto pages of Debian's python3.11-doc,
each page in one session, each example a cell. Every example that doctest
passes under plain Python must show the same in Cellar; differences.json lists
those that do not, with the reason, and must be exactly right; and those that
may or may not.

    CELLAR_BIN=build/cellar python3 tests/e2e/corpus/run_corpus.py [PAGE...]
    PAGE is like tutorial/errors; the default is all.

Exit status: 0 all as listed; 1 something differs from the list.
"""

import glob
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import cellar_test
import compare
import examples

DOCS = "/usr/share/doc/python3.11/html/_sources"
PYTHON = "/usr/bin/python3"
SEEDS = range(1, 6)
CELL_SECONDS = 5
PAGE_SECONDS = 300


def pages():
    found = sorted(glob.glob(DOCS + "/tutorial/*.rst.txt")
                   + glob.glob(DOCS + "/howto/*.rst.txt"))
    if not found:
        sys.exit("no pages in %s: apt-get install python3.11-doc" % DOCS)
    return [path[len(DOCS) + 1:-len(".rst.txt")] for path in found]


def path_of(page):
    return os.path.join(DOCS, page + ".rst.txt")


def start_plain(page, seed, folder):
    """doctest's run of a page. Isolated like the worker (-I), but for the
    seed of hashes, which -I would not take from the environment."""
    return subprocess.Popen(
        [PYTHON, "-s", "-P", os.path.join(HERE, "plain.py"), path_of(page),
         str(seed)],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"HOME": folder, "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin",
             "PYTHONHASHSEED": str(seed)})


def run_plain(page):
    """What doctest says of each step: passed is passed under every seed."""
    with tempfile.TemporaryDirectory() as scratch:
        runs = []
        for seed in SEEDS:
            folder = os.path.join(scratch, str(seed))
            os.mkdir(folder)
            runs.append(start_plain(page, seed, folder))
        texts = [run.communicate(timeout=PAGE_SECONDS)[0] for run in runs]
    outcomes = [json.loads(text.splitlines()[-1]) for text in texts]
    return [dict(same[0], passed=all(one["passed"] for one in same))
            for same in zip(*outcomes)]


def run_cellar(steps, folder):
    """The result object of each step."""
    notebook = os.path.join(folder, "page.ipynb")
    with open(notebook, "w", encoding="utf-8") as file:
        file.write(examples.as_notebook(steps))
    done = cellar_test.run("run", "--json", "--keep-going", "--timeout",
                           "%ds" % CELL_SECONDS, notebook,
                           timeout=PAGE_SECONDS)
    if done.status not in (0, 1):
        sys.exit("cellar run: exit %d: %s" % (done.status, done.err))
    results = [json.loads(line) for line in done.out.splitlines()]
    if len(results) != len(steps):
        sys.exit("%d results for %d cells" % (len(results), len(steps)))
    return results


def judge(steps, plain, cellar):
    """(step, result, plain's text, kept, identical) for each that passed."""
    for step, outcome, result in zip(steps, plain, cellar):
        if step.counted and outcome["passed"]:
            yield (step, result, outcome["got"], compare.kept(step, result),
                   compare.identical(step, result, outcome["got"]))


def show(page, step, result, got):
    """A difference, for whoever has to find its reason."""
    print("%s line %d, example %s" % (page, step.line + 1, step.key()))
    print("  source: %r" % step.source[:300])
    print("  plain:  %r" % got[-300:])
    print("  cellar: %s %r %s" % (
        result["status"], compare.shown(result)[-300:],
        (result["error"] or {}).get("traceback", [])[-2:]))


def run_page(page, counts, listed):
    """Adds to `counts`; returns the keys of the examples that differ."""
    steps = examples.read_page(path_of(page))
    if not any(step.counted for step in steps):
        return []
    plain = run_plain(page)
    with tempfile.TemporaryDirectory() as folder:
        cellar = run_cellar(steps, folder)
    judged = list(judge(steps, plain, cellar))
    differing = [entry for entry in judged if not entry[3]]
    counts["pages"] += 1
    counts["examples"] += sum(step.counted for step in steps)
    counts["pass under doctest"] += len(judged)
    counts["same in Cellar"] += len(judged) - len(differing)
    counts["  of which to the byte"] += sum(e[3] and e[4] for e in judged)
    counts["differ"] += len(differing)
    for step, result, got, _, _ in differing:
        if (page, step.key()) not in listed:
            show(page, step, result, got)
    return [(page, step.key()) for step, *_ in differing]


def listed_differences(when):
    with open(os.path.join(HERE, "differences.json")) as file:
        return {(page, key) for keys in json.load(file)[when].values()
                for page, key in keys}


def complain(found, always, chosen):
    """Prints what the list lacks or has too much; whether it is right."""
    unlisted = sorted(set(found) - always - listed_differences("by chance"))
    stale = sorted(key for key in always - set(found) if key[0] in chosen)
    for page, key in unlisted:
        print("not in differences.json: %s %s" % (page, key))
    for page, key in stale:
        print("in differences.json, but does not differ: %s %s" % (page, key))
    return not unlisted and not stale


def main():
    chosen = sys.argv[1:] or pages()
    listed = listed_differences("always")
    counts = dict.fromkeys(["pages", "examples", "pass under doctest",
                            "same in Cellar", "  of which to the byte",
                            "differ"], 0)
    found = [key for page in chosen
             for key in run_page(page, counts, listed)]
    right = complain(found, listed, chosen)
    for name, count in counts.items():
        print("%-24s %5d" % (name, count))
    left = cellar_test.containers_left()
    print("%-24s %5d" % ("containers left", len(left)))
    return 0 if right and not left else 1


if __name__ == "__main__":
    sys.exit(main())
