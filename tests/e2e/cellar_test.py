"""What the end-to-end tests share: the real command, a state directory of
this test process's own, and a look at what is left on the engine.

    class Test(SessionTest):
        def test_sum(self):
            self.assertEqual(self.value("1 + 1"), "2")

CELLAR_BIN names the command, CELLAR_ENGINE the engine ("docker" where it
doesn't), CELLAR_RUNTIME another OCI runtime than the first there is. Sessions, and so containers, belong to the state directory:
containers_left() sees those of this process and no others.
"""

import contextlib
import atexit
import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

CELLAR = os.environ.get("CELLAR_BIN", "cellar")
ENGINE = os.environ.get("CELLAR_ENGINE", "docker")
OCI = ENGINE == "oci"
RUNTIME = os.environ.get("CELLAR_RUNTIME")
SANDBOX = RUNTIME == "runsc"  # with a kernel of its own
needs_docker = unittest.skipIf(OCI, "it is about the Docker Engine's own")
needs_oci = unittest.skipUnless(OCI, "it is about the oci engine's own")
STATE_DIR = tempfile.mkdtemp(prefix="cellar-e2e-")
ENVIRONMENT = dict(os.environ, CELLAR_STATE_DIR=STATE_DIR,
                   XDG_CONFIG_HOME=STATE_DIR)  # no defaults of the user's own

if RUNTIME:
    os.mkdir(os.path.join(STATE_DIR, "cellar"))
    with open(os.path.join(STATE_DIR, "cellar", "config.json"), "w",
              encoding="ascii") as defaults:
        json.dump({"runtime": RUNTIME,
                   "allow": ["agent", "tmpfs"] if SANDBOX else []}, defaults)

# The keys of the result object, in order; kernel/result_json.c tells them.
RESULT_KEYS = ["cell", "status", "state", "restored_from", "checkpoint",
               "stdout", "stderr", "truncated", "dropped_bytes", "result",
               "displays", "error", "limit", "exit_code", "signal", "reason",
               "usage"]

Done = collections.namedtuple("Done", "status out err")


def run(*arguments, stdin="", timeout=120, env=None, cwd=None):
    """Runs `cellar ARGUMENTS` to its end; the texts are decoded."""
    done = subprocess.run([CELLAR, *arguments], cwd=cwd, timeout=timeout,
                          input=stdin.encode("utf-8", "surrogateescape"),
                          capture_output=True, env=env or ENVIRONMENT)
    return Done(done.returncode, done.stdout.decode("utf-8", "replace"),
                done.stderr.decode("utf-8", "replace"))


def popen(*arguments, **options):
    """Starts `cellar ARGUMENTS` with pipes for stdout and stderr."""
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    options.setdefault("env", ENVIRONMENT)
    return subprocess.Popen([CELLAR, *arguments], **options)


def docker(*arguments):
    """What `docker ARGUMENTS` prints; the test fails when it fails."""
    return subprocess.run(["docker", *arguments], check=True, timeout=60,
                          stdout=subprocess.PIPE, text=True).stdout


def rootfs_of(image):
    """Where of_image() has it unpacked."""
    return os.path.join(os.environ["CELLAR_BINARY_DIR"], "rootfs",
                        image.replace(":", "-"))


def of_image(image):
    """The options of a session made of an image; on oci, of what `cellar image
    unpack` made of it, once for all tests."""
    if not OCI:
        return "--image", image
    folder = rootfs_of(image)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    if not os.path.isdir(folder):
        done = run("--engine", "docker", "image", "unpack", image, folder)
        if done.status and not os.path.isdir(folder):
            raise AssertionError(done.err)
    return "--rootfs", folder


counter = iter(range(1, 1 << 30))


def unique(prefix="test"):
    """A session name that no other test uses."""
    return "%s-%d-%d" % (prefix, os.getpid(), next(counter))


def owner():
    """The id that this state directory's containers carry, or None."""
    path = os.path.join(STATE_DIR, "owner")
    if not os.path.exists(path):
        return None
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def bundle(container, name, state_dir=STATE_DIR):
    """The path of a file that the oci engine keeps of a container."""
    return os.path.join(state_dir, "oci", container, name)


def labels(container, state_dir=STATE_DIR):
    """What a container is known by, without the prefix of Docker's labels."""
    if not OCI:
        found = json.loads(docker("inspect", container))[0]["Config"]["Labels"]
        return {key.rpartition(".")[2]: found[key] for key in found}
    with open(bundle(container, "labels.json", state_dir),
              encoding="ascii") as file:
        return json.load(file)


def first_process(container):
    """The pid of a container's agent, as this machine counts them."""
    if not OCI:
        return int(docker("inspect", "--format", "{{.State.Pid}}", container))
    return first_process_at(bundle(container, "born.json"))


def first_process_at(path):
    with open(path, encoding="ascii") as file:
        return json.load(file)["pid"]


def is_running(container):
    try:
        with open("/proc/%d/stat" % first_process(container), "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def is_there(container, state_dir=STATE_DIR):
    """Whether it has not been removed."""
    if OCI:
        return os.path.exists(bundle(container, "", state_dir))
    return docker("ps", "-aq", "--no-trunc", "--filter", "id=" + container)


def from_outside(word, container, state_dir=STATE_DIR):
    """What an administrator may do to a container: `kill`, `rm`, `pause`,
    `unpause`."""
    if not OCI:
        docker(*{"rm": ["rm", "-f"]}.get(word, [word]), container)
        return
    words = {"kill": ["kill", container, "KILL"],
             "rm": ["delete", "--force", container],
             "pause": ["pause", container], "unpause": ["resume", container]}
    subprocess.run([labels(container, state_dir)["runtime"], "--root",
                    os.path.join(state_dir, "oci", ".run"), *words[word]],
                   check=True, timeout=60, stdout=subprocess.PIPE)
    if word == "rm":
        shutil.rmtree(bundle(container, "", state_dir), ignore_errors=True)


def run_inside(container, *command):
    """Runs a command in a sandbox, whose files no path here shows."""
    return subprocess.run(
        [RUNTIME, "--root", os.path.join(STATE_DIR, "oci", ".run"), "exec",
         container, *command], capture_output=True, timeout=60)


def has_file(container, path):
    """Whether a file is there inside."""
    if SANDBOX:
        return run_inside(container, "/usr/bin/test", "-e",
                          path).returncode == 0
    if OCI:
        with contextlib.suppress(FileNotFoundError):  # it is being started
            return os.path.lexists("/proc/%d/root%s" % (
                first_process(container), path))
        return False
    return subprocess.run(["docker", "exec", container, "ls", path],
                          capture_output=True, timeout=60).returncode == 0


def make_file(container, path):
    """Makes an empty one, from outside."""
    if not OCI:
        docker("exec", container, "touch", path)
        return
    if SANDBOX:
        run_inside(container, "/usr/bin/touch", path)
        return
    with open("/proc/%d/root%s" % (first_process(container), path), "wb"):
        pass


def files_of(container):
    """All that stands in its files, in a lump; on oci, what was made for it."""
    if SANDBOX:
        return run_inside(container, "/usr/bin/tar", "-cf", "-", "/cellar",
                          "/dev/shm", "/etc").stdout
    if not OCI:
        return subprocess.run(["docker", "export", container], check=True,
                              timeout=120, stdout=subprocess.PIPE).stdout
    lump = []
    inside = "/proc/%d/root" % first_process(container)
    for top in bundle(container, ""), inside + "/cellar", inside + "/dev/shm":
        for folder, _, names in os.walk(top):
            for path in (os.path.join(folder, name) for name in names):
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as file:
                        lump.append(file.read())
    return b"".join(lump)


def containers_left():
    """The ids of all containers of this state directory, running or not."""
    if owner() is None:
        return []
    if OCI:
        folder = os.path.join(STATE_DIR, "oci")
        return [name for name in os.listdir(folder) if name != ".run"] \
            if os.path.isdir(folder) else []
    return docker("ps", "-aq", "--no-trunc", "--filter",
                  "label=io.cellar.owner=" + owner()).split()


def containers_of(session_name):
    """The ids of those of a session."""
    if OCI:
        return [one for one in containers_left()
                if labels(one)["session"] == session_name]
    return docker("ps", "-aq", "--no-trunc", "--filter",
                  "label=io.cellar.session=" + session_name, "--filter",
                  "label=io.cellar.owner=" + owner()).split()


def containers_running():
    """The ids of those that have not ended."""
    if OCI:
        return [one for one in containers_left() if is_running(one)]
    return docker("ps", "-q", "--no-trunc", "--filter",
                  "label=io.cellar.owner=" + owner()).split()


def wait_for(holds, seconds=30):
    """Waits until `holds()` does; the test fails when it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError("it did not come true in %d s" % seconds)
        time.sleep(0.05)


class Session:
    """A named session made by `cellar start`."""

    def __init__(self, *options, prefix="test"):
        self.name = unique(prefix)
        done = run("start", *options, self.name)
        if done.status != 0:
            raise AssertionError("cellar start: %s%s" % (done.out, done.err))

    def container(self):
        ids = containers_of(self.name)
        if len(ids) != 1:
            raise AssertionError("containers of %s: %s" % (self.name, ids))
        return ids[0]

    def inspect(self):
        return json.loads(docker("inspect", self.container()))[0]

    def has_file(self, path):
        """Whether a file is there inside."""
        return has_file(self.container(), path)

    def uid(self):
        """Of its processes."""
        if OCI:
            return labels(self.container())["uid"]
        return int(self.inspect()["Config"]["User"].split(":")[0])

    def exec(self, code, *options, timeout=120):
        """Runs a cell; the result object."""
        done = run("exec", "--json", *options, self.name, "-", stdin=code,
                   timeout=timeout)
        if done.status not in (0, 1):
            raise AssertionError("cellar exec: %d %s" % (done.status, done.err))
        return json.loads(done.out.splitlines()[-1])

    @contextlib.contextmanager
    def running(self, code, *options):
        """`cellar exec --json` of a cell that is known to have begun."""
        mark = "/dev/shm/started-%d" % time.monotonic_ns()
        process = popen("exec", "--json", *options, self.name,
                        "open(%r, 'w').close()\n%s" % (mark, code))
        try:
            wait_for(lambda: self.has_file(mark))
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()

    def stop(self):
        return run("stop", self.name)


def result_of(process):
    """Exit status and result object of an exec that Session.running() gave,
    once it has ended."""
    text = process.stdout.read().decode()
    status = process.wait(60)
    if status not in (0, 1):
        raise AssertionError("cellar exec: %d %s" % (
            status, process.stderr.read().decode()))
    return status, json.loads(text.splitlines()[-1])


@contextlib.contextmanager
def session(*options, prefix="test"):
    live = Session(*options, prefix=prefix)
    try:
        yield live
    finally:
        live.stop()


class SessionTest(unittest.TestCase):
    """One session for the tests of a class; OPTIONS go to `cellar start`."""

    OPTIONS = ()

    @classmethod
    def setUpClass(cls):
        cls.session = Session(*cls.OPTIONS, prefix=cls.__name__.lower())
        cls.addClassCleanup(cls.session.stop)

    def cell(self, code, *options, **more):
        return self.session.exec(code, *options, **more)

    def ok(self, code, *options):
        """Runs a cell that must end well."""
        result = self.cell(code, *options)
        self.assertEqual("ok", result["status"], result)
        return result

    def out(self, code):
        return self.ok(code)["stdout"]

    def value(self, code):
        """The text of a cell's value; None when it has none."""
        result = self.ok(code)["result"]
        return None if result is None else result["text/plain"]

    def assertAlive(self):
        """The session answers."""
        self.assertEqual("2", self.value("1 + 1"))


signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))


@atexit.register
def clean_up():
    """Even a test that failed leaves nothing behind."""
    for container in containers_left():
        from_outside("rm", container)
    shutil.rmtree(STATE_DIR, ignore_errors=True)
