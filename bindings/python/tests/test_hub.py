"""Models by name, from a server that answers as a Hugging Face hub does."""

from __future__ import annotations

import hashlib
import http.server
import json
import logging
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import FIXTURES

import anser

COMMIT = "c0ffee" + "0" * 34
FILE = "tiny.gguf"
CONTENT = (FIXTURES / "tiny" / "tiny-v7mini-f16.gguf").read_bytes()


class Hub(http.server.BaseHTTPRequestHandler):
    """One repository, ann/goose, with one model."""

    requests: list[str] = []

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        Hub.requests.append(f"{self.command} {self.path}")
        status, body, headers = 404, b"", {"x-error-code": "RepoNotFound"}
        if self.path.startswith("/api/models/ann/goose/revision/main"):
            listing = {"sha": COMMIT, "siblings": [{"rfilename": FILE}]}
            status, body, headers = 200, json.dumps(listing).encode(), {}
        elif self.path == f"/ann/goose/resolve/{COMMIT}/{FILE}":
            etag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
            status, body, headers = 200, CONTENT, {"etag": etag, "x-repo-commit": COMMIT}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A hub that the environment names, and the folder of its empty cache."""
    Hub.requests = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    yield tmp_path
    server.shutdown()
    server.server_close()


def test_a_name_is_downloaded_once(hub: Path) -> None:
    seen: list[tuple[int, int]] = []
    model = anser.load("hf:ann/goose", device="cpu", progress=lambda done, total: seen.append((done, total)))
    assert (len(CONTENT), len(CONTENT)) in seen
    of_file = anser.load(FIXTURES / "tiny" / "tiny-v7mini-f16.gguf", device="cpu")
    np.testing.assert_array_equal(model.embed([[1, 2, 3]]), of_file.embed([[1, 2, 3]]))
    place = hub / "hub" / "models--ann--goose" / "snapshots" / COMMIT / FILE
    assert place.read_bytes() == CONTENT
    anser.load(f"hf:ann/goose:{FILE}@main", device="cpu")
    assert Hub.requests.count(f"GET /ann/goose/resolve/{COMMIT}/{FILE}") == 1


def test_a_cached_name_needs_no_network(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(anser.MissingFileError, match="hf:ann/goose: it is not in the cache"):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        anser.load("hf:ann/goose", device="cpu")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    model = anser.load("hf:ann/goose", device="cpu")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    n_requests = len(Hub.requests)
    assert pickle.loads(pickle.dumps(model)) is model, "a pickle has the name"
    anser.load("hf:ann/goose", device="cpu")
    assert len(Hub.requests) == n_requests


def test_what_goes_wrong_is_told(hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(anser.OptionError, match="a model on a hub is named hf:OWNER/REPO"):
        anser.load("hf:goose", device="cpu")
    with pytest.raises(anser.MissingFileError, match="ann/nobody: .* no such repository"):
        anser.load("hf:ann/nobody", device="cpu")
    with pytest.raises(anser.MissingFileError, match="there is no model 'other.gguf'|no model \"other.gguf\""):
        anser.load("hf:ann/goose:other.gguf", device="cpu")

    def stop(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with caplog.at_level(logging.INFO, "anser"), pytest.raises(RuntimeError, match="enough"):
        anser.load("hf:ann/goose", device="cpu", progress=stop)
