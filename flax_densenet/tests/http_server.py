"""A web server on this machine, which gives what a test has put there, and faults on request."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import NamedTuple


class Answer(NamedTuple):
    """What the server answers for a path.

    Attributes:
      body: The content.
      status: Status code.
      headers: Further headers.
      sent: Bytes of the content that are sent before the connection is closed; all if None.
      has_length: Whether Content-Length is said.
    """

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    sent: int | None = None
    has_length: bool = True


class Server(http.server.ThreadingHTTPServer):
    """The server.

    Attributes:
      answers: {path: answer}; any other path is 404.
      asked: The paths that were asked for, in order.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []

    def url(self, path: str) -> str:
        """Returns the address of a path, such as "/file"."""
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        answer = self.server.answers.get(path, Answer(status=404))
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.has_length:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if with_body:
            with contextlib.suppress(ConnectionError):  # the client may have read enough
                self.wfile.write(answer.body[: answer.sent])

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    """Runs a server."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
