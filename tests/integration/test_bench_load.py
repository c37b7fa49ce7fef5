"""The load generator against a small server: what it sends, counts and times."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shopstream_stack.bench.load import LoadResult, LoadSpec, Request, run_load
from shopstream_stack.cache import LOAD, Cache
from shopstream_stack.console import Silent
from shopstream_stack.errors import StackError
from shopstream_stack.settings import StackSettings


@dataclass
class Server:
    """Answers 201 with a Location, or what ``answers`` says of the path."""

    address: str = ""
    #: Path → status; 0 = the connection is cut without an answer.
    answers: dict[str, int] = field(default_factory=dict)
    #: Method, path, body and one header of every request.
    seen: list[tuple[str, str, str, str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def program() -> Path:
    settings = StackSettings.load()
    return Cache(settings.cache, settings.environ).ensure_load(Silent())


@pytest.fixture
def server() -> Iterator[Server]:
    with _serving() as running:
        yield running


@contextmanager
def _serving() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            state.seen.append(
                (self.command, self.path, body.decode(), self.headers.get("x-seller-id", ""))
            )
            status = state.answers.get(self.path, 201)
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Location", f"/things/{len(state.seen)}")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name
            """Nothing: the test looks at what was seen."""

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, args=(0.01,))
    thread.start()
    state.address = f"127.0.0.1:{web.server_address[1]}"
    try:
        yield state
    finally:
        web.shutdown()
        thread.join()
        web.server_close()


def _run(
    program: Path, server: Server, *requests: Request, into: Path | None = None, **more: object
) -> LoadResult:
    """Six requests over two connections, unless ``more`` says otherwise."""
    spec = LoadSpec(
        address=server.address,
        connections=2,
        warmup_seconds=0,
        seconds=20,
        requests_max=6,
        requests=requests,
        expected=(201,),
    )
    return run_load(program, msgspec.structs.replace(spec, **more), into)


def test_it_sends_each_number_once_with_values_that_differ_within_a_request(
    program: Path, server: Server
) -> None:
    ids = [f"id{n}" for n in range(5)]
    body = '{"n":{{n}},"a":"{{id}}","b":"{{id}}"}'
    request = Request(method="POST", path="/p/{{n}}", headers={"x-seller-id": "s"}, body=body)
    result = _run(program, server, request, lists={"id": ids})
    assert result.report.all_by_status == {201: 6}
    assert sorted(path for _, path, _, _ in server.seen) == [f"/p/{n}" for n in range(6)]
    for method, path, sent, seller in server.seen:
        found = json.loads(sent)
        assert (method, seller) == ("POST", "s")
        assert path == f"/p/{found['n']}"
        assert found["a"] != found["b"]
        assert {found["a"], found["b"]} <= set(ids)


def test_it_takes_requests_in_turn(program: Path, server: Server) -> None:
    _run(program, server, Request(path="/a"), Request(method="POST", path="/b"))
    assert sorted((method, path) for method, path, _, _ in server.seen) == [
        *[("GET", "/a")] * 3,
        *[("POST", "/b")] * 3,
    ]


def test_it_notes_where_created_things_are(program: Path, server: Server, tmp_path: Path) -> None:
    server.answers["/bad"] = 409
    result = _run(
        program,
        server,
        Request(path="/good"),
        Request(path="/bad"),
        into=tmp_path / "locations",
    )
    assert len(result.created) == len(set(result.created)) == 3
    assert result.report.all_by_status == {201: 3, 409: 3}
    assert result.report.samples[0] == "409 {}"


def test_a_request_without_an_answer_is_counted_and_not_sent_again(
    program: Path, server: Server
) -> None:
    server.answers["/cut"] = 0
    result = _run(program, server, Request(path="/cut"), requests_max=1)
    assert result.report.transport_errors == 1
    assert [path for _, path, _, _ in server.seen] == ["/cut"]


def test_figures_leave_the_warm_up_out_and_counts_named_all_do_not(
    program: Path, server: Server
) -> None:
    result = _run(
        program, server, Request(path="/a"), warmup_seconds=0.3, seconds=0.3, requests_max=0
    )
    report = result.report
    assert report.all_by_status[201] == len(server.seen) > report.by_status[201] > 0
    assert report.requests_per_second == pytest.approx(report.by_status[201] / 0.3, rel=0.01)
    assert 0 < report.p50_ms <= report.p95_ms <= report.p99_ms <= report.max_ms


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"connections": 0}, "connections"),
        ({"seconds": 0}, "seconds"),
        ({"requests": ()}, "no requests"),
        ({"requests": (Request(path="/{{id}}"),)}, 'no list "id"'),
        ({"requests": (Request(path="/{{n"),)}, "does not end"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(
    program: Path, server: Server, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(StackError, match=said):
        _run(program, server, Request(path="/a"), **wrong)
    assert server.seen == []


def test_its_source_is_formatted_and_passes_vet(program: Path) -> None:
    unformatted = subprocess.run(["gofmt", "-l", LOAD], capture_output=True, text=True, check=True)
    assert unformatted.stdout == ""
    vet = subprocess.run(
        ["go", "vet", "./..."], cwd=LOAD, capture_output=True, text=True, check=False
    )
    assert vet.returncode == 0, vet.stderr
