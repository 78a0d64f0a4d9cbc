from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kexue_cli.errors import UserError
from kexue_cli.manage import datasets, download
from kexue_cli.manage.datasets import DataFile

pytest.importorskip("pooch", reason="needs the extra [data]")

CONTENT = bytes(range(256)) * 4000


class Server:
    """A local HTTP server; `breaks` are the sizes after which it hangs up, one per request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks: list[int] = []
        self.ranges = True
        self.wrong: list[bytes] = []
        self.failures: list[int] = []
        self.requests: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/{name}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        if self.failures:
            handler.send_error(self.failures.pop(0))
            return
        name = handler.path.lstrip("/")
        if name not in self.files:
            handler.send_error(404)
            return
        content = self.wrong.pop(0) if self.wrong else self.files[name]
        start = 0
        if wanted and self.ranges:
            match = re.fullmatch(r"bytes=(\d+)-", wanted)
            assert match is not None
            start = int(match.group(1))
            if start >= len(content):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(content)}")
                handler.end_headers()
                return
            handler.send_response(206)
        else:
            handler.send_response(200)
        body = content[start:]
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.breaks.pop(0)] if self.breaks else body)
        handler.close_connection = True

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("KEXUE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server()
    running.files["set.bin"] = CONTENT
    yield running
    running.close()


def described(server: Server, content: bytes = CONTENT, **more: str) -> DataFile:
    return DataFile(
        path="set.bin",
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        url=server.url("set.bin"),
        **more,
    )


def fetch(file: DataFile, folder: Path) -> list[str]:
    said: list[str] = []
    download.fetch(file, folder, said.append, pause_seconds=0.001)
    return said


def test_a_whole_file_is_fetched_and_checked(server: Server, tmp_path: Path) -> None:
    fetch(described(server), tmp_path / "d")
    assert (tmp_path / "d/set.bin").read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["set.bin"]


def test_broken_connections_are_continued_where_they_broke(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000, 0, 250_000]
    fetch(described(server), tmp_path)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT
    starts = [int(re.findall(r"\d+", wanted)[0]) for wanted in server.requests if wanted]
    assert len(starts) == 3
    assert 100_000 - download.CHUNK_BYTES < starts[0] == starts[1] <= 100_000
    assert starts[1] + 250_000 - download.CHUNK_BYTES < starts[2]


def test_a_server_without_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.breaks, server.ranges = [100_000], False
    fetch(described(server), tmp_path)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_errors_of_the_server_are_waited_out(server: Server, tmp_path: Path) -> None:
    server.failures = [503, 500]
    fetch(described(server), tmp_path)
    assert len(server.requests) == 3


def test_a_connection_that_never_gets_further_ends_and_keeps_what_came(
    server: Server, tmp_path: Path
) -> None:
    server.breaks = [100_000] + [0] * 20
    with pytest.raises(UserError, match="goes on from there"):
        fetch(described(server), tmp_path)
    assert not (tmp_path / "set.bin").exists()
    server.breaks = []
    fetch(described(server), tmp_path)
    assert server.requests[-1] not in (None, "bytes=0-")
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_wrong_bytes_once_are_fetched_again(server: Server, tmp_path: Path) -> None:
    server.wrong = [b"x" * len(CONTENT)]
    said = fetch(described(server), tmp_path)
    assert any("wrong checksum" in line for line in said)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_wrong_bytes_twice_leave_nothing(server: Server, tmp_path: Path) -> None:
    server.wrong = [b"x" * len(CONTENT)] * 2
    with pytest.raises(UserError, match="not what the catalogue describes"):
        fetch(described(server), tmp_path / "d")
    assert list((tmp_path / "d").iterdir()) == []


def test_a_part_of_another_file_does_not_spoil_the_download(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".set.bin.part").write_bytes(b"something else")
    fetch(described(server), tmp_path)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".set.bin.part").write_bytes(b"y" * (len(CONTENT) + 5))
    fetch(described(server), tmp_path)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_absent_file_on_the_server_names_the_address(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set2\.bin: the server says 404"):
        fetch(replace(described(server), url=server.url("set2.bin")), tmp_path)


def _zip(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("folder/inner.txt", content)
    return out.getvalue()


def _tar(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("folder/inner.txt")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize("pack", [_zip, _tar])
def test_members_of_archives_are_unpacked_and_checked(
    server: Server, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    server.files["set.bin"] = pack(b"words")
    file = described(server, b"words", member="folder/inner.txt")
    fetch(file, tmp_path)
    assert (tmp_path / "set.bin").read_bytes() == b"words"
    with pytest.raises(UserError, match="expected sha256:"):
        fetch(replace(file, path="b", sha256="0" * 64), tmp_path)
    assert not (tmp_path / "b").exists()
    assert len(server.requests) == 1


def test_damaged_archive_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"PK\x03\x04 rubbish")
    with pytest.raises(UserError, match=r"a\.zip is no whole archive"):
        download.unpack(DataFile("x", member="x"), archive, tmp_path)


def test_states_of_files(tmp_path: Path) -> None:
    file = DataFile("f", bytes=3, sha256=hashlib.sha256(b"abc").hexdigest())
    assert datasets.state_of(file, tmp_path, deep=True) == "absent"
    (tmp_path / "f").write_bytes(b"ab")
    assert datasets.state_of(file, tmp_path, deep=False) == "wrong size"
    (tmp_path / "f").write_bytes(b"abd")
    assert datasets.state_of(file, tmp_path, deep=False) == "whole"
    assert datasets.state_of(file, tmp_path, deep=True) == "wrong checksum"
    (tmp_path / "f").write_bytes(b"abc")
    assert datasets.state_of(file, tmp_path, deep=True) == "whole"


def test_every_entry_of_the_catalogue_is_complete() -> None:
    for dataset in datasets.load_all():
        assert dataset.description, dataset.name
        assert dataset.licence, dataset.name
        assert dataset.origin, dataset.name
        assert dataset.fetchable == "yes" or dataset.obtain, dataset.name
        assert all(file.known_hash for file in dataset.files), dataset.name
        urls = [file.url for file in dataset.files if file.url]
        assert all(url.startswith("https://") for url in urls), dataset.name


def test_commands_list_and_check(
    tmp_path: Path, kexue: Callable[..., tuple[int, str, str]]
) -> None:
    words = ["--root", tmp_path]
    code, out, _ = kexue("data", "list", "--format", "json", *words, with_root=False)
    assert code == 0
    assert {"mnist", "dash_sn", "tianchi"} <= {row["name"] for row in json.loads(out)}
    code, out, _ = kexue("data", "check", "mnist", *words, with_root=False)
    assert code == 1
    assert "kexue data fetch mnist" in out
    code, _, err = kexue("data", "check", "mnits", *words, with_root=False)
    assert code == 2
    assert "mnist" in err
    assert kexue("data", "fetch", *words, with_root=False)[0] == 2


def test_what_cannot_be_fetched_says_how_to_get_it(
    tmp_path: Path, kexue: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = kexue("data", "fetch", "tianchi", "--root", tmp_path, with_root=False)
    assert code == 1
    assert "Log in" in out


def test_preparing_what_is_made_by_hand_says_how_while_files_are_absent(
    tmp_path: Path, kexue: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = kexue("data", "prepare", "zh_poetry", "--root", tmp_path, with_root=False)
    assert code == 1
    assert "Made from the origin's JSON" in out
    assert str(tmp_path / "zh_poetry") in out
