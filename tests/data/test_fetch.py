"""Fetching: found files, mirrors, hashes, archives and errors, over a server on the loopback."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from qrkd_lab.data.fetch import DataError, RemoteFile, data_dir, fetch

CONTENT = b"forty-two is the answer\n" * 1000


def md5(content):
    return "md5:" + hashlib.md5(content).hexdigest()


class Server:
    """Serves ``pages``; ``cut`` paths break off in the middle; ``asked`` lists the requests."""

    def __init__(self):
        self.pages: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.asked.append(self.path)
                body = owner.pages.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if self.path in owner.cut else body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.http.server_port}{path}"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def left_over(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def remote(server, name, content, *members):
    """A file that the server has, with its right hash."""
    server.pages["/x"] = content
    return RemoteFile(name, (server.url("/x"),), md5(content), members)


def test_data_dir_takes_the_argument_then_the_variable_then_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QRKD_DATA_DIR", str(tmp_path / "variable"))
    assert data_dir(tmp_path / "argument") == tmp_path / "argument"
    assert data_dir() == tmp_path / "variable"
    monkeypatch.setenv("QRKD_DATA_DIR", "")
    assert data_dir().name == "qrkd-lab"
    monkeypatch.delenv("QRKD_DATA_DIR")
    assert data_dir().name == "qrkd-lab"
    assert data_dir("~/x") == Path.home() / "x"
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"Expected a folder .* QRKD_DATA_DIR"):
        data_dir(tmp_path / "file")


def test_a_file_that_is_there_is_not_downloaded_nor_without_permission(tmp_path, server):
    file = remote(server, "a.bin", CONTENT)
    with pytest.raises(DataError, match="downloading was not allowed"):
        fetch(file, tmp_path, download=False)
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert fetch(file, tmp_path) == tmp_path / "a.bin"
    assert server.asked == []


def test_mirrors_are_tried_in_turn(tmp_path, server):
    server.pages |= {"/wrong": b"an error page", "/cut": CONTENT, "/good": CONTENT, "/next": b""}
    server.cut.add("/cut")
    urls = tuple(server.url(p) for p in ("/missing", "/wrong", "/cut", "/good", "/next"))
    got = fetch(RemoteFile("a.bin", urls, md5(CONTENT)), tmp_path)
    assert got.read_bytes() == CONTENT and got.stat().st_mode & 0o444 == 0o444  # for others too
    assert server.asked == ["/missing", "/wrong", "/cut", "/good"]
    assert left_over(tmp_path) == ["a.bin"]


def test_a_failed_download_keeps_nothing_and_says_what_to_do(tmp_path, server):
    server.pages["/cut"] = CONTENT
    server.cut.add("/cut")
    file = RemoteFile("a.bin", (server.url("/cut"),), md5(CONTENT))
    with pytest.raises(DataError) as caught:
        fetch(file, tmp_path)
    for needed in ("a.bin", str(tmp_path), *file.urls, md5(CONTENT), "QRKD_DATA_DIR"):
        assert needed in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="Cannot write to .* QRKD_DATA_DIR"):
        fetch(file, tmp_path / "file" / "below")


def test_a_damaged_archive_of_the_user_is_named_and_never_touched(tmp_path, server):
    file = remote(server, "a.tar.gz", CONTENT, "a")
    mine = tmp_path / "a.tar.gz"
    mine.write_bytes(b"mine")
    with pytest.raises(DataError) as caught:
        fetch(file, tmp_path)
    for needed in (str(mine), "damaged", "Delete it", md5(CONTENT), md5(b"mine")):
        assert needed in str(caught.value)
    assert mine.read_bytes() == b"mine" and server.asked == []


def tar_of(members, link=None):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if link:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, link, 0
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "pack"), [("d.tar.gz", tar_of), ("d.zip", zip_of)])
def test_only_the_wanted_members_of_an_archive_arrive(tmp_path, server, name, pack):
    archive = pack({"d/a": b"A", "d/b": b"B", "d/other": b"O", "../outside": b"O"})
    file = remote(server, name, archive, "d/a", "d/b")
    assert fetch(file, tmp_path / "data") == tmp_path / "data"
    assert left_over(tmp_path) == ["data/d/a", "data/d/b"]
    fetch(file, tmp_path / "data")
    assert len(server.asked) == 1
    (tmp_path / "data/d/a").unlink()
    (tmp_path / "data/d/b").write_bytes(b"mine")
    fetch(file, tmp_path / "data")
    assert (tmp_path / "data/d/a").read_bytes() == b"A"
    assert (tmp_path / "data/d/b").read_bytes() == b"mine"


def test_an_archive_that_lies_there_is_unpacked_and_kept(tmp_path, server):
    packed = gzip.compress(CONTENT)
    (tmp_path / "a.idx.gz").write_bytes(packed)
    fetch(remote(server, "a.idx.gz", packed, "a.idx"), tmp_path, download=False)
    assert (tmp_path / "a.idx").read_bytes() == CONTENT
    assert left_over(tmp_path) == ["a.idx", "a.idx.gz"] and server.asked == []


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (tar_of({"d/b": b"A"}), "Cannot write to .*d/a"),
        (tar_of({"d/a": b""}, "/etc/passwd"), "could not be unpacked"),
        (tar_of({"d/a": CONTENT})[:-30], "could not be unpacked"),
    ],
    ids=["no member", "link", "cut"],
)
def test_what_is_wrong_inside_an_archive_is_not_installed(tmp_path, server, archive, said):
    with pytest.raises(DataError, match=said):
        fetch(remote(server, "d.tar.gz", archive, "d/a"), tmp_path)
    assert left_over(tmp_path) == []


def test_two_fetches_at_once_both_succeed(tmp_path, server):
    file = remote(server, "d.tar.gz", tar_of({"d/a": CONTENT, "d/sub/b": b"B"}), "d/a", "d/sub")
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(lambda _: fetch(file, tmp_path), range(4))] == 4 * [tmp_path]
    assert left_over(tmp_path) == ["d/a", "d/sub/b"]
