"""Sites that are not ours, or not quite: a server that answers as it is told, and a line that breaks."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

QUEUED = {
    "run_id": "00000000-0000-4000-8000-000000000001", "title": "AT", "protocol": "smoke v1", "state": "queued",
    "ended": False, "examples": 10, "examples_done": 0, "position": 1, "forecast": None, "obstacle": None,
    "failure": None,
}  # fmt: skip


@dataclass
class Scripted:
    """What a server answers, in turn, and what it was asked: method, path, headers, body."""

    address: str = ""
    answers: list[tuple[int, dict[str, str], object]] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def scripted(*answers: tuple[int, dict[str, str], object]) -> Iterator[Scripted]:
    """Yield a server on this machine that gives these answers; status 0 hangs up instead."""
    site = Scripted(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            site.asked.append((self.command, self.path, dict(self.headers), body))
            status, headers, document = site.answers.pop(0)
            if not status:
                self.close_connection = True
                return
            content = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield site
        finally:
            server.shutdown()


class Line:
    """A line to a server that lets the first `breaks` uploads come only so far: `address` is where it begins.

    A broken upload hangs, as on a bad line, until `cut` is called; `arrived` is set once it does.
    """

    def __init__(self, to: str, *, breaks: int, after: int) -> None:
        host, _, port = to.removeprefix("http://").partition(":")
        self._to, self._breaks, self._after = (host, int(port)), breaks, after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.arrived, self._cut = threading.Event(), threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        """Hang up on uploads that hang."""
        self._cut.set()

    def close(self) -> None:
        """Take no more connections."""
        self.cut()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._to) as server, suppress(OSError):
            threading.Thread(target=self._copy, args=(server, client), daemon=True).start()
            while part := client.recv(1 << 16):
                if part.startswith(b"POST") and self._breaks > 0:  # a request begins where the one before was answered
                    self._breaks -= 1
                    self._break(part, client, server)
                    return
                server.sendall(part)

    def _break(self, part: bytes, client: socket.socket, server: socket.socket) -> None:
        left = self._after
        while part and left:
            server.sendall(part[:left])
            left -= len(part[:left])
            part = client.recv(1 << 16) if left else b""
        self.arrived.set()
        self._cut.wait()
        for end in (client, server):
            end.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(1 << 16):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)
