"""What the machine outside says: processes, memory and control groups of
sessions. Read from this machine's /proc: the engine must be a local one."""

import os
import re


def processes_by_uid():
    """{user id: ids of its processes}."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/status" % name, encoding="ascii",
                      errors="replace") as file:
                uid = re.search(r"^Uid:\t(\d+)", file.read(), re.M)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if uid:
            found.setdefault(int(uid.group(1)), []).append(int(name))
    return found


def processes_of(uid):
    """The ids of all processes of a session's own user id."""
    return processes_by_uid().get(uid, [])


def peak_rss(pid):
    """The most memory a process has had, in bytes; 0 when it is gone."""
    try:
        with open("/proc/%d/status" % pid, encoding="ascii") as file:
            peak = re.search(r"^VmHWM:\s+(\d+) kB", file.read(), re.M)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(peak.group(1)) << 10 if peak else 0


def control_groups():
    """The names of all control groups that are a container's: its id is a
    part of theirs, whichever driver or engine made them."""
    found = set()
    for _, folders, _ in os.walk("/sys/fs/cgroup"):
        for folder in folders:
            found.update(re.findall("[0-9a-f]{64}|oci-[0-9a-f]{28}", folder))
    return found
