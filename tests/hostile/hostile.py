"""What the hostile tests share: a session to attack and one to leave alone."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), "e2e"))

from cellar_test import Session, SessionTest, popen, run  # noqa: E402, F401

# For use inside cells: what a call came to, as one word.
ATTEMPT = """
import ctypes, errno, os, signal, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(call, *arguments):
    try:
        call(*arguments)
        return 'allowed'
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e.errno))
def syscall(number, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(ctypes.c_long(number), *arguments) >= 0:
        return 'allowed'
    return errno.errorcode[ctypes.get_errno()]
"""


class HostileTest(SessionTest):
    """After every attack the session answers (or has said that it is fresh),
    the container is the same, and the bystander noticed nothing."""

    OPTIONS = ("--grace", "300ms", "--memory", "128m", "--pids", "64",
               "--timeout", "20s", "--output-limit", "1m")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bystander = Session(prefix="bystander")
        cls.addClassCleanup(cls.bystander.stop)
        cls.bystander.exec("canary = 'alive'\n"
                           "open('/tmp/canary', 'w').write('alive')")
        cls.containers = [cls.session.container(), cls.bystander.container()]

    def setUp(self):
        self.ok(ATTEMPT)

    def tearDown(self):
        self.assertAlive()
        told = self.bystander.exec("canary, open('/tmp/canary').read()")
        self.assertEqual({"text/plain": "('alive', 'alive')"}, told["result"])
        self.assertEqual(self.containers, [self.session.container(),
                                           self.bystander.container()])

    def assertRefused(self, code, *how):
        """Every word of the list that `code` makes is one of `how`."""
        words = eval(self.value(code), {"__builtins__": {}})
        self.assertTrue(words)
        for word in words:
            self.assertIn(word[-1] if isinstance(word, tuple) else word, how,
                          words)
