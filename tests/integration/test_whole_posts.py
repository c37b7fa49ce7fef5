"""Posts at a pace: each carries its moment, and what is not answered 201 ends the measurement."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from shopstream_shared.clock import parse_time
from shopstream_stack.errors import StackError
from shopstream_stack.whole.posts import MOMENT, Posts

WAIT_SECONDS = 20.0


@contextmanager
def answering(status: int, *, stalled_until: int = 0) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    came: list[dict[str, Any]] = []
    more = threading.Condition()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            with more:
                came.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                first = len(came) == 1
                more.notify_all()
                assert not first or more.wait_for(lambda: len(came) >= stalled_until, WAIT_SECONDS)
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


def test_each_post_carries_the_moment_it_was_due_and_each_is_timed() -> None:
    with answering(201) as (address, came):
        began = datetime.now(UTC)
        posts = Posts(address, "s1")
        posts.run(200.0, 0.05)
        ended = datetime.now(UTC)
    assert len(came) == len(posts.answered_ms) == 10
    assert all(began <= parse_time(body[MOMENT]) <= ended for body in came)
    assert {body["sellerId"] for body in came} == {"s1"}
    assert 0 < posts.a_second <= 200.0


def test_what_a_stall_holds_up_counts_from_when_it_was_due() -> None:
    # The first is answered when ten have come: two more of its sender were due meanwhile.
    with answering(201, stalled_until=10) as (address, came):
        posts = Posts(address, "s1")
        posts.run(400.0, 0.05)
    moments = sorted(parse_time(body[MOMENT]) for body in came)
    gaps = [(after - before).total_seconds() for before, after in pairwise(moments)]
    assert gaps == pytest.approx([1 / 400] * 19, abs=0.000_01)
    # Of the first and the second of that sender, by others' due moments: at least 27 and 17 ms.
    assert len([one for one in posts.answered_ms if one > 15]) >= 2


def test_an_answer_that_is_not_201_ends_the_measurement() -> None:
    with answering(503) as (address, _), pytest.raises(StackError, match="503"):
        Posts(address, "s1").run(100.0, 0.02)


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(StackError, match="POST /products"):
        Posts("127.0.0.1:1", "s1").run(100.0, 0.02)
