"""Fixtures of more than one file of this folder."""

from pathlib import Path

import pytest
from tests.support.analytics import Analytics
from tests.support.components import LocalComponents
from tests.support.trial import Trial


@pytest.fixture
def trial(
    components: LocalComponents,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    sabotaged: bool,
) -> Trial:
    return Trial(monkeypatch, Analytics.without_log(components, tmp_path), sabotaged)
