"""Local web server of a folder, with faults; the tests reach no other server."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Handler(SimpleHTTPRequestHandler):
    """Serves files without ranges, and index pages. The first part of the path may name a fault."""

    def do_GET(self) -> None:
        fault = self.path.split("/")[1]
        if fault in ("401", "403", "500"):
            self.send_error(int(fault))
        elif fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"short")
            self.close_connection = True
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        if self.path.split("/")[1] in ("401", "403", "500"):
            self.send_error(int(self.path.split("/")[1]))
        else:
            super().do_HEAD()

    def send_header(self, keyword: str, value: str) -> None:
        """Declare the answer to ``/?photo=NUMBER`` to be an image, as that of a script."""
        is_photo = self.path.startswith("/?photo=") and keyword.lower() == "content-type"
        super().send_header(keyword, "image/png" if is_photo else value)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of this machine; yield its address without a final slash."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
