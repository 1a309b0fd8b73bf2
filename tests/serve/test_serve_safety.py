"""The live page and those who mean it no good, or send what no one can read."""

import socket
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from live_site import Client, live_site
from made_phases import EXAMPLES
from test_bad_files import CORPUS

from imitation_refinement import cli
from imitation_refinement.errors import UserError
from imitation_refinement.serve import app, run, safety, store
from imitation_refinement.serve.reader import Reader
from imitation_refinement.serve.store import Session, Store, label_of

SCAN = (EXAMPLES / "rutile.xy").read_bytes()


@pytest.fixture(scope="module")
def port():
    with live_site(None) as port:
        yield port


@pytest.fixture
def client(port) -> Client:
    return Client(port)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Session": "guessed"},
        {"X-Session": ""},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/examples"), ("PUT", "/api/files")])
def test_no_other_page_can_ask(client, method, path, headers):
    sent = {"X-Session": client.session} | headers
    status, _, body = client.request(method, f"{path}?name=a.xy", b"{}", sent)
    assert status == 403 and b'"error"' in body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, 200),  # a link to it
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "empty"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "iframe"}, 403),
        ({"Host": "evil.example"}, 403),
    ],
)
def test_the_page_opens_in_a_window_of_its_own_alone(client, headers, status):
    assert client.request("GET", "/", headers=headers)[0] == status


def test_every_answer_has_the_headers(client):
    for path in ("/", "/static/live.js", "/static/nothing.js", "/nothing"):
        _, headers, _ = client.get(path)
        for name, value in safety.HEADERS.items():
            assert headers[name.lower()] == value
    scripts = safety.POLICY.split("script-src ")[1].split(";")[0]
    assert scripts == "'self'"


@pytest.mark.parametrize(
    "path",
    ["/static/../page.py", "/static/%2e%2e%2fbatch.js", "/static//etc/passwd", "/static/", "/api/x",
     "/static/live.html.j2"],
)  # fmt: skip
def test_nothing_but_the_listed_files_is_served(client, path):
    assert client.get(path)[0] == 404


def test_a_name_from_a_client_is_never_opened(client):
    """Names of files that are there, with other content; and what names become."""
    there = str(EXAMPLES / "zincite.xy")
    for name in (there, f"../../../../../../../..{there}", "/etc/passwd"):
        _, told = client.put(name, SCAN)
        assert told["patterns"][0]["points"] == 1950 and not told["input"].startswith(("/", "."))
        _, told = client.put(name, b"")
        assert told["error"] == "empty"
    assert label_of("/a/../b\\c\n.xy") == "a/b/c_.xy" and label_of("../..") == "scan"


def test_what_cannot_be_read_is_one_line_and_the_others_go_on(client):
    for name, (data, message) in CORPUS.items():
        status, told = client.put(name, data)
        said = [told["error"], *(one["reason"] for one in told["patterns"])]
        assert status == 200 and any(part in "".join(said) for part in message.split("|")), name
    assert client.put("good.xy", SCAN)[1]["patterns"][0]["status"] == "read"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"1", b"{", b"\xff", b"[" * 90_000, b"{}", b'{"file": 1}', b'{"file": "99"}',
     b'{"file": "1", "pattern": true}', b'{"file": "1", "pattern": -1}'],
)  # fmt: skip
def test_odd_questions_are_refused(client, body):
    client.put("a.xy", SCAN)
    status, _, said = client.request("POST", "/api/answer", body, {"X-Session": client.session})
    assert status in (400, 404) and b'"error"' in said


def test_files_and_questions_have_a_largest_size(client, monkeypatch):
    monkeypatch.setattr(app, "FILE_BYTES", 5000)
    status, said = client.put("large.xy", bytes(5001))
    assert status == 413 and "large.xy: larger than" in said["error"]
    sent = {"X-Session": client.session, "Transfer-Encoding": "chunked"}
    parts = iter([b"1000\r\n" + bytes(4096) + b"\r\n"] * 3 + [b"0\r\n\r\n"])
    status, _, _ = client.request("PUT", "/api/files?name=a.xy", parts, sent)
    assert status == 413
    status, _, _ = client.request(
        "POST", "/api/examples", bytes(200_000), {"X-Session": client.session}
    )
    assert status == 413


def test_a_file_that_does_not_come_is_given_up(client, monkeypatch):
    monkeypatch.setattr(app, "UPLOAD_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line:
        line.sendall(
            f"PUT /api/files?name=slow.xy HTTP/1.1\r\nHost: {client.host}\r\n"
            f"X-Session: {client.session}\r\nContent-Length: 100\r\n\r\n12".encode()
        )
        assert line.recv(4096).startswith(b"HTTP/1.1 408")


def test_all_files_together_have_a_largest_size():
    room = Store(None, all_bytes=3 * len(SCAN) + 3 * 2 * 8 * 1950)
    with live_site(None, store=room) as port:
        client = Client(port)
        answers = [client.put(f"{i}.xy", SCAN) for i in range(4)]
        assert [status for status, _ in answers] == [200, 200, 200, 422]
        assert "holds 0 MB of files and no more" in answers[3][1]["error"]
        client.ask("remove", file=answers[0][1]["file"])
        assert client.put("3.xy", SCAN)[0] == 200
        assert room.coming == 0


def test_sessions_and_results_are_few(monkeypatch):
    monkeypatch.setattr(store, "SESSIONS", 3)
    monkeypatch.setattr(store, "RESULTS", 2)
    room = Store(None)
    first, second, third = (room.open() for _ in range(3))
    room.get(first).files["1"] = SimpleNamespace(size=1)
    room.get(third)
    fourth = room.open()
    assert [room.get(key) is not None for key in (first, second, third, fourth)] == [
        True, False, True, True,
    ]  # fmt: skip
    # Libraries of one's own take much more; those of a few are kept.
    room = Store(None)
    keys = [room.open() for _ in range(3)]
    for key in keys[:2]:
        room.get(key).phases = "own"
    monkeypatch.setattr(store, "LIBRARIES", 2)
    room.let_structures_go(room.get(keys[2]))
    assert [room.get(key) is not None for key in keys] == [False, True, True]
    one = Session(None)
    for number in range(4):
        one.keep(("1", number), number)
    one.keep(("1", 2), "again")
    assert list(one.results.items()) == [(("1", 3), 3), (("1", 2), "again")]


def test_a_file_that_takes_too_long_ends_its_process_alone():
    reader = Reader(seconds=0.0)
    try:
        with pytest.raises(UserError, match="a.xy: took more than 0 s to read"):
            reader.read("a.xy", SCAN * 50, None)
        reader._seconds = 20.0
        (record,) = reader.read("a.xy", SCAN, None)
        assert record.scan.wavelength == pytest.approx(1.54184)
        killed = reader._process
        threading.Timer(0.05, killed.kill).start()
        killed.join()
        (record,) = reader.read("a.xy", SCAN, None)
        assert record.scan is not None and reader._process is not killed
    finally:
        reader.close()


def test_temporary_files_are_removed(client, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    client.put("a.xy", SCAN)
    assert client.ask("results")[0] == 200
    end = time.monotonic() + 10.0
    while list(tmp_path.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []
    assert client.ask("structures")[0] == 400


def test_others_need_a_token():
    run.check_host("127.0.0.1", "")
    for host, token in (("0.0.0.0", ""), ("192.168.1.7", "short")):
        with pytest.raises(UserError, match="others can reach the page there; give --token="):
            run.check_host(host, token)
    secret = "a-long-enough-token"
    run.check_host("0.0.0.0", secret)
    with live_site(None, token=secret, hosts=()) as port:
        plain = Client.__new__(Client)
        plain.port = port
        assert plain.get("/")[0] == plain.get("/?token=wrong")[0] == 403
        assert plain.get(f"/?token={secret}", Host="somewhere.example")[0] == 200
        assert plain.request("POST", "/api/examples", b"{}")[0] == 403


def test_a_port_in_use_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port={port}: .*; give another --port"):
            run._listening("127.0.0.1", port)
    with pytest.raises(UserError, match="--port=99999"):
        run._listening("127.0.0.1", 99999)


def test_the_program_serves_what_the_flags_say(monkeypatch):
    """Flags to arguments; the server itself is tried above."""
    from absl import flags
    from absl.testing import flagsaver

    from imitation_refinement.config import parse_flags
    from imitation_refinement.model import find

    served = []
    monkeypatch.setattr(run, "serve", lambda *given: served.append(given) or 0)
    monkeypatch.setattr(find, "load_model", lambda place: SimpleNamespace(describe=str))
    with flagsaver.flagsaver():
        parse_flags(["main.py", "--mode=serve", "--library=none", "--port=0"])
        assert cli.main(["main.py"]) == 0
    ((_, phases, options, host, port, token),) = served
    assert (phases, options, host, port, token) == (None, ["--library=none"], "127.0.0.1", 0, "")
    with flagsaver.flagsaver(), pytest.raises(UserError, match="give --token="):
        parse_flags(["main.py", "--mode=serve", "--library=none", "--host=0.0.0.0"])
        cli.main(["main.py"])
    assert not flags.FLAGS.token


def test_examples_are_in_the_package():
    folder = Path(run.__file__).parent / "examples"
    assert {path.suffix for path in folder.iterdir()} == {".xy"}
