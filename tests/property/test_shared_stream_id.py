"""Stream ids over generated positions."""

from hypothesis import assume, given
from hypothesis import strategies as st

from shopstream_shared.stream_id import EPOCH_BYTES, MalformedStreamId, StreamPosition, covers
from shopstream_shared.topics import STREAM_TOPICS

offsets = st.integers(0, 2**63 - 1) | st.integers(0, 300)
vectors = st.lists(offsets, max_size=5).map(tuple)
positions = st.builds(
    StreamPosition,
    st.binary(min_size=EPOCH_BYTES, max_size=EPOCH_BYTES),
    st.tuples(*(vectors for _ in STREAM_TOPICS)),
)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/="


@given(positions)
def test_a_position_comes_back_from_its_text(position: StreamPosition) -> None:
    text = position.encode()

    assert StreamPosition.decode(text) == position
    assert text.replace("-", "").replace("_", "").isalnum()
    assert covers(position, dict(position.items()))


@given(positions, st.floats(0, 1, exclude_max=True), st.sampled_from(LETTERS))
def test_one_wrong_character_anywhere_is_noticed(
    position: StreamPosition, where: float, letter: str
) -> None:
    text = position.encode()
    at = int(where * len(text))
    assume(text[at] != letter)

    damaged = text[:at] + letter + text[at + 1 :]

    try:
        decoded = StreamPosition.decode(damaged)
    except MalformedStreamId:
        return
    raise AssertionError(f"{damaged} was taken for {decoded}")


@given(st.text(max_size=80))
def test_any_text_is_an_id_or_malformed(text: str) -> None:
    try:
        position = StreamPosition.decode(text)
    except MalformedStreamId:
        return
    assert position.encode() == text
