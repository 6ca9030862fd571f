"""What tests of frozen copies share: a session that has some, and what a cell
needs to find them.

    class Test(CopiesTest):
        def test_a_signal(self):
            agent = self.attacked()
            self.assertDenied(agent, "[attempt(os.kill, pid, 9)\\n"
                                     " for pid in copies()]", "EPERM")
            self.assertWhole(agent)
"""

from hostile import ATTEMPT
from restoring import FATAL, RestoreTest

# Processes whose parent is the agent: copies, when nobody was left behind. A
# copy that is just being made is stopped in a moment, one that is given up is
# gone.
COPIES = """
import time
def stat(pid):
    with open('/proc/%d/stat' % pid) as f:
        return f.read().rpartition(')')[2].split()
def processes():
    return [int(d) for d in os.listdir('/proc')
            if d.isdigit() and int(d) not in (1, os.getpid())]
def copies():
    while True:
        try:
            found = [pid for pid in processes() if stat(pid)[1] == '1']
            if all(stat(pid)[0] == 'T' for pid in found):
                return found
        except OSError: pass
        time.sleep(0.001)
def settled(count):
    '''How many there are, once those that were given up are gone.'''
    end = time.monotonic() + 10
    while len(copies()) != count and time.monotonic() < end:
        time.sleep(0.001)
    return len(copies())
"""

# Every way to have a signal sent to a process, as one word each.
SIGNALS = """
import fcntl
def owned(pid, how):
    '''As the owner of a file, when that becomes ready.'''
    a, b = socket.socketpair()
    with a, b:
        word = how(a, pid)
        fcntl.fcntl(a, 10, 9)
        fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        b.send(b'x')
        return word
def signals(pid, number):
    info = ctypes.create_string_buffer(struct.pack('iii', number, 0, -1), 128)
    return [
        attempt(os.kill, pid, number),
        attempt(os.killpg, pid, number),
        attempt(os.kill, -1, number),
        syscall(62, pid | 1 << 32, number),
        syscall(62, ctypes.c_long(-pid), number),
        syscall(200, pid, number),
        syscall(234, pid, pid, number),
        syscall(234, os.getpid(), pid, number),
        syscall(234, pid, os.getpid(), number),
        syscall(129, pid, number, info),
        syscall(297, pid, pid, number, info),
        attempt(lambda: signal.pidfd_send_signal(os.pidfd_open(pid), number)),
        attempt(lambda: signal.pidfd_send_signal(
            os.open('/proc/%d' % pid, os.O_RDONLY), number)),
        owned(pid, lambda a, p: attempt(fcntl.fcntl, a, fcntl.F_SETOWN, p)),
        owned(pid, lambda a, p: attempt(fcntl.fcntl, a, fcntl.F_SETOWN, -p)),
        owned(pid, lambda a, p: attempt(
            fcntl.fcntl, a, 15, struct.pack('ii', 1, p))),
        owned(pid, lambda a, p: attempt(
            fcntl.ioctl, a, 0x8901, struct.pack('i', p))),
        owned(pid, lambda a, p: attempt(
            fcntl.ioctl, a, 0x8902, struct.pack('i', p)))]
"""


class CopiesTest(RestoreTest):
    """A session with three copies: a named one and two automatic ones."""

    def attacked(self, **options):
        agent = self.live(**options)
        self.ok(agent, "x = 'named'" + ATTEMPT + COPIES + SIGNALS)
        self.must(agent, "checkpoint", "named")
        self.ok(agent, "x = 'older'")
        self.ok(agent, "x = 'last'")
        return agent

    def words(self, agent, code):
        self.copies(agent)  # the last one is there, and an older one gone
        words = eval(self.value(agent, code), {"__builtins__": {}})
        self.assertTrue(words)
        return words

    def assertDenied(self, agent, code, *how):
        """Every word of the list that `code` makes is one of `how`."""
        for word in self.words(agent, code):
            self.assertIn(word[-1] if isinstance(word, tuple) else word, how)

    def assertWhole(self, agent):
        """They wake: the last one, and the one that has a name."""
        good = self.ok(agent, "x = 'good'").cell
        self.assertRestored(agent, FATAL["exit"], good)
        self.assertValue(agent, "x", "'good'")
        self.must(agent, "restore", "named")
        self.assertValue(agent, "x", "'named'")
