"""What the tests of ready sessions share: how many stand ready, of whom each
container is, and what must hold of them at any moment."""

import glob
import json
import os

from cellar_test import CELLAR, STATE_DIR, containers_left, run, wait_for

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
    wait_for(lambda: len(ready()) == count and not filling(), 20)


def filling():
    """Whether a command goes on in the background."""
    ours = b"CELLAR_STATE_DIR=" + os.fsencode(STATE_DIR)
    exe = os.path.realpath(CELLAR)
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                if (ours in file.read().split(b"\0") and
                        os.readlink(os.path.dirname(path) + "/exe") == exe):
                    return True
        except OSError:
            pass  # it has ended
    return False


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
    wait_for(lambda: not filling(), 20)
