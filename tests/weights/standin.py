"""A stand-in of the hub on this machine: files at commits, served as the hub's client asks for them."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Hub:
    """`repositories`: {name: {revision: {file: bytes}}}; branches and tags name the commit that they stand for."""

    def __init__(self):
        self.repositories: dict[str, dict[str, str | dict[str, bytes]]] = {}
        self.asked: list[str] = []

    def add(self, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.repositories.setdefault(name, {}).update({commit: files, branch: commit})
        return commit

    def find(self, path: str) -> tuple[int, dict[str, str], bytes]:
        name, _, rest = path.strip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        commits = self.repositories.get(name)
        if commits is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        commit = commits.get(revision, revision)
        held = commits.get(commit)
        if held is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if file not in held:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(held[file]).hexdigest()}"'}, held[file]


@contextmanager
def serve(hub: Hub):
    """The address of a server of that hub on 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(True)

        def do_HEAD(self):
            self.answer(False)

        def answer(self, body: bool):
            hub.asked.append(f"{self.command} {self.path}")
            status, headers, data = hub.find(self.path)
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def prefill(cache: Path, name: str, files: dict[str, bytes], commit: str, branch: str = "main") -> None:
    """A repository in the layout of the hub's cache."""
    home = cache / f"models--{name.replace('/', '--')}"
    for file, data in files.items():
        path = home / "snapshots" / commit / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / branch).write_text(commit)


def timm_config(architecture: str, num_classes: int, **more) -> bytes:
    """A `config.json` as timm writes it."""
    seen = {
        "tag": "a1_in1k",
        "custom_load": False,
        "input_size": [3, 160, 160],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": num_classes,
        "license": "apache-2.0",
    }
    return json.dumps(
        {"architecture": architecture, "num_classes": num_classes, "pretrained_cfg": seen, **more}
    ).encode()
