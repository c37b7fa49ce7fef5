"""Which answer says that a commit has happened, in the protocols' own bytes."""

import struct
from collections.abc import Iterable

import pytest

from shopstream_stack.chaos.conversation import (
    BODY_BYTES_MAX,
    Conversation,
    KafkaConversation,
    Messages,
    PostgresConversation,
)

INSERT = b"WITH one AS (INSERT INTO outbox (seq) VALUES (1)) SELECT 1"
DELETE = b"WITH gone AS (DELETE FROM outbox WHERE seq = 1) UPDATE stream_position SET shard = 0"


def sent(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def query(text: bytes) -> bytes:
    return sent(b"Q", text + b"\0")


def done(tag: bytes) -> bytes:
    return sent(b"C", tag + b"\0")


def ready(status: bytes = b"I") -> bytes:
    return sent(b"Z", status)


def connected() -> PostgresConversation:
    """After SSLRequest (refused), the start-up message and its answer."""
    talk = PostgresConversation()
    talk.requests(struct.pack("!ii", 8, 80_877_103))
    assert not talk.answers(b"N")
    start = b"user\0postgres\0\0"
    talk.requests(struct.pack("!ii", len(start) + 8, 196_608) + start)
    assert not talk.answers(sent(b"R", struct.pack("!i", 0)) + ready())
    return talk


def in_pieces(chunk: bytes, size: int) -> Iterable[bytes]:
    return (chunk[at : at + size] for at in range(0, len(chunk), size))


@pytest.mark.parametrize("text", [INSERT, DELETE, b"insert  into\noutbox values (1)"])
def test_a_write_to_the_outbox_in_autocommit_ends_with_its_commit(text: bytes) -> None:
    talk = connected()
    talk.requests(query(text))
    assert talk.answers(done(b"SELECT 1") + ready())


@pytest.mark.parametrize("text", [b"SELECT * FROM outbox", b"INSERT INTO outbox_poison VALUES (1)"])
def test_what_does_not_write_to_the_outbox_commits_nothing_of_it(text: bytes) -> None:
    talk = connected()
    talk.requests(query(text))
    assert not talk.answers(done(b"SELECT 1") + ready())


def test_inside_a_transaction_only_the_end_is_a_commit() -> None:
    talk = connected()
    for text, status in ((b"BEGIN", b"T"), (INSERT, b"T"), (b"SELECT 1", b"T")):
        talk.requests(query(text))
        assert not talk.answers(done(b"X") + ready(status))
    talk.requests(query(b"COMMIT"))
    assert talk.answers(done(b"COMMIT") + ready())
    talk.requests(query(b"SELECT 1"))
    assert not talk.answers(done(b"SELECT 1") + ready())


def test_a_rollback_and_an_error_are_no_commit() -> None:
    talk = connected()
    talk.requests(query(INSERT))
    assert not talk.answers(sent(b"E", b"C23505\0\0") + ready())
    talk.requests(query(b"BEGIN") + query(INSERT))
    talk.answers(done(b"BEGIN") + ready(b"T") + done(b"INSERT 0 1") + ready(b"T"))
    talk.requests(query(b"ROLLBACK"))
    assert not talk.answers(done(b"ROLLBACK") + ready())


def test_a_prepared_statement_writes_when_it_is_bound() -> None:
    talk = connected()
    talk.requests(sent(b"P", b"s1\0" + INSERT + b"\0\0\0") + sent(b"S", b""))
    assert not talk.answers(sent(b"1", b"") + ready())
    for _ in range(2):
        talk.requests(sent(b"B", b"\0s1\0" + b"\0" * 6) + sent(b"E", b"\0" * 5) + sent(b"S", b""))
        assert talk.answers(sent(b"2", b"") + done(b"SELECT 1") + ready())
    talk.requests(sent(b"P", b"s1\0SELECT 1\0\0\0") + sent(b"B", b"\0s1\0") + sent(b"S", b""))
    assert not talk.answers(done(b"SELECT 1") + ready())


@pytest.mark.parametrize("size", [1, 3, 7])
def test_messages_may_be_cut_anywhere(size: int) -> None:
    talk = connected()
    for piece in in_pieces(query(b"BEGIN") + query(INSERT), size):
        talk.requests(piece)
    answer = done(b"BEGIN") + ready(b"T") + done(b"INSERT 0 1") + ready(b"T")
    assert not any(talk.answers(piece) for piece in in_pieces(answer, size))
    talk.requests(query(b"COMMIT"))
    told = [talk.answers(piece) for piece in in_pieces(done(b"COMMIT") + ready(), size)]
    assert told == [False] * (len(told) - 1) + [True]


def request(key: int, correlation: int) -> bytes:
    body = struct.pack("!hhi", key, 3, correlation) + b"client"
    return struct.pack("!i", len(body)) + body


def response(correlation: int) -> bytes:
    body = struct.pack("!i", correlation) + b"\0\0"
    return struct.pack("!i", len(body)) + body


def test_the_answer_to_end_txn_is_kafkas_commit_and_no_other() -> None:
    talk = KafkaConversation()
    talk.requests(request(0, 1) + request(26, 2) + request(1, 3))
    assert not talk.answers(response(1))
    assert talk.answers(response(2))
    assert not talk.answers(response(3))
    assert not talk.answers(response(2))


@pytest.mark.parametrize("talk", [PostgresConversation(), KafkaConversation()])
def test_nothing_said_is_nothing_understood(talk: Conversation) -> None:
    talk.requests(b"")
    assert not talk.answers(b"")


def test_a_long_body_is_kept_up_to_its_bound_and_passed_over_to_its_end() -> None:
    messages = Messages(head_bytes=5, length_counts=4)
    long = sent(b"D", b"x" * (3 * BODY_BYTES_MAX))
    found = [one for piece in in_pieces(long + ready(), 10_000) for one in messages.feed(piece)]
    assert [(head[:1], len(body)) for head, body in found] == [(b"D", BODY_BYTES_MAX), (b"Z", 1)]
