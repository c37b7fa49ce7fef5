"""Posts at a pace: each carries its moment, and what is not answered 201 ends the measurement."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from shopstream_shared.clock import parse_time
from shopstream_stack.errors import StackError
from shopstream_stack.whole.posts import MOMENT, Posts


@contextmanager
def answering(status: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    came: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", came
        finally:
            server.shutdown()
            thread.join()


def test_each_post_carries_the_moment_of_its_sending_and_each_is_timed() -> None:
    with answering(201) as (address, came):
        began = datetime.now(UTC)
        posts = Posts(address, "s1")
        posts.run(200.0, 0.05)
        ended = datetime.now(UTC)
    assert len(came) == len(posts.answered_ms) == 10
    assert all(began <= parse_time(body[MOMENT]) <= ended for body in came)
    assert {body["sellerId"] for body in came} == {"s1"}


def test_an_answer_that_is_not_201_ends_the_measurement() -> None:
    with answering(503) as (address, _), pytest.raises(StackError, match="503"):
        Posts(address, "s1").run(100.0, 0.02)


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(StackError, match="POST /products"):
        Posts("127.0.0.1:1", "s1").run(100.0, 0.02)
