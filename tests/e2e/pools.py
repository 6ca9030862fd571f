"""What the tests of ready sessions share: how many stand ready, of whom each
container is, and what must hold of them at any moment."""

import glob
import json
import os

from cellar_test import STATE_DIR, containers_left, run, wait_for

SESSIONS = os.path.join(STATE_DIR, "sessions")


def rows():
    done = run("ps", "--json")
    if done.status != 0:
        raise AssertionError("cellar ps: " + done.err)
    return json.loads(done.out)


def ready():
    """The containers that stand ready."""
    return [row["container"] for row in rows() if row["state"] == "ready"]


def names():
    return [row["name"] for row in rows() if row["name"]]


def fill(count, *options):
    """Has `count` sessions stand ready; their containers."""
    done = run("pool", str(count), *options)
    if done.status != 0:
        raise AssertionError("cellar pool: " + done.err)
    return ready()


def settle(count):
    """Waits until what goes on in the background has come to its end."""
    wait_for(lambda: len(ready()) == count and not filling(), 120)


def filling():
    """Whether a process fills a pool: it has the lock of its file."""
    with open("/proc/locks", encoding="ascii") as file:
        held = {line.split()[5].rpartition(":")[2] for line in file
                if "->" not in line}
    return any(str(os.stat(path).st_ino) in held
               for path in glob.glob(os.path.join(STATE_DIR, "pools", "*")))


def empty():
    done = run("stop", "--all")
    if done.status != 0:
        raise AssertionError("cellar stop --all: " + done.err)


def recorded():
    """name -> record, reserved names too."""
    found = {}
    for path in record_paths():
        with open(path, encoding="utf-8") as file:
            found[os.path.basename(os.path.dirname(path))] = json.load(file)
    return found


def record_paths():
    if not os.path.isdir(SESSIONS):
        return []
    paths = [os.path.join(SESSIONS, name, "record.json")
             for name in os.listdir(SESSIONS)]
    return [path for path in paths if os.path.exists(path)]


def check_sound(test):
    """Every container is of one record at most, and has a key of its own."""
    records = recorded()
    for what in ("container", "key", "uid"):
        values = [record[what] for record in records.values()]
        test.assertEqual(len(values), len(set(values)), what)


def check_nothing_left(test):
    empty()
    wait_for(lambda: not containers_left())
    test.assertEqual([], record_paths())


def settle_all():
    wait_for(lambda: not filling(), 120)
