"""The users of the load gate, by real k6: what they are refused is an error, the rest is kept."""

import asyncio
import http.server
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shopstream_stack.cache import Cache
from shopstream_stack.console import Silent
from shopstream_stack.settings import StackSettings
from shopstream_stack.whole.k6 import Users, acknowledged, run_k6

USERS = Users(count=2, seconds=1.6, pause_seconds=0.01, sellers="u-", judged=False)


@pytest.fixture(scope="module")
def program() -> Path:
    settings = StackSettings.load()
    return Cache(settings.cache, settings.environ).ensure_k6(Silent())


@contextmanager
def shop(refused: str) -> Iterator[tuple[str, Counter[str]]]:
    """Answers as the API would, but 503 where a request begins with ``refused``."""
    came: Counter[str] = Counter()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            said = f"{self.command} {self.path}"
            came[f"{self.command} {'/'.join(self.path.split('/')[:2])}"] += 1
            assert not body or isinstance(json.loads(body), dict)
            done = self.command == "PATCH" or "/orders/" in self.path or self.command == "GET"
            status = 503 if said.startswith(refused) else 200 if done else 201
            text = b'{"id":"0197","version":1,"data":[]}'
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PATCH(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", came
        finally:
            server.shutdown()
            thread.join()


def test_users_do_all_of_the_mix_and_what_they_were_answered_is_kept(
    program: Path, tmp_path: Path
) -> None:
    with shop(refused="nothing") as (api, came):
        found = asyncio.run(run_k6(program, api, USERS, tmp_path))
    assert (found.failed, found.wrong_answers) == (0, 0)
    assert found.requests == came.total()
    writes = list(acknowledged(tmp_path))
    assert len(writes) == sum(count for what, count in came.items() if not what.startswith("GET"))
    assert all(one.answer == {"id": "0197", "version": 1} for one in writes)
    assert came["GET /products"] > 0


def test_what_a_user_is_refused_is_an_error_and_not_acknowledged(
    program: Path, tmp_path: Path
) -> None:
    with shop(refused="POST /orders") as (api, came):
        found = asyncio.run(run_k6(program, api, USERS, tmp_path))
    assert came["POST /orders"] > 0
    assert found.wrong_answers == came["POST /orders"]
    assert found.failed == pytest.approx(came["POST /orders"] / found.requests)
    assert all(not one.path.startswith("/orders") for one in acknowledged(tmp_path))
