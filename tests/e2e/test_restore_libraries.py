"""What libraries hold across a crash and the restore behind it: it is as it
was after the last good cell, and can be worked with."""

import unittest

from images import DATA, custom_image
from restoring import FATAL, NOT_TAKEN, TAKEN, RestoreTest

# What is in the image but for another BLAS: one with threads.
THREADED = ("FROM %s\n"
            "RUN apt-get -qq -o Acquire::Retries=5 update && \\\n"
            "    apt-get -qq -o Acquire::Retries=5 install \\\n"
            "        --no-install-recommends libopenblas0-pthread\n" % DATA)


class LibraryTest(RestoreTest):
    MEMORY = "512m"
    IMAGE = DATA

    def setUp(self):
        self.agent = self.live(image=self.IMAGE)

    def good(self, code):
        """A cell behind which there is a checkpoint."""
        done = self.ok(self.agent, code)
        self.assertEqual((TAKEN, ""), (done.taken, done.why))
        return done

    def lost(self, code, way="abort"):
        """A cell that crashes when its work is done."""
        done = self.assertRestored(self.agent, FATAL[way], self.agent.cells,
                                   before=code + "\n")
        return b"".join(data for _, data in done.output).decode()

    def value(self, code):
        return super().value(self.agent, code)

    def assertTrueThere(self, code):
        self.assertValue(code, "True")

    def assertValue(self, code, text):
        self.assertEqual(text, self.value(code))


class Data(LibraryTest):
    def test_numpy(self):
        self.good("import numpy as np\n"
                  "a = np.arange(250000.).reshape(500, 500)\n"
                  "b = a @ a.T\n"
                  "view, total = a[::2, ::3], float(b.sum())")
        self.lost("a[:] = -1\nb[:] = a @ a\ndel total")
        self.assertTrueThere("float((a @ a.T).sum()) == total and\\\n"
                             "float(b.sum()) == total")
        self.assertTrueThere("np.shares_memory(a, view)")
        self.assertValue("view[1, 1] = 7.5\na[2, 3], float(np.linalg.det(a[:2,"
                         " :2]).round())", "(7.5, -500.0)")

    def test_numpys_random_numbers_go_on_where_they_were(self):
        self.good("import numpy as np\nnp.random.seed(5)\n"
                  "own = np.random.default_rng(6)\n"
                  "_ = np.random.rand(), own.random()")
        self.lost("np.random.rand(99); np.random.seed(7); own.random(99)")
        self.assertTrueThere("twin = np.random.RandomState(5)\n"
                             "other = np.random.default_rng(6)\n"
                             "_ = twin.rand(), other.random()\n"
                             "all(np.random.rand() == twin.rand() and\n"
                             "    own.random() == other.random()\n"
                             "    for _ in range(10))")

    def test_pandas(self):
        self.good("import pandas as pd\n"
                  "df = pd.DataFrame({'k': list('abab'), 'n': [1, 2, 3, 4],\n"
                  "    't': pd.date_range('2024-02-28', periods=4)})\n"
                  "groups = df.groupby('k')")
        self.lost("df['n'] = 0\ndf.drop(columns='t', inplace=True)\n"
                  "df.loc[9] = 'x', 1")
        self.assertValue("groups['n'].sum().to_dict(), df.shape,\\\n"
                         "str(df['t'].max().date())",
                         "({'a': 4, 'b': 6}, (4, 3), '2024-03-02')")
        self.assertValue("df.merge(df, on='k')['n_x'].sum()", "20")

    def test_matplotlib(self):
        self.good("import io\nimport matplotlib.pyplot as plt\n"
                  "figure, axes = plt.subplots()\n"
                  "line, = axes.plot([1, 4, 9])")
        self.lost("figure.clear(); plt.close('all'); line = None")
        self.assertValue("plt.get_fignums(), axes.lines[0] is line,\\\n"
                         "list(line.get_ydata())", "([1], True, [1, 4, 9])")
        self.assertTrueThere("file = io.BytesIO()\nfigure.savefig(file)\n"
                             "file.getvalue()[:4] == b'\\x89PNG'")
        self.assertEqual(b"iVBOR",
                         self.good("figure").result[b"image/png"][:5])

    def test_sqlite_in_memory(self):
        self.good("import sqlite3\ndb = sqlite3.connect(':memory:')\n"
                  "_ = db.execute('create table t (n)')\n"
                  "_ = db.executemany('insert into t values (?)',\n"
                  "                   [(n,) for n in range(1000)])\n"
                  "rows = db.execute('select n from t order by n')\n"
                  "first = rows.fetchmany(3)")
        self.lost("db.execute('delete from t'); db.commit(); db.close()")
        self.assertValue("first, rows.fetchmany(2), db.in_transaction,\\\n"
                         "db.execute('select sum(n) from t').fetchone()",
                         "([(0,), (1,), (2,)], [(3,), (4,)], True, (499500,))")
        self.assertValue("db.rollback()\n"
                         "db.execute('select count(*) from t').fetchone()",
                         "(0,)")

    def test_sqlite_in_a_file(self):
        """Files are not rolled back; what was not committed is."""
        self.good("import sqlite3\ndb = sqlite3.connect('/tmp/db')\n"
                  "_ = db.execute('create table t (n)')\n"
                  "_ = db.execute('insert into t values (1)')\n"
                  "db.commit()\n"
                  "count = 'select count(*) from t'\n"
                  "before = db.execute(count).fetchone()")
        self.lost("db.execute('insert into t values (2)'); db.commit()\n"
                  "db.execute('insert into t values (3)')")
        self.assertValue("before, db.execute(count).fetchone()",
                         "((1,), (2,))")
        self.assertValue("_ = db.execute('insert into t values (4)')\n"
                         "db.commit()\nother = sqlite3.connect('/tmp/db')\n"
                         "other.execute(count).fetchone(), other.execute(\n"
                         "    'pragma integrity_check').fetchone()",
                         "((3,), ('ok',))")


class ThreadedBlas(LibraryTest):
    """Its threads are stopped for a copy and started anew behind it."""

    @classmethod
    def setUpClass(cls):
        image = custom_image(THREADED, network="default")
        cls.addClassCleanup(image.__exit__)
        cls.IMAGE = image.__enter__()

    def test_products_before_and_after(self):
        # It makes no more of them than it has cores.
        product = ("float((a @ a.T).sum()) == total, \\\n"
                   "len(os.listdir('/proc/self/task')) == \\\n"
                   "    min(3, len(os.sched_getaffinity(0)))")
        self.good("import os\nos.environ['OPENBLAS_NUM_THREADS'] = '3'\n"
                  "import numpy as np\n"
                  "a = np.arange(1000000.).reshape(1000, 1000)\n"
                  "total = float((a @ a.T).sum())")
        self.assertValue(product, "(True, True)")
        for way in "abort", "a kill", "a timeout":
            self.lost("a[:] = 0; a[:] = a @ a", way)
            self.assertValue(product, "(True, True)")
            self.assertValue(product, "(True, True)")


class Loops(LibraryTest):
    def test_one_that_a_top_level_await_made(self):
        self.good("import asyncio\n"
                  "loop = asyncio.get_running_loop()\n"
                  "queue, lock, event = asyncio.Queue(), asyncio.Lock(), \\\n"
                  "    asyncio.Event()\n"
                  "ticks = 0\n"
                  "async def tick():\n"
                  "    global ticks\n"
                  "    while True:\n"
                  "        await asyncio.sleep(0.001)\n"
                  "        ticks += 1\n"
                  "task = asyncio.create_task(tick())\n"
                  "waiter = asyncio.create_task(event.wait())\n"
                  "await lock.acquire()\n"
                  "await queue.put('kept')")
        self.lost("await queue.get(); lock.release(); task.cancel()\n"
                  "await asyncio.sleep(0); event.set(); ticks = -99")
        self.assertValue("asyncio.get_running_loop() is loop,\\\n"
                         "await asyncio.wait_for(queue.get(), 9),\\\n"
                         "lock.locked(), waiter.done(), task.done()",
                         "(True, 'kept', True, False, False)")
        self.assertTrueThere("seen = ticks\n"
                             "while ticks <= seen: await asyncio.sleep(0)\n"
                             "ticks > seen >= 0")
        self.assertValue("event.set()\n"
                         "await asyncio.wait_for(waiter, 9),\\\n"
                         "await asyncio.wait_for(asyncio.gather(\n"
                         "    *[asyncio.sleep(0, n) for n in range(3)]), 9)",
                         "(True, [0, 1, 2])")

    def test_its_servers_and_signal_handlers(self):
        self.good("import asyncio, os, signal\n"
                  "async def echo(reader, writer):\n"
                  "    writer.write(await reader.readline())\n"
                  "    writer.close()\n"
                  "server = await asyncio.start_server(echo, '127.0.0.1')\n"
                  "where = server.sockets[0].getsockname()\n"
                  "called = asyncio.Event()\n"
                  "asyncio.get_running_loop().add_signal_handler(\n"
                  "    signal.SIGUSR1, called.set)")
        self.lost("server.close(); called.set()")
        self.assertValue("async def call():\n"
                         "    reader, writer = \\\n"
                         "        await asyncio.open_connection(*where)\n"
                         "    writer.write(b'said\\n')\n"
                         "    return await reader.read()\n"
                         "await asyncio.wait_for(call(), 9)", "b'said\\n'")
        self.assertValue("os.kill(os.getpid(), signal.SIGUSR1)\n"
                         "await asyncio.wait_for(called.wait(), 9)", "True")

    def test_its_processes(self):
        self.good("import asyncio, threading\n"
                  "async def say(word):\n"
                  "    p = await asyncio.create_subprocess_exec(\n"
                  "        'echo', word, stdout=asyncio.subprocess.PIPE)\n"
                  "    said = (await p.communicate())[0], p.returncode\n"
                  "    while threading.active_count() > 1: # who waited for p\n"
                  "        await asyncio.sleep(0.001)\n"
                  "    return said\n"
                  "before = await say('before')")
        self.lost("await say('lost')\nbefore = None")
        self.assertValue("before, await asyncio.wait_for(say('after'), 9)",
                         "((b'before\\n', 0), (b'after\\n', 0))")

    def test_executors_are_threads(self):
        done = self.ok(self.agent, "import asyncio\n"
                                   "await asyncio.to_thread(abs, -1)")
        self.assertEqual((NOT_TAKEN, "1 of its threads would be missing"),
                         (done.taken, done.why))


class Processes(LibraryTest):
    def test_multiprocessing(self):
        self.good("import multiprocessing\n"
                  "context = multiprocessing.get_context('fork')\n"
                  "with context.Pool(3) as pool:\n"
                  "    before = pool.map(abs, range(-3, 0))\n"
                  "    pool.close(); pool.join()\n"
                  "lock = context.Lock()")
        self.lost("before.clear()")
        self.assertValue("ends, results = context.Pipe()\n"
                         "def work():\n"
                         "    with lock: results.send(before)\n"
                         "p = context.Process(target=work)\n"
                         "p.start(); p.join(9)\n"
                         "ends.recv(), p.exitcode", "([3, 2, 1], 0)")
        self.assertValue("with context.Pool(2) as pool:\n"
                         "    after = pool.map(str, before)\n"
                         "    pool.close(); pool.join()\n"
                         "after", "['3', '2', '1']")

    def test_subprocess(self):
        """Those that ran are gone, and nobody waits for them for ever."""
        self.good("import subprocess\n"
                  "cat = subprocess.Popen(['cat'], stdin=-1, stdout=-1)\n"
                  "said = subprocess.check_output(['echo', 'said'])")
        self.lost("said = cat.communicate(b'lost')[0]")
        self.assertValue("said, cat.wait(9) is None,\\\n"
                         "subprocess.run(['tr', 'a', 'b'], input='aha',\n"
                         "    text=True, capture_output=True).stdout",
                         "(b'said\\n', False, 'bhb')")

    def test_a_live_thread_is_told(self):
        done = self.ok(self.agent, "import threading\n"
                                   "stop = threading.Event()\n"
                                   "t = threading.Thread(target=stop.wait)\n"
                                   "t.start()")
        self.assertEqual((NOT_TAKEN, "1 of its threads would be missing"),
                         (done.taken, done.why))
        self.good("stop.set(); t.join()")

    def test_what_threads_have_left(self):
        self.good("import threading\n"
                  "seen, own = [], threading.local()\n"
                  "own.x = 'mine'\n"
                  "lock, gate = threading.Lock(), threading.Condition()\n"
                  "t = threading.Thread(target=seen.append, args=(1,))\n"
                  "t.start(); t.join()\n"
                  "_ = lock.acquire()")
        self.lost("lock.release(); own.x = 'lost'; seen.clear()")
        self.assertValue("t = threading.Thread(target=seen.append, args=[2])\n"
                         "t.start(); t.join(9)\n"
                         "seen, own.x, lock.locked(),\\\n"
                         "threading.active_count(), threading.main_thread() is"
                         "\\\nthreading.current_thread()",
                         "([1, 2], 'mine', True, 1, True)")


class Numbers(LibraryTest):
    def test_random_goes_on_where_it_was(self):
        """It is the same program, at an earlier time; a branch is another."""
        self.good("import random\nrandom.seed(7)\nown = random.Random(8)\n"
                  "_ = random.random(), own.random(), random.gauss(0, 1)")
        self.lost("random.seed(1); own.seed(1)")
        self.assertTrueThere(
            "twin, other = random.Random(7), random.Random(8)\n"
            "_ = twin.random(), other.random(), twin.gauss(0, 1)\n"
            "(random.gauss(0, 1), random.random(), own.random()) == \\\n"
            "(twin.gauss(0, 1), twin.random(), other.random())")

    def test_what_must_not_come_twice_does_not(self):
        words = ("str(uuid.uuid4()), str(uuid.uuid1()), secrets.token_hex(),"
                 " random.SystemRandom().random(), ssl.RAND_bytes(16).hex(),"
                 " tempfile.mktemp()")
        self.good("import random, secrets, ssl, tempfile, uuid\n"
                  "_ = " + words)
        lost = self.lost("print((%s), flush=True)" % words)
        after = [self.value(words)]
        self.lost("")
        after.append(self.value(words))
        told = [eval(text, {"__builtins__": {}}) for text in (lost, *after)]
        for each in zip(*told):
            self.assertEqual(3, len(set(each)), each)

    def test_decimal_and_context_variables(self):
        self.good("import contextvars, decimal\n"
                  "decimal.getcontext().prec = 40\n"
                  "decimal.getcontext().rounding = decimal.ROUND_UP\n"
                  "var = contextvars.ContextVar('var', default='none')\n"
                  "_ = var.set('kept')")
        self.lost("decimal.getcontext().prec = 3; var.set('lost')\n"
                  "decimal.setcontext(decimal.BasicContext)")
        self.assertValue("str(decimal.Decimal(1) / 3), var.get()",
                         "('0.%s4', 'kept')" % ("3" * 39))

    def test_hashlib(self):
        self.good("import hashlib, hmac\n"
                  "h = hashlib.sha256(b'a')\n"
                  "mac = hmac.new(b'k', b'a', 'sha1')")
        self.lost("h.update(b'lost'); mac.update(b'lost'); h = h.copy()")
        self.assertTrueThere("h.update(b'b'); mac.update(b'b')\n"
                             "h.digest() == hashlib.sha256(b'ab').digest() and"
                             "\\\n mac.digest() == hmac.digest(b'k', b'ab',"
                             " 'sha1')")

    def test_ssl_in_the_middle_of_a_talk(self):
        """Without certificates: TLS 1.2 has such ciphers."""
        self.good("import ssl\n"
                  "def side(server):\n"
                  "    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server\n"
                  "                       else ssl.PROTOCOL_TLS_CLIENT)\n"
                  "    c.check_hostname = False\n"
                  "    c.verify_mode = ssl.CERT_NONE\n"
                  "    c.maximum_version = ssl.TLSVersion.TLSv1_2\n"
                  "    c.set_ciphers('aNULL:@SECLEVEL=0')\n"
                  "    return c\n"
                  "there, back = ssl.MemoryBIO(), ssl.MemoryBIO()\n"
                  "client = side(False).wrap_bio(back, there)\n"
                  "server = side(True).wrap_bio(there, back, True)\n"
                  "def shake(end):\n"
                  "    try: end.do_handshake()\n"
                  "    except ssl.SSLWantReadError: pass\n"
                  "for _ in range(3): shake(client); shake(server)\n"
                  "_ = client.write(b'first')")
        self.lost("server.read(); client.write(b'lost'); server.read()")
        self.assertValue("_ = client.write(b'second')\n"
                         "server.read(5), server.read(6)",
                         "(b'first', b'second')")


class Files(LibraryTest):
    def test_one_is_read_on_where_it_was(self):
        self.good("with open('/tmp/lines', 'w') as f:\n"
                  "    for i in range(50000): _ = f.write('line %d\\n' % i)\n"
                  "f = open('/tmp/lines')\n"
                  "first = [f.readline() for _ in range(10)]")
        self.lost("_ = [f.readline() for _ in range(30000)]")
        self.assertTrueThere("[int(line.split()[1]) for line in f] ==\\\n"
                             " [*range(10, 50000)]")

    def test_tempfile(self):
        self.good("import os, tempfile\n"
                  "file = tempfile.NamedTemporaryFile('w+')\n"
                  "folder = tempfile.TemporaryDirectory()\n"
                  "_ = file.write('kept'); file.flush()")
        self.lost("open(folder.name + '/left', 'w').close()", "exit")
        self.assertValue("os.path.exists(file.name),\\\n"
                         "os.listdir(folder.name), file.seek(0), file.read()",
                         "(True, ['left'], 0, 'kept')")
        self.assertValue("file.close(); folder.cleanup()\n"
                         "os.path.exists(file.name),\\\n"
                         "os.path.exists(folder.name)", "(False, False)")

    def test_logging(self):
        self.good("import io, logging\n"
                  "text = io.StringIO()\n"
                  "logging.basicConfig(level=20, format='%(message)s')\n"
                  "log = logging.getLogger('a.b')\n"
                  "for h in (logging.StreamHandler(text),\n"
                  "          logging.FileHandler('/tmp/log')):\n"
                  "    log.addHandler(h)\n"
                  "log.info('before')")
        self.assertIn("lost", self.lost("log.info('lost')\n"
                                        "log.setLevel(50)\n"
                                        "logging.shutdown()\n"
                                        "log.handlers.clear()"))
        done = self.good("log.info('after')\n"
                         "text.getvalue(), open('/tmp/log').read()")
        self.assertEqual([(2, b"after\n")], done.output)
        self.assertEqual(b"('before\\nafter\\n', 'before\\nlost\\nafter\\n')",
                         done.result[b"text/plain"])


if __name__ == "__main__":
    unittest.main()
