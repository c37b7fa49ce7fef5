"""The crash points: each name that may be armed is passed somewhere, and no other may be armed."""

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from shopstream_analytics.settings import AnalyticsSettings
from shopstream_api.settings import ApiSettings
from shopstream_shared.crash import CrashPoint
from shopstream_shared.settings import Settings, describe

KNOWN: tuple[str, ...] = get_args(CrashPoint)
APPS = Path(__file__).parents[2] / "apps"


def test_every_known_point_is_passed_in_some_service() -> None:
    passed = {
        name
        for path in APPS.glob("*/src/**/*.py")
        for name in re.findall(r"crash\.reach\(\"([^\"]+)\"\)", path.read_text())
    }
    assert passed == set(KNOWN)


@pytest.mark.parametrize("settings", [ApiSettings, AnalyticsSettings])
def test_a_misspelt_point_is_refused_with_the_names_of_those_there_are(
    settings: type[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Armed in silence it would never be reached, and its test would prove nothing."""
    monkeypatch.setenv("SHOPSTREAM_CRASH_AT", "relay.after_comit")
    with pytest.raises(ValidationError) as refused:
        settings.read()
    told = next(
        part for part in describe(refused.value).split(";") if "SHOPSTREAM_CRASH_AT" in part
    )
    assert all(f"'{name}'" in told for name in KNOWN)
