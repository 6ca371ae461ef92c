"""A web server of files for the tests, and tar files of any members."""

import contextlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content, wanted = self.server.files.get(self.path.lstrip("/")), self.headers.get("Range")
        first, last = 0, ""
        if wanted and self.server.ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = content and content[int(first) : int(last) + 1 if last else None]
        if not part:
            self.send_error(404 if content is None else 416)
            return
        self.send_response(206 if wanted and self.server.ranges else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            cut, self.server.cuts = self.server.cuts, max(0, self.server.cuts - 1)  # before the client can have it all
            self.server.requested.append(wanted)
            self.wfile.write(part[: len(part) // 2] if cut else part)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve(files, ranges=True):
    """A server of contents by name; without `ranges` it sends whole files. The first `cuts` answers break off half way."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.ranges, server.cuts, server.requested = files, ranges, 0, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def write_tar(path, *members):
    """A tar file of members (name, content) or (name, content, type); links lead to /etc/passwd."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for name, content, *kind in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content), kind[0] if kind else tarfile.REGTYPE
            info.linkname = "/etc/passwd" if info.issym() or info.islnk() else ""
            file.addfile(info, io.BytesIO(content))
    return path
