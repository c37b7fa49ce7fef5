"""What a step under way says about its end."""

import io
from asyncio import CancelledError

import pytest
from rich.console import Console

from shopstream_stack.console import Lines


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (None, None),
        (RuntimeError, "failed"),
        (KeyboardInterrupt, "interrupted"),
        (CancelledError, "interrupted"),
    ],
)
def test_a_step_says_how_it_ended(error: type[BaseException] | None, word: str | None) -> None:
    said = io.StringIO()
    lines = Lines(Console(file=said, width=200))

    def step() -> None:
        with lines.step("Building"):
            if error is not None:
                raise error

    if error is None:
        step()
    else:
        with pytest.raises(error):
            step()
    _, end = said.getvalue().splitlines()
    assert end.startswith(f"Building: {word} after " if word else "Building: 0")
