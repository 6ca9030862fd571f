"""The engine that is chosen where none is named: Docker where it answers and
has the image, else an OCI runtime; and that is said, once."""

import json
import os
import subprocess
import unittest

from cellar_test import CELLAR, ENVIRONMENT, Done, run, unique
from engine_proxy import EngineProxy

SOCKET = os.path.realpath("/var/run/docker.sock")
AUTO = {key: value for key, value in ENVIRONMENT.items()
        if key not in ("CELLAR_ENGINE", "DOCKER_HOST")}
SAID = "sessions run on an OCI runtime, with this machine's own /usr"


def without_docker(*arguments, stdin="", at="/dev/null"):
    """Runs `cellar ARGUMENTS` where nobody listens at Docker's socket, or who
    listens `at` another."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c",
         "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"", at, SOCKET,
         CELLAR, *arguments], env=AUTO, input=stdin, text=True, timeout=120,
        capture_output=True)
    return Done(done.returncode, done.stdout, done.stderr)


class Auto(unittest.TestCase):
    def setUp(self):
        self.addCleanup(run, "stop", "--all", env=AUTO)

    def engine_of(self, name):
        rows = json.loads(run("ps", "--json", env=AUTO).out)
        return [row["engine"] for row in rows if row["name"] == name]

    def choice(self, done):
        """What `cellar doctor` says of it."""
        rows = {row["name"]: row for row in json.loads(done)}
        self.assertEqual("ok", rows["choice"]["result"])
        return rows["choice"]["text"]

    def test_docker_where_it_answers(self):
        name = unique()
        self.assertEqual((0, name + "\n", ""), run("start", name, env=AUTO))
        self.assertEqual(["docker"], self.engine_of(name))
        self.assertIn("engine docker",
                      self.choice(run("doctor", "--json", env=AUTO).out))

    def test_oci_where_it_does_not(self):
        """It is said by what starts a session, and by nothing after it."""
        name = unique()
        done = without_docker("start", name)
        self.assertEqual((0, name + "\n"), (done.status, done.out))
        self.assertEqual(1, done.err.count(SAID), done.err)
        self.assertIn("no container engine answers", done.err)
        self.assertEqual(["oci"], self.engine_of(name))
        done = without_docker("exec", name, "6 * 7")
        self.assertEqual((0, "42\n", ""), done)
        self.assertIn("engine oci", self.choice(
            without_docker("doctor", "--json").out))

    def test_a_session_stays_where_it_is(self):
        """Docker is back: what ran without it does still."""
        name = unique()
        self.assertEqual(0, without_docker("start", name).status)
        self.assertEqual((0, "2\n", ""), run("exec", name, "1 + 1", env=AUTO))
        self.assertEqual(["oci"], self.engine_of(name))
        self.assertEqual(0, run("stop", name, env=AUTO).status)

    def test_oci_where_docker_has_not_the_image(self):
        with EngineProxy(["cellar-runtime:slim"]) as proxy:
            done = without_docker("run", "-", stdin="6 * 7",
                                  at=proxy.host[len("unix://"):])
        self.assertEqual(0, done.status, done.err)
        self.assertIn("42", done.out)
        self.assertIn(SAID, done.err)
        self.assertIn("cellar image build", done.err)

    def test_what_only_docker_has_is_not_replaced(self):
        """An image that was named, and an address that was given."""
        for done in (without_docker("run", "--image", "data", "-", stdin="1"),
                     run("run", "-", stdin="1", env=dict(
                         AUTO, DOCKER_HOST="unix:///nowhere.sock"))):
            self.assertEqual((3, ""), (done.status, done.out))
            self.assertIn("no container engine answers", done.err)
            self.assertNotIn(SAID, done.err)

    def test_a_root_file_system_is_for_oci(self):
        done = run("run", "--rootfs", "/nowhere/root", "-", stdin="1", env=AUTO)
        self.assertEqual((2, ""), (done.status, done.out))
        self.assertIn("there is no folder /nowhere/root", done.err)


if __name__ == "__main__":
    unittest.main()
