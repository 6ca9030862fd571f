"""A container of an agent whose stdio a test holds itself, with no supervisor
beside it.

    box = Box(memory="256m")
    subprocess.Popen(box.command, stdin=PIPE, ...)
    box.remove()

On oci it is the bundle of a session that Cellar made, run by the runtime; on
Docker it is made by hand.
"""

import json
import os
import shutil
import subprocess

import cellar_test
from cellar_test import OCI, docker, of_image

SLIM = "cellar-runtime:slim"
# A user of this test process's own: the kernel counts processes by user, over
# all containers.
UID = 1 << 24 | os.getpid()
PROTECTION = ["--user", "%d:%d" % (UID, UID), "--cap-drop", "ALL",
              "--read-only", "--security-opt", "no-new-privileges",
              "--network", "none", "--pids-limit", "128", "--log-driver",
              "none", "--tmpfs", "/tmp:noexec,mode=1777,size=32m",
              "--tmpfs", "/dev/shm:noexec,mode=1777,size=32m"]
# The same in Cellar's words; of processors, all.
TERMS = ["--pids", "128", "--tmp-size", "32m", "--shm-size", "32m",
         "--cpus", str(os.cpu_count())]


class DockerBox:
    def __init__(self, image=SLIM, memory="256m", path=None, mounts=(),
                 init=False, is_open=True):
        """`path`: PATH inside; `mounts`: DIR:INSIDE[:rw]; `init`: the agent is
        not the first process; `is_open`: it has a stdin."""
        self.name = cellar_test.unique("cellar-e2e-agent")
        options = ["--memory", memory, "--memory-swap", memory]
        options += ["--env=PATH=" + path] if path else []
        options += ["--init"] * init + ["-i"] * is_open
        for mount in mounts:
            options += ["-v", mount if mount.endswith(":rw") else mount + ":ro"]
        docker("create", "--name", self.name, *PROTECTION, *options,
               "--entrypoint", "/cellar/agent", image)
        self.command = ["docker", "start", "-ai" if is_open else "-a", self.name]

    def terminate(self):
        """As an engine ends a container."""
        docker("stop", "--time", "20", self.name)

    def remove(self):
        subprocess.run(["docker", "rm", "-f", self.name], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class OciBox:
    made = {}  # by its options: a bundle, and its runtime

    def __init__(self, image=SLIM, memory="256m", path=None, mounts=(),
                 init=False, is_open=True):
        del is_open  # a runtime passes on what it is given
        options = (*TERMS, "--memory", memory, *of_image(image),
                   *(word for mount in mounts for word in ("--mount", mount)))
        if options not in self.made:
            self.made[options] = self.make(options)
        model, runtime = self.made[options]
        self.name = cellar_test.unique("cellar-e2e-agent")
        self.bundle = self.folder(self.name)
        shutil.copytree(model, self.bundle, symlinks=True)
        self.fill(os.path.basename(model), path, init)
        self.runtime = [runtime, "--root", self.folder(".run")]
        self.command = [*self.runtime, "run", "--bundle", self.bundle,
                        self.name]

    @staticmethod
    def folder(name):
        """Beside those of the state directory's own containers."""
        return os.path.join(cellar_test.STATE_DIR, "raw", name)

    @classmethod
    def make(cls, options):
        """Copies the bundle of a session that is gone again."""
        with cellar_test.session(*options) as live:
            one = live.container()
            there = cellar_test.bundle(one, "")
            shutil.copytree(there, cls.folder(one), symlinks=True,
                            ignore=shutil.ignore_patterns("std*"))
            return cls.folder(one), cellar_test.labels(one)["runtime"]

    def fill(self, model, path, init):
        """config.json is the model's but for its name, its user and where it
        is."""
        config = os.path.join(self.bundle, "config.json")
        with open(config, encoding="utf-8") as file:
            text = file.read()
        text = text.replace(cellar_test.bundle(model, "").rstrip("/"),
                            self.bundle)
        spec = json.loads(text.replace(model, self.name))
        process = spec["process"]
        process["user"].update(uid=UID, gid=UID)
        if path:
            process["env"] = ["PATH=" + path]
        if init:
            process["args"] = ["/bin/sh", "-c", "/cellar/agent; exit $?"]
        with open(config, "w", encoding="utf-8") as file:
            json.dump(spec, file)

    def ask(self, *words):
        return subprocess.run([*self.runtime, *words], check=False, timeout=60,
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)

    def terminate(self):
        self.ask("kill", self.name, "TERM")

    def remove(self):
        self.ask("delete", "--force", self.name)
        shutil.rmtree(self.bundle, ignore_errors=True)


Box = OciBox if OCI else DockerBox
