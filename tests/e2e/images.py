"""Images of the tests' own, which go when the `with` ends.

    with debian_image("trixie", "python3-minimal") as base, \\
            custom_image("FROM %s\\nRUN rm /etc/motd\\n" % base) as image:
        run("run", *of_image(image), "-", stdin="1 + 1")

The Docker Engine makes them on either engine.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile

import cellar_test
from cellar_test import docker

SLIM, DATA = "cellar-runtime:slim", "cellar-runtime:data"


class custom_image:
    """An image of the test's own, built from a Dockerfile and files; with a
    `network` only to install packages."""

    def __init__(self, dockerfile, network="none", **files):
        self.name = cellar_test.unique("cellar-test-image")
        with tempfile.TemporaryDirectory() as folder:
            context = pathlib.Path(folder)
            (context / "Dockerfile").write_text(dockerfile)
            for name, content in files.items():
                (context / name).write_bytes(content)
                (context / name).chmod(0o755)
            done = subprocess.run(
                ["docker", "build", "--network", network, "--force-rm",
                 "--tag", self.name, folder], timeout=300,
                env=dict(os.environ, DOCKER_BUILDKIT="0"), text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise AssertionError(done.stdout)

    def __enter__(self):
        return self.name

    def __exit__(self, *_):
        docker("image", "rm", "--force", self.name)
        shutil.rmtree(cellar_test.rootfs_of(self.name), ignore_errors=True)


class debian_image:
    """A minimal Debian of another release, with packages."""

    def __init__(self, suite, *packages):
        self.name = cellar_test.unique("cellar-test-" + suite)
        made = subprocess.Popen(
            ["mmdebstrap", "--variant=minbase", "--format=tar", "--quiet",
             '--aptopt=Acquire::Retries "5"',
             "--include=" + ",".join(packages), suite, "-"],
            stdout=subprocess.PIPE)
        subprocess.run(["docker", "import", "-", self.name], check=True,
                       stdin=made.stdout, stdout=subprocess.DEVNULL,
                       timeout=600)
        made.stdout.close()
        if made.wait(timeout=60) != 0:
            raise AssertionError("mmdebstrap of %s failed" % suite)

    def __enter__(self):
        return self.name

    def __exit__(self, *_):
        docker("image", "rm", "--force", self.name)
