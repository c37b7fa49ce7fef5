"""Stream ids that nobody can mistake: damage, other topics, other partitions."""

import base64
import hashlib
from typing import Final

import pytest

from shopstream_shared.stream_id import (
    EPOCH_BYTES,
    PARTITIONS_MAX,
    TEXT_LENGTH_MAX,
    MalformedStreamId,
    StreamPosition,
    covers,
    epoch_of,
    newest,
)
from shopstream_shared.topics import INVENTORY, ORDERS, PRODUCTS, STREAM_TOPICS

EPOCH: Final = b"epoch!"
POSITION: Final = StreamPosition(EPOCH, ((1, 2, 3), (4, 5, 6), (7, 8, 2**40)))


def text_of(body: bytes) -> str:
    """A text with a sound checksum, whatever the body."""
    checksum = hashlib.blake2b(body, digest_size=4).digest()
    return base64.urlsafe_b64encode(body + checksum).rstrip(b"=").decode()


def test_the_text_of_a_position_stays_as_it_is() -> None:
    """Ids are in browsers' hands: another text for this position would be another version."""
    assert POSITION.encode() == "AWVwb2NoIQMBAgMDBAUGAwcIgICAgIAg3hDMbA"
    assert StreamPosition.decode(POSITION.encode()) == POSITION


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "not an id",
        "ä" * 20,
        "=" * 20,
        POSITION.encode() + "=",
        POSITION.encode()[:-1],
        POSITION.encode() + "A",
        " " + POSITION.encode(),
        POSITION.encode().swapcase(),
        "A" * (TEXT_LENGTH_MAX + 1),
    ],
)
def test_a_text_that_is_no_id_is_malformed(text: str) -> None:
    with pytest.raises(MalformedStreamId):
        StreamPosition.decode(text)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x02" + EPOCH + b"\0\0\0", id="another version"),
        pytest.param(b"\x01" + EPOCH, id="no topics"),
        pytest.param(b"\x01" + EPOCH + b"\x01\x05\x01", id="ends between topics"),
        pytest.param(b"\x01" + EPOCH + b"\x00\x00\x02\x05", id="ends between partitions"),
        pytest.param(b"\x01" + EPOCH + b"\x00\x00\x01\x85", id="ends inside a number"),
        pytest.param(b"\x01" + EPOCH + b"\x00\x00\x00\x00", id="a topic too many"),
        pytest.param(b"\x01" + EPOCH + b"\x00\x00\x01" + b"\xff" * 9 + b"\x01", id="past 64 bits"),
        pytest.param(b"\x01" + EPOCH + b"\xe9\x07" + b"\0" * 1_001 + b"\0\0", id="many partitions"),
    ],
)
def test_a_body_that_makes_no_sense_is_malformed_even_with_a_sound_checksum(body: bytes) -> None:
    with pytest.raises(MalformedStreamId):
        StreamPosition.decode(text_of(body))


def test_standard_base64_is_not_another_spelling() -> None:
    """Some position's text holds - or _; with + or / it is not an id of ours."""
    texts = [StreamPosition(EPOCH, ((n,), (), ())).encode() for n in range(300)]
    text = next(text for text in texts if "-" in text or "_" in text)

    with pytest.raises(MalformedStreamId):
        StreamPosition.decode(text.translate({ord("-"): "+", ord("_"): "/"}))


def test_the_most_partitions_there_may_be_fit() -> None:
    vector = tuple(range(10**9, 10**9 + PARTITIONS_MAX))
    position = StreamPosition(EPOCH, (vector, vector, ()))

    assert StreamPosition.decode(position.encode()) == position


def test_a_partition_that_the_id_does_not_name_starts_at_0() -> None:
    """Protocol rule 14: it was added after the id was given, and the client saw none of it."""
    assert POSITION.next_offset(PRODUCTS, 3) == 0
    assert POSITION.next_offset(INVENTORY, 2) == 2**40
    built = StreamPosition.of(EPOCH, {(ORDERS, 1): 9}, dict.fromkeys(STREAM_TOPICS, 2))
    assert built.offsets == ((0, 0), (0, 9), (0, 0))


def test_a_position_covers_another_only_in_every_component() -> None:
    ahead = StreamPosition(EPOCH, ((2, 2, 3), (4, 5, 6), (7, 8, 2**40)))
    mixed = StreamPosition(EPOCH, ((2, 1, 3), (4, 5, 6), (7, 8, 2**40)))

    assert covers(ahead, POSITION)
    assert covers(POSITION, POSITION)
    assert not covers(POSITION, ahead)
    assert not covers(mixed, POSITION)
    assert not covers(POSITION, {(PRODUCTS, 3): 1})


def test_an_offset_below_0_cannot_be_put_into_an_id() -> None:
    with pytest.raises(ValueError, match="offset"):
        StreamPosition(EPOCH, ((-1,), (), ())).encode()


def test_the_epoch_changes_with_any_topic_and_not_with_others() -> None:
    """Protocol rule 13: a topic made again has a new id, and old stream ids are not for it."""
    ids = {PRODUCTS: "a", ORDERS: "b", INVENTORY: "c"}
    epoch = epoch_of(ids)

    assert len(epoch) == EPOCH_BYTES
    assert epoch_of(ids | {"another": "x"}) == epoch
    assert len({epoch_of(ids | {topic: "new"}) for topic in STREAM_TOPICS} | {epoch}) == 4
    with pytest.raises(KeyError):
        epoch_of({PRODUCTS: "a"})


def test_the_newest_of_positions_is_the_maximum_of_each_component() -> None:
    one = StreamPosition(b"epoch1", ((3, 0), (7,), ()))
    two = StreamPosition(b"epoch1", ((1, 5, 2), (9,), (4,)))

    assert newest([one, two]) == newest([two, one])
    assert newest([one, two]).offsets == ((3, 5, 2), (9,), (4,))
    assert newest([one]) == one


def test_positions_of_another_epoch_than_the_first_ones_are_left_out() -> None:
    now = StreamPosition(b"epoch2", ((1,), (1,), (1,)))
    before = StreamPosition(b"epoch1", ((900,), (900,), (900,)))

    assert newest([now, before]) == now


def test_there_is_no_newest_of_no_position() -> None:
    with pytest.raises(ValueError, match="no position"):
        newest([])
