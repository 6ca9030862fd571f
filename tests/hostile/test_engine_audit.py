"""What others would look for in a container: the CIS Docker Benchmark's section
5, and what container escape enumerators such as deepce ask from inside. Both
are written down here after their texts. What they would warn of is explained
in docs/SECURITY.md, row by row, and nothing else is."""

import json
import os
import re
import unittest

from hostile import HostileTest
from cellar_test import OCI, docker, needs_docker

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                    "..", "..", "docs", "SECURITY.md")

SENSITIVE = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr",
             "/var", "/run")


def mounts(seen):
    return [m["Source"] for m in seen["Mounts"]] + [
        b.split(":")[0] for b in seen["HostConfig"]["Binds"] or []]


def empty(*path):
    def check(seen):
        for name in path:
            seen = seen[name]
        return not seen
    return check


def not_host(field):
    return lambda seen: seen["HostConfig"][field] != "host"


# Section 5 of the CIS Docker Benchmark: number, what it asks, whether the
# container, as the engine tells it, satisfies it. `seen` is the inspection,
# `info` what the engine says of itself, `top` the container's processes.
CIS = {
    "5.1": ("an AppArmor profile",
            lambda seen, info, top: seen["AppArmorProfile"] not in (
                "", "unconfined")),
    "5.2": ("an SELinux label",
            lambda seen, info, top: "name=selinux" in "".join(
                info["SecurityOptions"]) and seen["ProcessLabel"] != ""),
    "5.3": ("capabilities are restricted",
            lambda seen, info, top: seen["HostConfig"]["CapDrop"] == ["ALL"]
            and not seen["HostConfig"]["CapAdd"]),
    "5.4": ("not privileged",
            lambda seen, info, top: not seen["HostConfig"]["Privileged"]),
    "5.5": ("no sensitive folder of the host is mounted",
            lambda seen, info, top: not set(mounts(seen)) & set(SENSITIVE)),
    "5.6": ("no sshd runs inside",
            lambda seen, info, top: "sshd" not in top),
    "5.7": ("no privileged port is mapped",
            lambda seen, info, top: empty("HostConfig", "PortBindings")(seen)),
    "5.8": ("no port is open that is not needed",
            lambda seen, info, top: empty("NetworkSettings", "Ports")(seen)
            and not seen["HostConfig"]["PublishAllPorts"]),
    "5.9": ("a network namespace of its own",
            lambda seen, info, top: not_host("NetworkMode")(seen)),
    "5.10": ("memory is limited",
             lambda seen, info, top: seen["HostConfig"]["Memory"] > 0),
    "5.11": ("CPU shares are set",
             lambda seen, info, top: seen["HostConfig"]["CpuShares"]
             not in (0, 1024)),
    "5.12": ("the root file system is read-only",
             lambda seen, info, top: seen["HostConfig"]["ReadonlyRootfs"]),
    "5.13": ("incoming traffic is bound to one interface",
             lambda seen, info, top: empty("HostConfig", "PortBindings")(
                 seen)),
    "5.14": ("restarts, if any, only on failure and 5 times",
             lambda seen, info, top: seen["HostConfig"]["RestartPolicy"][
                 "Name"] in ("", "no")),
    "5.15": ("a PID namespace of its own",
             lambda seen, info, top: not_host("PidMode")(seen)),
    "5.16": ("an IPC namespace of its own",
             lambda seen, info, top: not_host("IpcMode")(seen)),
    "5.17": ("no device of the host",
             lambda seen, info, top: empty("HostConfig", "Devices")(seen)),
    "5.18": ("ulimits of its own",
             lambda seen, info, top: bool(seen["HostConfig"]["Ulimits"])),
    "5.19": ("no shared mount propagation",
             lambda seen, info, top: all(m["Propagation"] != "shared"
                                         for m in seen["Mounts"])),
    "5.20": ("a UTS namespace of its own",
             lambda seen, info, top: not_host("UTSMode")(seen)),
    "5.21": ("seccomp is not disabled",
             lambda seen, info, top: any(
                 o.startswith("seccomp=") and "unconfined" not in o
                 for o in seen["HostConfig"]["SecurityOpt"] or [])),
    "5.22": ("nobody runs docker exec, privileged",
             lambda seen, info, top: not seen["ExecIDs"]),
    "5.23": ("nobody runs docker exec, as root",
             lambda seen, info, top: not seen["ExecIDs"]),
    "5.24": ("its control group is the engine's choice",
             lambda seen, info, top: not seen["HostConfig"]["CgroupParent"]),
    "5.25": ("no new privileges",
             lambda seen, info, top: any(
                 o.startswith("no-new-privileges") and "false" not in o
                 for o in seen["HostConfig"]["SecurityOpt"] or [])),
    "5.26": ("its health is checked",
             lambda seen, info, top: seen["State"].get("Health") is not None),
    "5.27": ("the image is named by more than 'latest'",
             lambda seen, info, top: not seen["Config"]["Image"].endswith(
                 ":latest") and ":" in seen["Config"]["Image"]),
    "5.28": ("processes are limited",
             lambda seen, info, top: (seen["HostConfig"]["PidsLimit"] or 0) > 0),
    "5.29": ("not on the bridge docker0",
             lambda seen, info, top: set(seen["NetworkSettings"][
                 "Networks"]) <= {"none"}),
    "5.30": ("the host's user namespace is not asked for",
             lambda seen, info, top: not_host("UsernsMode")(seen)),
    "5.31": ("the engine's socket is not inside",
             lambda seen, info, top: not any("docker.sock" in m
                                             for m in mounts(seen))),
}

# Of the machine, not of the container: whether it has AppArmor or SELinux, and
# how its engine stores images.
OF_THE_MACHINE = {"5.1", "5.2", "host_paths"}

# On oci, of what is installed there.
OF_ITS_USR = {"sudo", "setuid", "tools", "interpreters"}

# What escape enumerators ask from inside; each gives what it found, or "".
INSIDE = r"""
import glob, os, re, shutil, socket, stat

def text(path):
    try:
        with open(path, errors='replace') as file: return file.read()
    except OSError: return ''

def field(name):
    found = re.search('^%s:\t(.*)$' % name, text('/proc/self/status'), re.M)
    return found.group(1) if found else '?'

def writable(*paths):
    return ' '.join(p for p in paths if os.access(p, os.W_OK))

def there(*patterns):
    return ' '.join(p for pattern in patterns for p in glob.glob(pattern))

def setuid_files():
    found = []
    for root in '/bin', '/sbin', '/usr', '/lib', '/opt', '/cellar':
        for folder, _, names in os.walk(root):
            for name in names:
                try: mode = os.lstat(os.path.join(folder, name)).st_mode
                except OSError: continue
                if stat.S_ISREG(mode) and mode & (stat.S_ISUID |
                                                  stat.S_ISGID):
                    found.append(os.path.join(folder, name))
    return ' '.join(found)

def reachable():
    found = []
    for host in ('172.17.0.1', '169.254.169.254', '127.0.0.1', '10.0.0.1'):
        for port in (22, 80, 443, 2375, 2376, 6443, 10250):
            with socket.socket() as s:
                s.settimeout(0.2)
                try: s.connect((host, port))
                except OSError: continue
                found.append('%s:%d' % (host, port))
    return ' '.join(found)

def mount_sources():
    # Other than memory, /proc, /sys and the image.
    found = []
    for line in text('/proc/self/mountinfo').splitlines():
        left, right = line.split(' - ')
        kind = right.split()[0]
        if kind not in ('tmpfs', 'proc', 'sysfs', 'cgroup', 'cgroup2',
                        'devpts', 'mqueue', 'overlay', 'devtmpfs'):
            found.append(left.split()[4])
    return ' '.join(p for p in found if p not in (
        '/etc/hosts', '/etc/hostname', '/etc/resolv.conf'))

checks = {
    'root': 'uid 0' if 0 in (os.getuid(), os.geteuid(), os.getgid()) else '',
    'groups': ' '.join(str(g) for g in os.getgroups() if g != os.getgid()),
    'capabilities': ' '.join(
        n for n in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')
        if int(field(n), 16)),
    'no_new_privileges': '' if field('NoNewPrivs') == '1' else 'off',
    'seccomp': '' if field('Seccomp') == '2' else 'off',
    'engine_socket': there('/var/run/docker*', '/run/docker*',
                           '/run/containerd*', '/run/podman*', '/run/crio*',
                           '/**/*docker.sock'),
    'devices': there('/dev/[shvx]d*', '/dev/nvme*', '/dev/dm-*', '/dev/kvm',
                     '/dev/mem', '/dev/kmsg', '/dev/fuse', '/dev/net/tun',
                     '/dev/loop*'),
    'host_mounts': mount_sources(),
    'host_paths': ' '.join(re.findall('(?:lower|upper|work)dir=[^, ]*',
                                      text('/proc/self/mountinfo')))[:100],
    'core_pattern': writable('/proc/sys/kernel/core_pattern',
                             '/proc/sys/kernel/modprobe',
                             '/proc/sys/fs/binfmt_misc/register'),
    'uevent_helper': writable('/sys/kernel/uevent_helper'),
    'sysrq': writable('/proc/sysrq-trigger'),
    'release_agent': writable(*glob.glob('/sys/fs/cgroup/**/release_agent',
                                         recursive=True),
                              *glob.glob('/sys/fs/cgroup/**/cgroup.procs',
                                         recursive=True)),
    'kernel_memory': '' if not (text('/proc/kcore')[:1] or
                                text('/proc/keys') or
                                text('/proc/timer_list')) else 'readable',
    'kernel_log': '' if not text('/dev/kmsg')[:1] else 'readable',
    'secrets': there('/run/secrets/*', '/var/run/secrets/*',
                     '/root/.ssh', '/home/*/.ssh', '/**/id_rsa'),
    'environment': ' '.join(n for n in os.environ if re.search(
        'KEY|SECRET|TOKEN|PASS|AWS|KUBE', n, re.I)),
    'setuid': setuid_files(),
    'sudo': shutil.which('sudo') or shutil.which('su') or '',
    'tools': ' '.join(n for n in (
        'curl', 'wget', 'nc', 'ncat', 'socat', 'ssh', 'gcc', 'cc', 'nmap',
        'tcpdump', 'docker', 'kubectl', 'gdb', 'strace') if shutil.which(n)),
    'interpreters': ' '.join(n for n in ('perl', 'python3', 'ruby', 'node',
                                         'php', 'lua') if shutil.which(n)),
    'network': ' '.join(n for _, n in socket.if_nameindex()
                        if n not in ('lo', 'tunl0', 'sit0', 'ip6tnl0',
                                     'gre0', 'gretap0', 'erspan0',
                                     'ip_vti0', 'ip6_vti0', 'ip6gre0')),
    'reachable': reachable(),
    'writable_root': writable('/', '/etc', '/etc/passwd', '/usr', '/cellar',
                              '/var', '/root', '/home'),
    'executable_tmp': ' '.join(
        p for p in ('/tmp', '/dev/shm')
        if not os.statvfs(p).f_flag & os.ST_NOEXEC),
    'container_id': ' '.join(re.findall('[0-9a-f]{64}',
        text('/proc/self/cgroup') + text('/proc/1/cpuset')))[:64],
    'processes_of_others': ' '.join(
        p for p in os.listdir('/proc') if p.isdigit() and p != '1' and
        os.stat('/proc/' + p).st_uid not in (os.getuid(), 0)),
    'kernel': os.uname().release,
}
{name: found for name, found in checks.items() if found}
"""


def explained():
    """The checks that the page has a row for: CIS numbers and names; on oci
    those of its own below too."""
    with open(PAGE, encoding="utf-8") as file:
        section = file.read().split("## What checkers say", 1)[1]
    tables = section.split("\n## ")[0].split("\nOn the oci engine", 1)
    rows = re.findall(r"^\| `([^`]+)` \|.*\|.*\|$",
                      "".join(tables[:1 + OCI]), re.M)
    if len(rows) != len(set(rows)):
        raise AssertionError("a check has two rows: %s" % rows)
    return set(rows)


@needs_docker
class Benchmark(HostileTest):
    def warnings(self, seen):
        info = json.loads(docker("info", "--format", "{{json .}}"))
        top = docker("top", self.session.container())
        return {number for number, (_, holds) in CIS.items()
                if not holds(seen, info, top)}

    def test_every_warning_is_explained_and_nothing_else(self):
        warnings = self.warnings(self.session.inspect())
        for number in sorted(warnings, key=lambda n: int(n[2:])):
            print("  CIS %s: not %s" % (number, CIS[number][0]))
        page = {name for name in explained() if name[0].isdigit()}
        self.assertLessEqual(page, set(CIS))
        self.assertLessEqual(warnings, page)
        self.assertLessEqual(page - OF_THE_MACHINE, warnings)

    def test_the_checks_can_fail(self):
        """A container with the engine's defaults meets many of them."""
        loose = docker("create", self.session.inspect()["Image"],
                       "true").strip()
        try:
            missing = self.warnings(json.loads(docker("inspect", loose))[0])
        finally:
            docker("rm", "-f", loose)
        self.assertLessEqual({"5.3", "5.10", "5.12", "5.18", "5.21", "5.25",
                              "5.28", "5.29"}, missing)


class Enumerator(HostileTest):
    def test_every_finding_is_explained_and_nothing_else(self):
        found = eval(self.value(INSIDE), {"__builtins__": {}})
        for name, what in sorted(found.items()):
            print("  from inside: %s: %s" % (name, what))
        page = {name for name in explained() if not name[0].isdigit()}
        self.assertLessEqual(set(found), page)
        self.assertLessEqual(page - OF_THE_MACHINE - (OF_ITS_USR if OCI else set()),
                             set(found))


if __name__ == "__main__":
    unittest.main()
