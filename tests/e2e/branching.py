"""What the tests of branches share: sessions that `cellar fork` made."""

import json

from cellar_test import Session, run, unique


class Branch(Session):
    """A session in the container that another one was started in."""

    def __init__(self, name, container):
        self.name = name
        self.place = container

    def container(self):
        return self.place

    def meet(self, mark, other):
        """Code that waits for the other one's `meet()` with this mark: both run
        at once."""
        return ("import os, time\nopen('/dev/shm/%s-%s', 'w').close()\n"
                "while not os.path.exists('/dev/shm/%s-%s'): time.sleep(0.01)\n"
                % (mark, self.name, mark, other.name))


def fork_to(live, *names):
    """`cellar fork --json` of a session; what it tells."""
    done = run("fork", "--json", live.name, *names)
    if (done.status, done.err) != (0, ""):
        raise AssertionError("cellar fork: %d %s" % (done.status, done.err))
    return json.loads(done.out)


def fork(live, count=1):
    """Branches of a session."""
    names = [unique("branch") for _ in range(count)]
    fork_to(live, *names)
    return [Branch(name, live.container()) for name in names]


def listed():
    """The names that `cellar ps` lists, each with what it tells."""
    return {s["name"]: s for s in json.loads(run("ps", "--json").out)}
