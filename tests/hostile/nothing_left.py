#!/usr/bin/env python3
"""Looks at the machine before the tests and after them: whatever came and did
not go is a leak.

    nothing_left.py before FILE     notes what there is
    nothing_left.py after FILE      status 1: something is left, and what

Containers of Cellar's on the Docker Engine, the control groups of those of both
engines, processes of their user ids, folders of the tests, and whether the kernel ever ran out of memory as a whole
(in a session's control group it shall). Nobody else may use Cellar on the
machine meanwhile. A session that a killed command left goes with its lease.
"""

import glob
import json
import re
import subprocess
import sys
import time

import host

PATIENCE_S = 150  # more than the lease of a killed command's session


def said(*command):
    return subprocess.run(command, check=True, timeout=60, text=True,
                          stdout=subprocess.PIPE).stdout


def containers():
    """Names and ids of the containers that carry Cellar's labels."""
    return said("docker", "ps", "-a", "--no-trunc", "--filter",
                "label=io.cellar.owner", "--format",
                "container {{.Names}} {{.ID}}").splitlines()


def groups_without_container():
    alive = set(said("docker", "ps", "-aq", "--no-trunc").split())
    return ["control group " + name for name in host.control_groups() - alive]


def processes_without_container():
    uids = set(said("docker", "ps", "-a", "--filter", "label=io.cellar.uid",
                    "--format", '{{.Label "io.cellar.uid"}}').split())
    return ["process %d of user %d" % (pid, uid)
            for uid, pids in host.processes_by_uid().items()
            if 61001 <= uid <= 65533 and str(uid) not in uids
            for pid in pids]


def out_of_memory():
    """The kernel's words when it was the machine that had no memory left."""
    return [line for line in said("dmesg").splitlines()
            if "CONSTRAINT_NONE" in line]


def look():
    return set(containers() + groups_without_container() +
               processes_without_container() + out_of_memory() +
               glob.glob("/tmp/cellar-e2e-*"))


def after(before):
    deadline = time.monotonic() + PATIENCE_S
    left = look() - before
    while left and time.monotonic() < deadline:
        time.sleep(1)
        left = look() - before
    for what in sorted(left):
        print("left: " + what)
    return 1 if left else 0


def main():
    what, path = sys.argv[1:]
    if what == "before":
        with open(path, "w", encoding="utf-8") as file:
            json.dump(sorted(look()), file)
        return 0
    with open(path, encoding="utf-8") as file:
        return after(set(json.load(file)))


if __name__ == "__main__":
    sys.exit(main())
