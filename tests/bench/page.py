"""Writes the tables of docs/BENCHMARKS.md, its picture, and the costs in
docs/CHECKPOINTS.md from what `cellar bench` measured, so that no figure is
typed.

    python3 tests/bench/page.py          writes
    python3 tests/bench/page.py --check  says what is not as it would be written

The raw figures are docs/benchmarks/docker.json and oci.json (`cellar bench all
--json`, a line for each bench), scale-1000.json and scale-1000-oci.json.
"""

import json
import math
import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
RAW = DOCS / "benchmarks"
ENGINES = "docker", "oci"


def read(name):
    lines = (RAW / (name + ".json")).read_text("ascii").splitlines()
    return {told["bench"]: told for told in map(json.loads, lines)}


def seek(told, path):
    """`cell.p50_us`, `checkpoint.restores.1.back.p50_us`; None: not there."""
    for key in path.split("."):
        told = told[int(key)] if isinstance(told, list) else told.get(key)
        if told is None:
            return None
    return told


def time_of(us):
    for limit, divisor, unit in ((1e3, 1, "µs"), (1e6, 1e3, "ms")):
        if abs(us) < limit:
            return "%.3g %s" % (us / divisor, unit)
    return "%.3g s" % (us / 1e6)


def show(key, value):
    if value is None:
        return "–"
    if key.endswith("_us"):
        return time_of(value)
    if key.endswith("bytes_per_s"):
        return "%.0f MB/s" % (value / 1e6)
    if key.endswith("_per_s"):
        return "%.0f /s" % value if value < 1e5 else "%.2f M/s" % (value / 1e6)
    if "bytes" in key:
        return ("%.1f MB" % (value / 1e6) if value >= 1e6 else
                "%.1f KiB" % (value / 1024))
    return "%g" % value if value == int(value) else "%.2f" % value


# What, the goal in words, the figure, whether it has to stay below, and for
# each engine how far.
GOALS = (
    ("A cell `x+=1`", "at most this many times a bare echo on the same stream",
     "cell.ratio_to_bare", True, (1.5, 3)),
    ("", "so many times faster than ipykernel",
     "cell.ipykernel_to_cellar", False, (20, 30)),
    ("First result of a new session", "a bare container's start, and at most",
     "start.added_us", True, (25e3, 15e3)),
    ("The same out of a pool", "at most", "pool.p50_us", True, (2e3, 2e3)),
    ("", "under a name, which is recorded, at most", "pool.named_p50_us", True,
     (2e3, 2e3)),
    ("50 MB of stdout, lines of 1 KB", "so much of the bare stream",
     "output.ratio_to_bare", False, (0.6, 0.6)),
    ("", "so many times ipykernel's", "output.ratio_to_ipykernel", False,
     (2, 4)),
    ("Memory inside, idle", "agent and worker, PSS, at most",
     "memory.pss_bytes", True, (12e6, 12e6)),
    ("Memory on the host", "of the supervisor for an idle session, at most",
     "memory.host_bytes", True, (65536, 65536)),
    ("Back from a crash, 100 MB of state", "to the next cell, at most",
     "checkpoint.restores.1.back.p50_us", True, (5e3, 5e3)),
    ("A checkpoint after a cell", "adds nothing before the reply: a cell with "
     "them to one without, 10 ms apart",
     "checkpoint.paused.ratio_to_off", True, (1.1, 1.1)),
)


def goals(told):
    yield "| What | Goal | Docker | | oci | |"
    yield "|---|---|---|---|---|---|"
    for what, words, path, below, limits in GOALS:
        row = "| %s | %s " % (what, words)
        for engine, limit in zip(ENGINES, limits):
            value = seek(told[engine], path)
            met = value is not None and (value <= limit if below else
                                         value >= limit)
            row += "| %s (%s) | %s " % (show(path, value), show(path, limit),
                                        "met" if met else "**missed**")
        yield row + "|"


# Bench, heading, (what, key) of each row.
TABLES = (
    ("cell", "A cell, and what it is compared with", (
        ("bare echo, same stream, p50", "bare_p50_us"),
        ("bare echo, p99", "bare_p99_us"),
        ("cell `x+=1`, p50", "p50_us"),
        ("cell `x+=1`, p99", "p99_us"),
        ("the same in a named session, p50", "named_p50_us"),
        ("with checkpoints, back to back, p50", "kept_p50_us"),
        ("with checkpoints, 10 ms apart, p50", "paused_p50_us"),
        ("bare echo, 10 ms apart, p50", "paused_bare_p50_us"),
        ("ipykernel, p50", "ipykernel_p50_us"),
        ("ipykernel, p99", "ipykernel_p99_us"))),
    ("start", "A start, to the first result", (
        ("bare container, to its first echo, p50", "bare_p50_us"),
        ("a new session, p50", "p50_us"),
        ("a new session, p99", "p99_us"),
        ("ipykernel, p50", "ipykernel_p50_us"))),
    ("pool", "Out of a pool", (
        ("taken, p50", "take_p50_us"),
        ("taken, to the first result, p50", "p50_us"),
        ("taken, to the first result, p99", "p99_us"),
        ("taken under a name, p50", "named_take_p50_us"),
        ("taken under a name, to the first result, p50", "named_p50_us"),
        ("taken under a name, to the first result, p99", "named_p99_us"))),
    ("output", "50 MB of stdout in lines of 1 KB", (
        ("bare process", "bare_bytes_per_s"),
        ("cell", "bytes_per_s"),
        ("ipykernel", "ipykernel_bytes_per_s"))),
    ("memory", "Memory", (
        ("a new session: agent", "agent_pss_bytes"),
        ("a new session: worker", "worker_pss_bytes"),
        ("after a cell, with its checkpoint, in all", "kept_pss_bytes"),
        ("of the supervisor, an idle session", "host_bytes"),
        ("ipykernel, idle", "ipykernel_pss_bytes"))),
    ("checkpoint", "Checkpoints", (
        ("cell 10 ms after another, without, p50", "paused.off.p50_us"),
        ("the same with checkpoints, p50", "paused.auto.p50_us"),
        ("back from a crash, 10 MB of state, p50",
         "restores.0.back.p50_us"),
        ("back from a crash, 100 MB of state, p50",
         "restores.1.back.p50_us"),
        ("back from a crash, 1 GB of state, p50",
         "restores.2.back.p50_us"),
        ("ten branches of 100 MB, p50", "fork.all.p50_us"))),
    ("hostile", "Beside two floods", (
        ("`1+1` alone, p50", "alone.p50_us"),
        ("`1+1` beside them, p50", "beside.p50_us"),
        ("`1+1` beside them, p99", "beside.p99_us"),
        ("an interrupt of a flood, p50", "interrupt.p50_us"),
        ("peak memory of the supervisor", "peak_rss_bytes"))),
)

CODEC = (
    ("packed and signed", "write"), ("verified and parsed", "read"),
    ("libsodium alone, signing", "sign"), ("`memcpy()` alone", "copy"))

SCALE = (
    ("start, all at once: p50", "start.p50_us"),
    ("all are ready after", "start_all_us"),
    ("a cell, one session after the other, p50", "in_turn.p50_us"),
    ("the same, p99", "in_turn.p99_us"),
    ("a cell, all at once, p50", "at_once.p50_us"),
    ("cells in all, at once", "cells_per_s"),
    ("an interrupt, all at once, p50", "interrupt.p50_us"),
    ("inside, of each (PSS, with a checkpoint)", "pss_bytes_per_session"),
    ("of the supervisor, for each", "memory_bytes_per_session"),
    ("of the machine, for each, all counted", "machine_bytes_per_session"),
    ("failures", "failures"))


def tables(told):
    for bench, heading, rows in TABLES:
        yield "| %s | Docker | oci |" % heading
        yield "|---|---|---|"
        for what, key in rows:
            yield "| %s | %s |" % (what, " | ".join(
                show(key, seek(told[engine], bench + "." + key))
                for engine in ENGINES))
        yield ""
    yield "| The codec | 200 B | 64 KB |"
    yield "|---|---|---|"
    for what, step in CODEC:
        codec = told["docker"]["codec"]
        yield "| %s | %s | %s |" % (
            what, show("_per_s", codec["200b_%s_per_s" % step]),
            show("bytes_per_s", codec["64k_%s_bytes_per_s" % step]))


def scale(docker, oci):
    yield "| %d sessions of one supervisor, %d rounds | Docker | oci |" % (
        docker["sessions"], docker["cells"])
    yield "|---|---|---|"
    for what, key in SCALE:
        yield "| %s | %s |" % (what, " | ".join(
            show(key, seek(told, key)) for told in (docker, oci)))


# What a checkpoint costs: (what, keys beside each other, how they are shown).
COSTS = (
    ("a cell, 10 ms after the one before, with 10 MB of state: `auto` beside "
     "`off`", ("paused.auto.p50_us", "paused.off.p50_us",
               "paused.ratio_to_off"), "%s beside %s: %s times"),
    ("cells back to back: each waits until the one before is copied",
     ("back_to_back.auto.p50_us", "back_to_back.off.p50_us",
      "back_to_back.ratio_to_off"), "%s beside %s: %s times"),
    ("from a crash to the next cell's result, with 10, 100, 1,000 MB of state",
     ("restores.0.back.p50_us", "restores.1.back.p50_us",
      "restores.2.back.p50_us"), "%s, %s, %s"),
    ("ten branches of 100 MB, until all are there", ("fork.all.p50_us",),
     "%s"),
    ("the first contact with one of them; its first cell",
     ("fork.adopt.p50_us", "fork.cell.p50_us"), "%s; %s"))


def costs(told):
    yield "| | Docker | oci |"
    yield "|---|---|---|"
    for what, keys, form in COSTS:
        yield "| %s | %s |" % (what, " | ".join(
            form % tuple(show(key, seek(told[engine]["checkpoint"], key))
                         for key in keys) for engine in ENGINES))


# ------------------------------------------------------------- the picture --

BARE, OWN, PEER = "#9aa5b1", "#2b6cb0", "#c05621"
COLOURS = (("the bare thing", BARE), ("Cellar", OWN), ("ipykernel", PEER))

GROUPS = (
    ("A cell", (
        ("bare echo, pipes", "oci", "cell.bare_p50_us", BARE),
        ("cell, oci", "oci", "cell.p50_us", OWN),
        ("bare echo, Docker's stream", "docker", "cell.bare_p50_us", BARE),
        ("cell, Docker", "docker", "cell.p50_us", OWN),
        ("cell, ipykernel", "docker", "cell.ipykernel_p50_us", PEER))),
    ("A new session", (
        ("out of a pool, oci", "oci", "pool.p50_us", OWN),
        ("out of a pool, Docker", "docker", "pool.p50_us", OWN),
        ("bare container, oci", "oci", "start.bare_p50_us", BARE),
        ("started, oci", "oci", "start.p50_us", OWN),
        ("bare container, Docker", "docker", "start.bare_p50_us", BARE),
        ("started, Docker", "docker", "start.p50_us", OWN),
        ("new kernel, ipykernel", "docker", "start.ipykernel_p50_us", PEER))),
)

LEFT, WIDTH, ROW, TOP, LOW, HIGH = 210, 640, 24, 66, 1, 1e7


def along(us):
    return LEFT + WIDTH * (math.log10(us / LOW) / math.log10(HIGH / LOW))


def text(x, y, words, more=""):
    return '<text x="%g" y="%g"%s>%s</text>' % (x, y, more and " " + more,
                                              words)


def box(x, y, width, height, colour):
    return '<rect x="%g" y="%g" width="%.1f" height="%g" fill="%s"/>' % (
        x, y, width, height, colour)


def legend():
    for i, (words, colour) in enumerate(COLOURS):
        yield box(LEFT + 310 + 130 * i, 7, 12, 12, colour)
        yield text(LEFT + 328 + 130 * i, 18, words)


def scale_lines(height):
    for power in range(8):
        x = round(along(10 ** power), 1)
        yield '<path d="M%g %d V%d" stroke="#e2e8f0"/>' % (x, TOP - 18,
                                                           height - 8)
        yield text(x, TOP - 24, time_of(10 ** power),
                   'text-anchor="middle" fill="#666"')


def bars(told):
    """(y, what is drawn there), from above."""
    y = TOP
    for heading, group in GROUPS:
        yield y, text(LEFT - 8, y, heading,
                      'text-anchor="end" font-weight="bold"')
        y += 8
        for words, engine, path, colour in group:
            value = seek(told[engine], path)
            if value is None:
                continue
            yield y, text(LEFT - 8, y + 13, words, 'text-anchor="end"')
            yield y, box(LEFT, y + 1, along(value) - LEFT, ROW - 7, colour)
            yield y, text(round(along(value), 1) + 6, y + 13, time_of(value))
            y += ROW
        y += ROW
    yield y, ""


def picture(told):
    drawn = list(bars(told))
    height = drawn[-1][0] - 6
    yield ('<svg xmlns="http://www.w3.org/2000/svg" width="960" height="%d" '
           'viewBox="0 0 960 %d" font-family="sans-serif" font-size="13" '
           'role="img">' % (height, height))
    yield "<title>Times to a result, on a logarithmic scale</title>"
    yield '<rect width="100%" height="100%" fill="#fff"/>'
    yield text(LEFT, 18, "Time to a result: median, logarithmic",
               'font-weight="bold"')
    yield from legend()
    yield from scale_lines(height)
    yield from (shape for _, shape in drawn if shape)
    yield "</svg>"


# ---------------------------------------------------------------- the page --


def filled(page, parts):
    for name, lines in parts.items():
        mark = re.compile(r"(<!-- %s -->\n).*?(<!-- end -->)" % name,
                          re.DOTALL)
        text = "\n".join(lines) + "\n"
        page, count = mark.subn(lambda m: m[1] + text + m[2], page)
        if count != 1:
            raise SystemExit("the page has no place for " + name)
    return page


def main():
    told = {engine: read(engine) for engine in ENGINES}
    page, costs_page = DOCS / "BENCHMARKS.md", DOCS / "CHECKPOINTS.md"
    written = {
        page: filled(page.read_text("utf-8"), {
            "goals": goals(told), "tables": tables(told),
            "scale": scale(read("scale-1000")["scale"],
                           read("scale-1000-oci")["scale"])}),
        costs_page: filled(costs_page.read_text("utf-8"),
                           {"costs": costs(told)}),
        RAW / "times.svg": "\n".join(picture(told)) + "\n"}
    for path, text in written.items():
        if sys.argv[1:] != ["--check"]:
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            raise SystemExit("%s is not what its figures make: write it with "
                             "python3 tests/bench/page.py" % path)


if __name__ == "__main__":
    main()
