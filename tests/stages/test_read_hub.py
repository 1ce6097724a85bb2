"""`--online` against a local server that speaks like the Hub, and against servers that do not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SHA = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_madeUpForThisTest"

PROGRAM = """
import json, sys
from adapterfit.errors import CannotCheck
from adapterfit.read import locate
from adapterfit.read.base import read_base
from adapterfit.read.sources import hub
hub.PAUSE_SECONDS, hub.SILENCE_SECONDS, hub.REQUEST_SECONDS = 0.01, 1.0, 1.0
try:
    base = read_base(locate.locate(sys.argv[1], kind="base", online=True))
    print(json.dumps({"label": base.label, "revision": base.revision, "model_type": base.model_type,
                      "complete": base.complete, "flaws": [flaw.code for flaw in base.flaws],
                      "shapes": {name: list(t.shape) for name, t in base.tensors.items()}}))
except CannotCheck as error:
    print(json.dumps({"cannot": str(error)}))
"""


def safetensors(shapes, padding=0):
    """A safetensors file of zeros."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        count = 4
        for size in shape:
            count *= size
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + count]}
        offset += count
    text = json.dumps(header).encode() + b" " * padding
    return len(text).to_bytes(8, "little") + text + b"\0" * offset


def sharded():
    """A base of two shards."""
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    index = {"metadata": {"total_size": 1}, "weight_map": {"a.weight": first, "b.weight": second}}
    return {
        "config.json": b'{"model_type": "llama"}',
        "model.safetensors.index.json": json.dumps(index).encode(),
        first: safetensors({"a.weight": [2, 3]}),
        second: safetensors({"b.weight": [400, 500]}),
    }


class Hub(BaseHTTPRequestHandler):
    """The two addresses of the Hub that are used: a model's listing, and a file of one commit."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        hub = self.server
        if not self.path.startswith(("/api/models/", "/tiny/")):  # huggingface_hub's own questions
            self.answer(404, b"")
            return
        hub.seen.append((self.path, dict(self.headers)))
        if hub.override and hub.override(self):
            return
        listing = re.fullmatch(r"/api/models/(.+?)/revision/(.+?)(\?.*)?|/api/models/([^?]+)(\?.*)?", self.path)
        if listing:
            siblings = [{"rfilename": name, "size": hub.sizes.get(name, len(data))} for name, data in hub.files.items()]
            about = {"id": "tiny/llama", "sha": SHA, "private": False, "downloads": 0, "likes": 0, "tags": []}
            self.answer(200, json.dumps({**about, "siblings": siblings}).encode())
            return
        name = self.path.partition(f"/resolve/{SHA}/")[2]
        if name not in hub.files:
            self.answer(404, b"Entry not found", {"X-Error-Code": "EntryNotFound"})
            return
        self.file(hub.files[name])

    def file(self, data):
        first, last = (int(end) for end in re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        if first >= len(data):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        part = data[first : last + 1]
        self.answer(206, part, {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(data)}"})

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        if "Content-Length" not in dict(headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *args):
        pass


@contextmanager
def serving(files, override=None, sizes=()):
    """A running server; `seen` lists the requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.override, server.sizes, server.seen = files, override, dict(sizes), []
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def ask(server, tmp_path, word="tiny/llama", **environment):
    """What a fresh process finds at `word`."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        **environment,
    }
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, word],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def ranges(server):
    return [headers["Range"] for _, headers in server.seen if "Range" in headers]


def for_files(act):
    """An override for requests of files only."""

    def override(request):
        if "/resolve/" not in request.path:
            return False
        return act(request) is not False

    return override


def test_a_sharded_base_is_read_by_one_range_per_file(tmp_path):
    with serving(sharded()) as server:
        found = ask(server, tmp_path)
    assert found == {
        "label": "hf://tiny/llama",
        "revision": SHA,
        "model_type": "llama",
        "complete": True,
        "flaws": [],
        "shapes": {"a.weight": [2, 3], "b.weight": [400, 500]},
    }
    assert len(server.seen) == 5
    assert all(int(span.split("-")[1]) < 100_000 for span in ranges(server)), "no weights are fetched"


def test_a_revision_and_a_folder_are_asked_for_as_named(tmp_path):
    files = {f"sub/{name}": data for name, data in sharded().items()}
    with serving(files) as server:
        found = ask(server, tmp_path, "hf://tiny/llama@v1.0/sub")
    assert "/revision/v1.0" in server.seen[0][0]
    assert found["complete"]


def test_a_cache_entry_without_weights_does_not_stand_in_the_way(tmp_path):
    snapshot = tmp_path / "hf" / "hub" / "models--tiny--llama" / "snapshots" / SHA
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes(b"{}")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(SHA)
    with serving(sharded()) as server:
        assert ask(server, tmp_path)["complete"]
    for name, data in sharded().items():
        (snapshot / name).write_bytes(data)
    with serving({}) as server:
        assert ask(server, tmp_path)["complete"], "a whole entry is enough"
    assert not server.seen


def test_a_long_header_is_read_with_a_second_request(tmp_path):
    files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": safetensors({"a": [2]}, padding=300_000)}
    with serving(files) as server:
        assert ask(server, tmp_path)["shapes"] == {"a": [2]}


def test_sizes_the_listing_leaves_out_are_learnt_from_the_first_answer(tmp_path):
    with serving(sharded(), sizes=dict.fromkeys(sharded())) as server:
        assert ask(server, tmp_path)["complete"]


def test_an_empty_file_is_a_flaw_not_a_failure(tmp_path):
    for sizes in ({}, {"model.safetensors": None}):
        with serving({"config.json": b"{}", "model.safetensors": b""}, sizes=sizes) as server:
            assert "truncated-file" in ask(server, tmp_path)["flaws"]


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "", "hub-access-denied: hf://tiny/llama does not exist, or is private"),
        (401, "RepoNotFound", "hub-access-denied: hf://tiny/llama does not exist, or is private"),
        (404, "RepoNotFound", "hub-access-denied: hf://tiny/llama does not exist, or is private"),
        (404, "RevisionNotFound", "does not know this revision"),
        (403, "GatedRepo", "hub-access-denied: hf://tiny/llama is gated"),
        (403, "", "gated"),
        (500, "", "answers 500"),
        (429, "", "answers 429"),
    ],
)
@pytest.mark.parametrize("where", ["listing", "file"])
def test_a_refusal_is_one_line_that_says_what_to_do(tmp_path, status, code, said, where):
    def override(request):
        if ("/resolve/" in request.path) != (where == "file"):
            return False
        request.answer(status, b"no", {"X-Error-Code": code} if code else {})
        return True

    with serving(sharded(), override) as server:
        cannot = ask(server, tmp_path)["cannot"]
    wanted = said.replace("hf://tiny/llama", "config.json of hf://tiny/llama") if where == "file" else said
    assert wanted in cannot
    assert "\n" not in cannot
    assert TOKEN not in cannot
    assert len(server.seen) <= 4, "retries are bounded"


def test_what_passes_by_itself_is_tried_again(tmp_path):
    failures = iter([503, 503])

    def flaky(request):
        status = next(failures, None)
        if status is None:
            return False
        request.answer(status, b"later")
        return True

    with serving(sharded(), for_files(flaky)) as server:
        assert ask(server, tmp_path)["complete"]


def test_a_file_the_listing_promised_but_the_server_lacks_is_said(tmp_path):
    with serving(
        sharded(), for_files(lambda request: request.answer(404, b"", {"X-Error-Code": "EntryNotFound"}))
    ) as server:
        assert "config.json of hf://tiny/llama: the Hub does not have it" in ask(server, tmp_path)["cannot"]


def test_a_server_that_ignores_ranges_is_read_only_as_far_as_needed(tmp_path):
    sent = []

    def whole(request):
        data = server.files[request.path.partition(f"/resolve/{SHA}/")[2]]
        sent.append(len(data))
        request.answer(200, data)

    with serving(sharded(), for_files(whole)) as server:
        assert ask(server, tmp_path)["complete"]
    assert sent


def test_a_server_that_ignores_ranges_and_never_ends_is_left(tmp_path):
    def endless(request):
        request.answer(200, b"x" * 1000, {"Transfer-Encoding": "identity", "Content-Length": str(10**13)})

    with serving(sharded(), for_files(endless)) as server:
        assert "could not be read in 3 tries" in ask(server, tmp_path)["cannot"]


@pytest.mark.parametrize("lie", [1, 10, 1000])
def test_a_listing_that_lies_about_a_size_is_a_contradiction(tmp_path, lie):
    with serving(sharded(), sizes={"config.json": lie}) as server:
        assert "changed-while-reading" in ask(server, tmp_path)["cannot"]


@pytest.mark.parametrize(
    "span", ["bytes 5-30/31", "bytes 0-3/4/5", "", "bytes */31", "bytes -1-5/31", "bytes 0-22/99999999999999999999999"]
)
def test_an_answer_for_another_range_is_not_taken(tmp_path, span):
    with serving(
        sharded(), for_files(lambda request: request.answer(206, b"x" * 23, {"Content-Range": span}))
    ) as server:
        assert "another range" in ask(server, tmp_path)["cannot"]


def test_a_compressed_answer_is_not_unpacked(tmp_path):
    bomb = {"Content-Encoding": "gzip", "Content-Range": "bytes 0-22/23"}
    with serving(sharded(), for_files(lambda request: request.answer(206, b"x" * 23, bomb))) as server:
        assert "compresses" in ask(server, tmp_path)["cannot"]


def test_a_redirect_to_another_host_is_followed_without_the_token(tmp_path):
    with serving(sharded()) as store:

        def elsewhere(request):
            request.answer(302, b"", {"Location": f"http://localhost:{store.server_address[1]}{request.path}"})

        with serving(sharded(), for_files(elsewhere)) as server:
            assert ask(server, tmp_path, NO_PROXY="127.0.0.1,localhost")["complete"]
    assert any("authorization" in {key.lower() for key in headers} for _, headers in server.seen)
    assert store.seen
    assert not any("authorization" in {key.lower() for key in headers} for _, headers in store.seen)


def test_redirects_in_a_circle_end(tmp_path):
    with serving(sharded(), for_files(lambda request: request.answer(302, b"", {"Location": request.path}))) as server:
        assert "was not reached" in ask(server, tmp_path)["cannot"]


def test_file_names_that_are_no_relative_paths_are_left_out(tmp_path):
    with serving({**sharded(), "../../evil.json": b"{}", "/abs.json": b"{}", "a\\b": b""}) as server:
        found = ask(server, tmp_path)
    assert found["flaws"] == ["path-escapes"] * 3
    assert found["complete"]


def test_a_listing_that_is_no_json_is_one_line(tmp_path):
    def garbled(request):
        if "/api/" in request.path:
            request.answer(200, b"<html>login</html>")
            return True
        return False

    with serving(sharded(), garbled) as server:
        assert "was not reached" in ask(server, tmp_path)["cannot"]


def test_nobody_listening_is_one_line(tmp_path):
    with serving(sharded()) as server:
        pass
    assert "the Hub was not reached" in ask(server, tmp_path)["cannot"]


def test_the_offline_switch_wins_over_online(tmp_path):
    with serving(sharded()) as server:
        assert "HF_HUB_OFFLINE is set" in ask(server, tmp_path, HF_HUB_OFFLINE="1")["cannot"]
    assert not server.seen


def test_a_silent_server_is_given_up(tmp_path):
    def mute(request):
        threading.Event().wait(1.5)
        return True

    with serving(sharded(), for_files(mute)) as server:
        assert "could not be read in 3 tries" in ask(server, tmp_path)["cannot"]
