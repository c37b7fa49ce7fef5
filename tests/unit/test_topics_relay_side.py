"""`shopstream topics` asks a process of the API; one that hangs is an error in words."""

from pathlib import Path

import pytest

from shopstream_stack.errors import StackError
from shopstream_stack.settings import StackSettings
from shopstream_stack.topics import relay_side


def test_a_command_that_gives_no_answer_in_time_is_ended_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_side, "SECONDS_MAX", 0.0)
    settings = StackSettings.load({"SHOPSTREAM_DATA_DIR": str(tmp_path)})
    with pytest.raises(StackError, match="topics ls gave no answer"):
        relay_side.ask(settings, list[relay_side.ListedTopic], "ls")
