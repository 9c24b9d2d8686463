"""Weights from a hub: a server of this process, asked by another process, since the hub's address is read at import."""

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from safetensors.numpy import save

from unet_jax.config import UserError
from unet_jax.models.pretrained import read_pretrained

PROGRAM = """
import sys
from unet_jax.models.pretrained import read_pretrained
from unet_jax.shared import cli
cli.run(lambda: print(sys.argv[1], read_pretrained(sys.argv[1]).sha256))
"""
CONTENT = {
    f"/group/lite0/resolve/{name}/model.safetensors": save({"a": np.full(3, n)}) for n, name in ((1, "main"), (2, "v2"))
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download takes."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        content = CONTENT.get(self.path)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", hashlib.sha1(content).hexdigest())
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def read(tmp_path):
    """Call a process that reads weights from a hub of this process."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: the extra hub")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    env = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path)}
    env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}

    def call(spec):
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, spec], env=env, capture_output=True, text=True, timeout=120
        )

    yield call
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("spec", "revision"), [("hf:group/lite0", "main"), ("hf:group/lite0@v2", "v2")])
def test_a_revision_is_downloaded(read, spec, revision):
    done = read(spec)
    digest = hashlib.sha256(CONTENT[f"/group/lite0/resolve/{revision}/model.safetensors"]).hexdigest()
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, [f"{spec} {digest}"]), done.stderr


@pytest.mark.parametrize("spec", ["hf:group/other", "hf:a/b/c", "hf:"])
def test_what_the_hub_does_not_have_is_one_line(read, spec):
    done = read(spec)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {spec}: its model.safetensors cannot be had (")
    assert "Traceback" not in done.stderr


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"^hf:a/b takes huggingface_hub .* pip install 'unet-jax\[hub\]'"):
        read_pretrained("hf:a/b")
