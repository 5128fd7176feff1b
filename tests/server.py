"""A web server on this machine, of files, and of what else may come in their place."""

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves ``files``, by path; the other attributes say what goes wrong."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []  # path and Range of each
        self.break_after: int | None = None  # bytes, once
        self.knows_length = self.knows_ranges = True
        self.seconds_a_piece = 0.

    @property
    def url(self) -> str:
        return 'http://127.0.0.1:{1}'.format(*self.server_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get('Range')
        server.requests.append((self.path, wanted))
        data = server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix('bytes=').removesuffix('-')) if wanted and server.knows_ranges else 0
        if start >= len(data) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        is_page = data.lstrip().startswith(b'<')
        self.send_header('Content-Type', 'text/html; charset=utf-8' if is_page else 'application/octet-stream')
        if server.knows_length:
            self.send_header('Content-Length', str(len(data) - start))
        self.end_headers()
        end, server.break_after = server.break_after or len(data), None
        with contextlib.suppress(ConnectionError):
            for begin in range(start, end, 1 << 16):
                self.wfile.write(data[begin:min(end, begin + (1 << 16))])
                time.sleep(server.seconds_a_piece)

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02, ))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
