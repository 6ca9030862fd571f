"""What holds the container: every field of the spec as the engine tells it,
no key anywhere, and nothing left after many sessions."""

import base64
import json
import os
import re
import subprocess
import unittest
import zlib

import cellar_test
from cellar_test import SessionTest, docker, session

MIB = 1 << 20
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
SPEC = os.path.join(ROOT, "kernel", "engine", "container.json")


def fields(spec, path=()):
    """(path, value) of each field of the spec that is the same for all
    sessions: no remark ("//...") and no "$..." that is filled in."""
    for name, value in spec.items():
        if name.startswith("//"):
            continue
        if isinstance(value, dict) and value:
            yield from fields(value, path + (name,))
        elif "$" not in json.dumps(value):
            yield path + (name,), value


def at(inspected, path):
    value = inspected
    for name in path:
        value = value.get(name) if value else None
    return value


def key_of(name):
    """The session's key, from the one place where it may stand."""
    path = os.path.join(cellar_test.STATE_DIR, "sessions", name,
                        "record.json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)["key"]


def key_bytes(text):
    """The key's 32 bytes, however the record spells them."""
    if re.fullmatch("[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    return base64.b64decode(text)


def spellings(key):
    """The forms in which a key might lie somewhere."""
    return [key, key.hex().encode(), key.hex().upper().encode(),
            base64.b64encode(key).rstrip(b"="),
            base64.urlsafe_b64encode(key).rstrip(b"="),
            ", ".join(map(str, key)).encode(),
            ",".join(map(str, key)).encode()]


@cellar_test.needs_docker
class Spec(SessionTest):
    OPTIONS = ("--memory", "200m", "--cpus", "0.5", "--pids", "50",
               "--files", "100", "--file-size", "10m", "--tmp-size", "8m",
               "--shm-size", "4m")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.inspected = cls.session.inspect()
        cls.host = cls.inspected["HostConfig"]
        cls.config = cls.inspected["Config"]

    def test_every_field_of_the_spec_is_what_the_engine_tells(self):
        """An absent field, null and [] are one to the engine."""
        with open(SPEC, encoding="utf-8") as file:
            spec = json.load(file)["container"]
        seen = dict(self.config, HostConfig=self.host)
        checked = 0
        for path, value in fields(spec):
            if path == ("Env",):
                self.assertEqual(["PATH"], [
                    e.split("=")[0] for e in self.config["Env"]])
                continue
            with self.subTest(field=".".join(path)):
                self.assertEqual(value or None, at(seen, path) or None)
            checked += 1
        self.assertGreater(checked, 30)

    def test_no_capability_and_no_way_to_new_ones(self):
        self.assertEqual(["ALL"], self.host["CapDrop"])
        self.assertFalse(self.host["CapAdd"])
        self.assertFalse(self.host["Privileged"])
        options = self.host["SecurityOpt"]
        self.assertTrue({"no-new-privileges", "no-new-privileges:true",
                         "no-new-privileges=true"} & set(options), options)

    def test_a_seccomp_profile_of_our_own(self):
        profiles = [option.split("=", 1)[1]
                    for option in self.host["SecurityOpt"]
                    if option.startswith("seccomp=")]
        self.assertEqual(1, len(profiles))
        profile = json.loads(profiles[0])
        self.assertIn(profile["defaultAction"],
                      ("SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"))
        allowed = {name for rule in profile["syscalls"]
                   if rule["action"] == "SCMP_ACT_ALLOW"
                   for name in rule["names"]}
        self.assertFalse(allowed & {
            "ptrace", "bpf", "io_uring_setup", "userfaultfd", "mount",
            "keyctl", "add_key", "perf_event_open", "kexec_load", "setns",
            "init_module", "open_by_handle_at", "process_vm_writev"})

    def test_a_user_of_its_own(self):
        uid, gid = self.config["User"].split(":")
        self.assertEqual(uid, gid)
        self.assertIn(int(uid), range(61001, 65534))
        self.assertFalse(self.host["GroupAdd"])
        self.assertEqual(uid, self.config["Labels"]["io.cellar.uid"])

    def test_a_read_only_root_and_small_tmpfs(self):
        self.assertTrue(self.host["ReadonlyRootfs"])
        self.assertEqual({"/tmp", "/dev/shm"}, set(self.host["Tmpfs"]))
        for path, size in ("/tmp", 8 * MIB), ("/dev/shm", 4 * MIB):
            options = self.host["Tmpfs"][path].split(",")
            self.assertIn("size=%d" % size, options)
            for needed in "nosuid", "nodev", "noexec":
                self.assertIn(needed, options)
            self.assertTrue([o for o in options if o.startswith("nr_inodes=")],
                            options)

    def test_nothing_of_the_host(self):
        self.assertFalse(self.host["Binds"])
        self.assertFalse(self.inspected["Mounts"])
        self.assertFalse(self.host["Devices"])
        self.assertFalse(self.host["VolumesFrom"])
        self.assertFalse(self.host["Links"])
        self.assertFalse(self.host["PortBindings"])
        self.assertFalse(self.host["PublishAllPorts"])

    def test_namespaces(self):
        self.assertEqual("none", self.host["NetworkMode"])
        self.assertEqual("private", self.host["IpcMode"])
        for name in "PidMode", "UTSMode", "UsernsMode":
            self.assertNotEqual("host", self.host[name], name)
        self.assertIn(self.host["CgroupnsMode"], ("private", "host", ""))

    def test_limits(self):
        self.assertEqual(200 * MIB, self.host["Memory"])
        self.assertEqual(200 * MIB, self.host["MemorySwap"])
        self.assertEqual(50, self.host["PidsLimit"])
        self.assertEqual(500_000_000, self.host["NanoCpus"])
        self.assertFalse(self.host["OomKillDisable"])
        limits = {u["Name"]: (u["Soft"], u["Hard"])
                  for u in self.host["Ulimits"]}
        self.assertEqual((0, 0), limits["core"])
        self.assertEqual({"kernel.shm_rmid_forced": "1"},
                         self.host["Sysctls"])

    def test_the_limits_hold_inside(self):
        self.assertEqual("[(100, 100), (10485760, 10485760), (0, 0)]",
                         self.value(
            "import resource as r\n"
            "[r.getrlimit(l) for l in (r.RLIMIT_NOFILE, r.RLIMIT_FSIZE,\n"
            "                          r.RLIMIT_CORE)]"))
        self.assertEqual("(8388608, 4194304)", self.value(
            "import os\n"
            "tuple(s.f_blocks * s.f_frsize\n"
            "      for s in map(os.statvfs, ('/tmp', '/dev/shm')))"))

    def test_the_agent_is_the_first_process_and_alone_with_its_stdio(self):
        self.assertFalse(self.host["Init"])
        self.assertFalse(self.config["Tty"])
        self.assertTrue(self.config["OpenStdin"])
        self.assertFalse(self.config["StdinOnce"])
        self.assertEqual("none", self.host["LogConfig"]["Type"])
        self.assertEqual("/cellar/agent", self.inspected["Path"])
        self.assertFalse(self.inspected["Args"])
        self.assertEqual("'agent'", self.value(
            "open('/proc/1/comm').read().strip()"))

    def test_it_is_never_started_again(self):
        self.assertIn(self.host["RestartPolicy"]["Name"], ("no", ""))

    def test_masked_and_read_only_paths(self):
        self.assertIn("/proc/kcore", self.host["MaskedPaths"])
        self.assertIn("/proc/sys", self.host["ReadonlyPaths"])
        self.assertIn("/proc/sysrq-trigger", self.host["ReadonlyPaths"])

    def test_labels(self):
        labels = self.config["Labels"]
        self.assertEqual(self.session.name, labels["io.cellar.session"])
        self.assertTrue(labels["io.cellar.version"])


class Key(SessionTest):
    """The key is in the agent, in the host's record, and nowhere else."""

    OPTIONS = ("--output-limit", "200m")

    def assertNoKey(self, data, where):
        for spelling in spellings(key_bytes(key_of(self.session.name))):
            self.assertNotIn(spelling, data, where)

    def test_the_record_is_for_its_owner_only(self):
        folder = os.path.join(cellar_test.STATE_DIR, "sessions",
                              self.session.name)
        self.assertEqual(32, len(key_bytes(key_of(self.session.name))))
        self.assertEqual(0o600, os.stat(os.path.join(
            folder, "record.json")).st_mode & 0o777)
        self.assertEqual(0o700, os.stat(folder).st_mode & 0o777)

    @cellar_test.needs_docker
    def test_inspect_does_not_hold_it(self):
        data = docker("inspect", self.session.container()).encode()
        self.assertIn(self.session.name.encode(), data)
        self.assertNoKey(data, "docker inspect")

    @cellar_test.needs_docker
    def test_the_image_does_not_hold_it(self):
        image = self.session.inspect()["Image"]
        self.assertNoKey(docker("inspect", image).encode(), "image")
        self.assertNoKey(docker("history", "--no-trunc", image).encode(),
                         "history")

    def test_no_file_inside_holds_it(self):
        export = cellar_test.files_of(self.session.container())
        self.assertGreater(len(export), 3 * MIB)
        self.assertNoKey(export, "files")

    @cellar_test.needs_docker
    def test_there_is_no_log(self):
        done = subprocess.run(["docker", "logs", self.session.container()],
                              capture_output=True, timeout=60)
        self.assertNoKey(done.stdout + done.stderr, "logs")
        self.assertEqual(b"", done.stdout)

    def test_no_process_tells_it(self):
        text = self.value(
            "import glob\n"
            "found = {}\n"
            "for path in glob.glob('/proc/[0-9]*/*') + \\\n"
            "        glob.glob('/tmp/**', recursive=True):\n"
            "    try: found[path] = open(path, 'rb').read(1 << 16)\n"
            "    except OSError: pass\n"
            "import base64, zlib\n"
            "data = b''.join(found.values())\n"
            "print(base64.b64encode(zlib.compress(data)).decode())\n"
            "sorted(found)")
        self.assertIn("/proc/1/cmdline", text)
        self.assertEqual(cellar_test.SANDBOX, "/proc/1/environ" in text)

    def test_the_workers_memory_does_not_hold_it(self):
        """The memory comes out to be searched here: a needle that was sent in
        would be found."""
        printed = self.out(
            "import base64, sys, zlib\n"
            "with open('/proc/self/maps') as f:\n"
            "    maps = [line.split() for line in f]\n"
            "memory = open('/proc/self/mem', 'rb', 0)\n"
            "pack = zlib.compressobj(1)\n"
            "for m in maps:\n"
            "    if m[1][0] != 'r' or m[-1] in ('[vvar]', '[vsyscall]'):\n"
            "        continue\n"
            "    low, high = (int(x, 16) for x in m[0].split('-'))\n"
            "    for at in range(low, high, 1 << 20):\n"
            "        try:\n"
            "            memory.seek(at)\n"
            "            part = memory.read(min(1 << 20, high - at))\n"
            "        except OSError: continue\n"
            "        sys.stdout.write(pack.compress(part).hex())\n"
            "print(pack.flush().hex(), end='')")
        data = zlib.decompress(bytes.fromhex(printed))
        self.assertGreater(len(data), 2 * MIB)
        self.assertIn(b"zlib.compressobj", data)
        self.assertNoKey(data, "memory")


class Soak(unittest.TestCase):
    """Many sessions leave nothing behind."""

    COUNT = int(os.environ.get("CELLAR_SOAK_COUNT", "200"))

    def test_start_and_stop_through_the_library(self):
        before = set(cellar_test.containers_left())
        # A sanitizer keeps what was freed, and would look like a leak.
        environment = dict(cellar_test.ENVIRONMENT,
                           ASAN_OPTIONS="quarantine_size_mb=1")
        done = subprocess.run(
            [os.environ["CELLAR_SOAK_BIN"], str(self.COUNT)], timeout=550,
            capture_output=True, text=True, env=environment)
        self.assertEqual(0, done.returncode, done.stderr)
        told = json.loads(done.stdout)
        self.assertEqual((self.COUNT, 0, 0, 0), (
            told["sessions"], told["fds"], told["threads"], told["listed"]))
        self.assertLess(told["rss_kib"], 8 * 1024)
        self.assertEqual((0, 0), (told["after"]["containers"],
                                  told["after"]["control_groups"]))
        self.assertEqual(before, set(cellar_test.containers_left()))

    def test_a_command_that_fails_leaves_nothing(self):
        before = set(cellar_test.containers_left())
        self.assertEqual(1, cellar_test.run(
            "run", "-", stdin="import os; os._exit(1)").status)
        self.assertEqual(before, set(cellar_test.containers_left()))

    def test_an_image_that_is_not_there_leaves_nothing(self):
        before = set(cellar_test.containers_left())
        done = cellar_test.run("start", "--image", "localhost:1/no/such:image",
                               cellar_test.unique())
        self.assertEqual(3, done.status)
        self.assertIn("localhost:1/no/such:image", done.err)
        self.assertEqual(before, set(cellar_test.containers_left()))

    def test_sessions_side_by_side(self):
        with session() as one, session() as two, session() as three:
            users = {s.uid() for s in (one, two, three)}
            self.assertEqual(3, len(users))


if __name__ == "__main__":
    unittest.main()
