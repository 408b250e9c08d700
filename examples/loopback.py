"""Where a program on this computer gets its answer from the browser: a port of its own, for one request (RFC 8252 §7.3)."""

from __future__ import annotations

import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Done</title>
<body style="font: 1.1rem system-ui; max-width: 34rem; margin: 20vh auto; padding: 0 1rem">
<h1>That is all</h1><p>The program has its answer. You can close this page and go back to the terminal.</p>"""


class Loopback:
    """Listens on 127.0.0.1 until the browser comes by."""

    def __init__(self) -> None:
        self._came: queue.Queue[str] = queue.Queue()
        came = self._came

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.path.startswith("/callback?")
                self.send_response(200 if wanted else 404)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(PAGE if wanted else b"")
                if wanted:
                    came.put(self.path)

            def log_message(self, *_: object) -> None:
                """Nothing: the code in the address is a secret for a minute."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}/callback"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait(self, seconds: float) -> str:
        """The address the browser came to, with the answer in its query. Raises `TimeoutError`."""
        try:
            return self._came.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"No answer from the browser within {seconds:.0f} seconds.") from None
        finally:
            self._server.shutdown()
            self._server.server_close()
