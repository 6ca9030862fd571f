"""A door before the real engine that some images don't go through:

    with EngineProxy(hidden=["debian:12-slim"]) as proxy:
        run("image", "build", "--host", proxy.host)

A hidden image is neither there nor to be had; all else is the engine's. It
serves requests and replies, not upgraded streams.
"""

import http.client
import http.server
import json
import os
import socket
import socketserver
import tempfile
import threading
import urllib.parse

ENGINE = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(600)
        self.sock.connect(ENGINE.removeprefix("unix://"))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def hides(self):
        path = urllib.parse.unquote(self.path)
        return any("/images/%s/json" % image in path for image in
                   self.server.hidden) or "/images/create?fromImage=" in path

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def serve(self):
        body = self.body()
        self.server.asked.append(self.command + " " + self.path)
        if self.hides():
            text = json.dumps({"message": "hidden by the test"})
            self.answer(404, "application/json", text.encode())
            return
        engine = Connection("engine")
        headers = {"Host": "engine"}
        if self.headers.get("Content-Type"):
            headers["Content-Type"] = self.headers["Content-Type"]
        engine.request(self.command, self.path, body or None, headers)
        reply = engine.getresponse()
        self.answer(reply.status, reply.headers.get_content_type(),
                    reply.read())
        engine.close()

    do_GET = do_POST = do_HEAD = do_DELETE = serve

    def address_string(self):
        return "cellar"

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class EngineProxy:
    """`asked` lists the requests that came."""

    def __init__(self, hidden):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "engine.sock")
        self.server = Server(self.path, Handler)
        self.server.hidden = hidden
        self.asked = self.server.asked = []

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    @property
    def host(self):
        return "unix://" + self.path

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.folder.cleanup()
