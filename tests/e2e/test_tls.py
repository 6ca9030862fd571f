"""An engine over TCP and TLS, with client certificates: a relay with the
certificates of a small authority of its own stands before the real engine."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

import cellar_test
from cellar_test import run

ENGINE = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, timeout=60,
                   capture_output=True)


def make_authority(folder, name):
    """FOLDER/ca.pem and ca-key.pem."""
    os.makedirs(folder)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
            "/CN=" + name, "-keyout", "ca-key.pem", "-out", "ca.pem",
            cwd=folder)


def make_certificate(authority, prefix, subject, extension):
    """PREFIXcert.pem and PREFIXkey.pem in the authority's folder."""
    with open(os.path.join(authority, "extension"), "w",
              encoding="ascii") as file:
        file.write(extension)
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", "/CN=" + subject, "-keyout",
            prefix + "key.pem", "-out", "request", cwd=authority)
    openssl("x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey",
            "ca-key.pem", "-CAcreateserial", "-days", "2", "-extfile",
            "extension", "-out", prefix + "cert.pem", cwd=authority)


class Relay:
    """Between TLS connections and the engine's socket; counts them."""

    def __init__(self, context):
        self.context = context
        self.accepted = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.relay, args=(raw,),
                             daemon=True).start()

    def relay(self, raw):
        """TLS must be read and written by one thread: select, then move."""
        with contextlib.suppress(OSError), raw:
            raw.settimeout(10)
            with self.context.wrap_socket(raw, server_side=True) as tls, \
                    socket.socket(socket.AF_UNIX) as engine:
                self.accepted += 1
                engine.connect(ENGINE.removeprefix("unix://"))
                tls.setblocking(False)
                move_both_ways(tls, engine)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def read_tls(tls):
    """What there is; b"" for nothing now, None at the end."""
    try:
        return tls.recv(65536) or None
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return b""


def move_both_ways(tls, engine):
    import select
    while True:
        readable, _, _ = select.select([tls, engine], [], [], 600)
        if not readable:
            return
        if tls in readable:
            data = read_tls(tls)
            while data:
                engine.sendall(data)
                data = read_tls(tls)
            if data is None:
                return
        if engine in readable:
            data = engine.recv(65536)
            if not data:
                return
            tls.setblocking(True)
            tls.sendall(data)
            tls.setblocking(False)


@unittest.skipUnless(ENGINE.startswith("unix://"),
                     "the engine is not at a unix socket")
class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="cellar-tls-")
        cls.folder = os.path.join(cls.root, "authority")
        make_authority(cls.folder, "Cellar's test")
        make_certificate(cls.folder, "server-", "localhost",
                         "subjectAltName=DNS:localhost\n"
                         "extendedKeyUsage=serverAuth\n")
        make_certificate(cls.folder, "", "client",
                         "extendedKeyUsage=clientAuth\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(cls.folder, "server-cert.pem"),
                                os.path.join(cls.folder, "server-key.pem"))
        context.load_verify_locations(os.path.join(cls.folder, "ca.pem"))
        context.verify_mode = ssl.CERT_REQUIRED
        cls.relay = Relay(context)

    @classmethod
    def tearDownClass(cls):
        cls.relay.close()
        shutil.rmtree(cls.root)

    def cellar(self, *arguments, folder=None, host="localhost", verify="1",
               **options):
        environment = dict(cellar_test.ENVIRONMENT,
                           DOCKER_HOST="tcp://%s:%d" % (host, self.relay.port),
                           DOCKER_CERT_PATH=folder or self.folder,
                           DOCKER_TLS_VERIFY=verify)
        return run(*arguments, env=environment, **options)

    def test_a_session_over_tls(self):
        before = self.relay.accepted
        code = "total = sum(range(10))\nprint('x' * 300000)\ntotal"
        done = self.cellar("run", "--json", "-", stdin=code)
        self.assertEqual(0, done.status, done.err)
        self.assertGreater(self.relay.accepted, before)
        result = json.loads(done.out.splitlines()[-1])
        self.assertEqual("45", result["result"]["text/plain"])
        self.assertEqual("x" * 300000 + "\n", result["stdout"])
        self.assertEqual([], cellar_test.containers_left())

    def test_a_large_cell_goes_in_whole(self):
        code = "text = '%s'\nlen(text)" % ("y" * 900000)
        done = self.cellar("run", "--json", "-", stdin=code)
        self.assertEqual(0, done.status, done.err)
        result = json.loads(done.out.splitlines()[-1])
        self.assertEqual("900000", result["result"]["text/plain"])

    def test_doctor_over_tls(self):
        done = self.cellar("doctor", "--json")
        self.assertEqual(0, done.status, done.out + done.err)
        self.assertIn("tcp://localhost:%d" % self.relay.port, done.out)

    def test_a_file_that_is_missing_is_named(self):
        folder = os.path.join(self.root, "empty")
        os.makedirs(folder, exist_ok=True)
        done = self.cellar("run", "-", stdin="1", folder=folder)
        self.assertIn(done.status, (2, 3))
        self.assertIn(folder + "/ca.pem", done.err)

    def test_a_stranger_s_certificate_is_refused(self):
        folder = os.path.join(self.root, "stranger")
        make_authority(folder, "Somebody else")
        make_certificate(folder, "", "client", "extendedKeyUsage=clientAuth\n")
        done = self.cellar("run", "-", stdin="1", folder=folder)
        self.assertEqual(3, done.status, done.err)
        self.assertIn(folder + "/ca.pem does not vouch", done.err)

    def test_another_host_name_is_refused(self):
        done = self.cellar("run", "-", stdin="1", host="127.0.0.1")
        self.assertEqual(3, done.status, done.err)
        self.assertIn("TLS", done.err)

    def test_the_engine_refuses_a_stranger(self):
        """Our certificate is of another authority, theirs is known to us."""
        folder = os.path.join(self.root, "unknown")
        make_authority(folder, "Nobody")
        make_certificate(folder, "", "client", "extendedKeyUsage=clientAuth\n")
        shutil.copy(os.path.join(self.folder, "ca.pem"), folder)
        done = self.cellar("run", "-", stdin="1", folder=folder)
        self.assertEqual(3, done.status, done.err)
        self.assertIn("tcp://localhost", done.err)

    def test_plain_http_to_a_tls_engine(self):
        done = self.cellar("run", "-", stdin="1", verify="")
        self.assertEqual(3, done.status, done.err)


if __name__ == "__main__":
    unittest.main()
