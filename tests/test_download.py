"""Downloads from a server that does everything wrong that servers and networks do."""

import errno
import fcntl
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from hepgen.download import BLOCK, digest, download, mismatch
from hepgen.errors import HepgenError

CONTENT = np.random.default_rng(1).bytes(300_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves CONTENT; the next answers are taken from `script`, then `usual` is given. Keeps the requests' headers."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests = [], []
        self.usual = good
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/file.h5"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(dict(self.headers))
        answer = self.server.script.pop(0) if self.server.script else self.server.usual
        answer(self)

    def log_message(self, *_):
        pass

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)


def good(request, content=CONTENT, tag='"one"', cut=None):
    """What a server should do; `cut` breaks the connection off after so many bytes of the body."""
    headers, status, start = {"ETag": tag} if tag else {}, 200, 0
    if "Range" in request.headers and request.headers.get("If-Range") in (None, tag):
        start, status = int(request.headers["Range"][6:-1]), 206
        if start >= len(content):
            request.answer(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": 0})
            return
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    body = content[start:]
    request.answer(status, {**headers, "Content-Length": len(body)}, body[:cut])


def cut(after, **options):
    return lambda request: good(request, cut=after, **options)


def deaf(request):
    """A server that does not know ranges."""
    request.answer(200, {"Content-Length": len(CONTENT), "ETag": '"one"'}, CONTENT)


def status(code, **headers):
    return lambda request: request.answer(code, {"Content-Length": 0, **headers})


def stated(length, **headers):
    """All of the content under a false length."""
    return lambda request: request.answer(200, {"Content-Length": length, **headers}, CONTENT)


def redirect(place):
    return lambda request: request.answer(302, {"Location": place, "Content-Length": 0})


def hanging(request):
    request.answer(200, {"Content-Length": len(CONTENT), "ETag": '"one"'}, CONTENT[:20_000])
    request.wfile.flush()
    request.server.released.wait(20)


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder" / "file.h5"


@pytest.fixture
def get(server, target):
    """Download from the server without waiting between attempts; `get.waits` are the seconds it would have waited."""

    def get(**options):
        download(server.url, target, sleep=get.waits.append, **options)

    get.waits = []
    return get


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def complete(target):
    """Nothing but the file is there, and it is the right one."""
    return target.read_bytes() == CONTENT and names(target) == [target.name]


@pytest.mark.parametrize("known", [{}, {"size": len(CONTENT)}, {"checksum": SHA256}])
def test_a_plain_download(server, get, target, known):
    get(**known)
    assert complete(target)
    assert "Range" not in server.requests[0]
    assert server.requests[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "checksum",
    [SHA256, f"md5:{hashlib.md5(CONTENT).hexdigest()}", f"adler32:{zlib.adler32(CONTENT):08x}"],
)
def test_every_kind_of_checksum(get, target, checksum):
    get(checksum=checksum)
    assert complete(target)
    assert digest(target, checksum.partition(":")[0]) == checksum.partition(":")[2]
    assert mismatch(target, len(CONTENT), checksum) == ""


def test_a_file_that_is_there_is_left_alone_and_nobody_is_asked(server, get, target):
    target.parent.mkdir()
    target.write_text("mine")
    get(size=4, checksum=SHA256)
    assert target.read_text() == "mine"
    assert server.requests == []


def test_resumes_where_the_connection_broke_off(server, get, target):
    server.script = [cut(100_000), cut(50_000)]
    get(checksum=SHA256)
    assert complete(target)
    assert [request.get("Range") for request in server.requests] == [None, f"bytes={6 * BLOCK}-", f"bytes={9 * BLOCK}-"]
    assert {request.get("If-Range") for request in server.requests[1:]} == {'"one"'}


def test_a_later_call_resumes_what_an_earlier_one_left(server, get, target):
    server.usual = cut(0)
    server.script = [cut(100_000)]
    with pytest.raises(HepgenError, match=r"broke off.*98\.3 kB are kept in .*file\.h5\.part, the same command"):
        get(attempts=2)
    assert names(target) == ["file.h5.part", "file.h5.part.version"]
    server.usual, server.requests = good, []
    get()
    assert complete(target)
    assert server.requests[0]["Range"] == f"bytes={6 * BLOCK}-"


def test_last_modified_serves_where_a_tag_is_weak(server, get, target):
    date = "Mon, 06 Apr 2020 10:00:00 GMT"
    server.script = [
        lambda r: r.answer(
            200, {"Content-Length": len(CONTENT), "ETag": 'W/"x"', "Last-Modified": date}, CONTENT[:20_000]
        )
    ]
    server.usual = lambda request: good(request, tag=date)
    get()
    assert complete(target)
    assert server.requests[1]["If-Range"] == date


def test_a_file_that_changed_meanwhile_starts_over(server, get, target):
    """Otherwise the halves of two versions would be put together."""
    server.script = [cut(100_000, content=bytes(len(CONTENT)), tag='"zero"')]
    get()
    assert complete(target)
    assert len(server.requests) == 2


def test_a_part_that_nothing_ties_to_the_file_starts_over(server, get, target):
    server.script = [cut(100_000, tag="")]
    get()
    assert complete(target)
    assert "Range" not in server.requests[1]


def test_with_a_known_checksum_it_resumes_without_a_tag(server, get, target):
    server.script = [cut(100_000, tag="")]
    get(checksum=SHA256)
    assert complete(target)
    assert server.requests[1]["Range"] == f"bytes={6 * BLOCK}-"


def test_a_server_that_ignores_ranges(server, get, target):
    server.script = [cut(100_000), deaf]
    get()
    assert complete(target)
    assert "Range" in server.requests[1]


def test_a_server_that_sends_another_range(server, get, target):
    server.script = [
        cut(100_000),
        lambda request: request.answer(206, {"Content-Range": "bytes 0-299999/300000"}, CONTENT),
    ]
    get()
    assert complete(target)


@pytest.mark.parametrize(("part", "requests"), [(CONTENT, 1), (CONTENT + b"more", 2), (CONTENT[:-1], 1)])
def test_a_part_as_long_as_the_file_or_longer(server, get, target, part, requests):
    target.parent.mkdir()
    target.with_name("file.h5.part").write_bytes(part)
    target.with_name("file.h5.part.version").write_text('"one"')
    get()
    assert complete(target)
    assert len(server.requests) == requests


def test_a_part_of_the_known_size_needs_no_server(server, get, target):
    target.parent.mkdir()
    target.with_name("file.h5.part").write_bytes(CONTENT)
    get(size=len(CONTENT), checksum=SHA256)
    assert complete(target)
    assert server.requests == []


def test_a_stated_length_beyond_the_body_is_a_broken_connection(server, get, target):
    server.usual = stated(len(CONTENT) + 10)
    with pytest.raises(HepgenError, match="the connection broke off"):
        get(attempts=2)
    assert not target.exists()


def test_a_stated_length_before_the_end_of_the_body(server, get, target):
    server.usual = stated(1000)
    with pytest.raises(HepgenError, match="expected 300,000 bytes, the server has 1,000; it is another file"):
        get(size=len(CONTENT))
    with pytest.raises(HepgenError, match="gave a wrong file: expected sha256 "):
        get(checksum=SHA256)
    assert names(target) == []


def test_a_body_without_a_length(server, get, target):
    server.usual = lambda request: request.answer(200, {}, CONTENT)
    with pytest.raises(HepgenError, match="expected 200,000 bytes, the server sends more; it is another file"):
        get(size=200_000)
    assert names(target) == []
    with pytest.raises(HepgenError, match="the connection broke off after 300,000 of 400,000 bytes"):
        get(size=400_000, attempts=1)
    get(size=len(CONTENT))
    assert complete(target)


def test_a_wrong_file_says_what_was_expected_and_leaves_nothing(server, get, target):
    server.usual = lambda request: good(request, content=CONTENT[::-1])
    found = hashlib.sha256(CONTENT[::-1]).hexdigest()
    with pytest.raises(HepgenError) as error:
        get(size=len(CONTENT), checksum=SHA256)
    expected = SHA256.replace(":", " ")
    assert str(error.value) == f"{server.url}: gave a wrong file: expected {expected}, found {found}; it was not kept"
    assert names(target) == []


def test_a_web_page_is_not_a_file(server, get, target):
    server.usual = stated(len(CONTENT), **{"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(HepgenError, match="a web page, not with the file; is a login or a proxy in between"):
        get()
    assert names(target) == []


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_is_not_repeated(server, get, target, code):
    server.usual = status(code)
    with pytest.raises(HepgenError, match=rf"the server answers {code} .*; has the file moved\?"):
        get()
    assert len(server.requests) == 1
    assert names(target) == []


def test_errors_of_the_server_are_waited_out(server, get, target):
    server.script = [status(500), status(502), status(503), status(504)]
    get()
    assert complete(target)
    assert get.waits == [2, 4, 8, 16]


def test_waits_as_long_as_the_server_asks(server, get, target):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    headers = [{"Retry-After": "7"}, {"Retry-After": date}, {"Retry-After": "99999"}, {"Retry-After": "soon"}]
    server.script = [status(429, **header) for header in headers]
    get()
    assert complete(target)
    assert get.waits[0] == 7
    assert 90 < get.waits[1] <= 100
    assert get.waits[2:] == [600, 16]


def test_gives_up_in_the_end(server, get, target):
    server.usual = status(500)
    with pytest.raises(HepgenError, match=r"500 Internal Server Error, after several attempts.*such as a login node"):
        get()
    assert len(server.requests) == 6
    assert names(target) == []


def test_attempts_that_get_further_do_not_count(server, get, target):
    server.script = [cut(20_000)] * 10
    get(attempts=2)
    assert complete(target)


def test_a_server_that_hangs(server, get, target):
    server.script = [hanging]
    start = time.monotonic()
    get(timeout=0.3)
    assert complete(target)
    assert time.monotonic() - start < 5
    assert server.requests[1]["Range"] == f"bytes={BLOCK}-"


def test_no_server_at_all(server, get, target):
    server.server_close()
    with pytest.raises(HepgenError, match="the connection to the server failed"):
        get(attempts=2)
    assert names(target) == []


def test_follows_a_redirection(server, get, target):
    server.script = [redirect("/elsewhere")]
    get(checksum=SHA256)
    assert complete(target)


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/file"])
def test_a_redirection_leads_nowhere_but_to_the_web(server, get, target, place):
    server.usual = redirect(place)
    with pytest.raises(HepgenError, match="cannot be downloaded"):
        get()
    assert not target.exists()


def test_a_redirection_in_circles(server, get):
    server.usual = redirect("/again")
    with pytest.raises(HepgenError, match="cannot be downloaded"):
        get()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/file", "file.h5", "http://"])
def test_addresses_that_are_none(url, target):
    with pytest.raises(HepgenError, match=r"is not an http or https address|cannot be downloaded"):
        download(url, target)
    assert not target.exists()


def test_a_disk_that_is_too_small_is_noticed_before(get, target, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, 100))
    with pytest.raises(HepgenError, match=r"300\.0 kB are needed, 100 bytes are free; choose another folder"):
        get()
    assert names(target) == []


def test_a_write_that_fails_keeps_what_has_arrived(server, get, target):
    """A limit of the file size fails where a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(HepgenError, match=r"cannot write .*file\.h5: File too large; what has arrived is kept in"):
            get()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(target) == ["file.h5.part", "file.h5.part.version"]
    get()
    assert complete(target)


def test_a_folder_that_cannot_be_written():
    with pytest.raises(HepgenError, match=r"cannot write /proc/folder/file\.h5"):
        download("http://127.0.0.1/", "/proc/folder/file.h5")


def test_a_link_in_place_of_the_part_is_not_followed(get, target):
    target.parent.mkdir()
    (target.parent / "secret").write_text("kept")
    target.with_name(f"{target.name}.part").symlink_to("secret")
    with pytest.raises(HepgenError, match="cannot write"):
        get()
    assert (target.parent / "secret").read_text() == "kept"


def test_two_processes_at_once(server, target):
    """One downloads, slowly; the others wait and find the file."""
    first = threading.Event()

    def slow(request):
        first.set()
        time.sleep(2)
        good(request)

    server.usual = slow
    code = "import sys; from hepgen.download import download; download(*sys.argv[1:])"
    command = [sys.executable, "-c", code, server.url, str(target)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=30)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert first.is_set()
    assert complete(target)
    assert len(server.requests) == 1


def test_a_process_that_waited_takes_over_from_one_that_failed(server, get, target):
    """The lock is that of a part that has been removed meanwhile."""
    target.parent.mkdir()
    part = target.with_name("file.h5.part")
    with part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=get)
        thread.start()
        time.sleep(0.2)
        assert server.requests == []
        part.unlink()
    thread.join(10)
    assert complete(target)


def test_a_file_system_without_locks_is_mentioned(get, target, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    get()
    assert complete(target)
    assert "this file system has no locks" in capsys.readouterr().err


def test_a_log_has_a_line_for_each_tenth(get, target, capsys, monkeypatch):
    monkeypatch.setattr("hepgen.download.BLOCK", 1000)
    get()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[0] == "file.h5: 1.0 kB of 300.0 kB"
    assert lines[-1] == "file.h5: 300.0 kB of 300.0 kB"


def test_a_terminal_has_a_bar(get, target, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    get()
    assert "300.0/300.0 kB" in capsys.readouterr().err
    assert complete(target)
