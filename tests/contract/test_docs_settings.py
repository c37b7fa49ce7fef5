"""docs/settings.md names every variable, with the default that the code has."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from shopstream_analytics.settings import AnalyticsSettings
from shopstream_api.settings import ApiSettings
from shopstream_notifications.settings import NotificationsSettings
from shopstream_stack.settings import StackSettings

ROOT = Path(__file__).parents[2]
SECTIONS: dict[str, type[BaseModel]] = {
    "API and relay": ApiSettings,
    "Notifications": NotificationsSettings,
    "Analytics": AnalyticsSettings,
    "The local stack": StackSettings,
}
SHARED = "All services"
# Defaults that are worked out at start, or that the prose beside the table states.
WORKED_OUT = {"SHOPSTREAM_DATA_DIR", "SHOPSTREAM_CACHE_DIR", "KAFKA_CLIENT_ID"}


def rows(section: str) -> dict[str, str]:
    """Variable → default, as the section's table has them."""
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    body = re.split(r"^## ", text, flags=re.MULTILINE)
    table = next(part for part in body if part.startswith(section))
    found = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            for name in re.findall(r"`([A-Z_]+)`", cells[0]):
                found[name] = cells[1]
    return found


def shown(field: FieldInfo) -> str:
    """The default as the table writes it."""
    if field.is_required():
        return "required"
    if field.default is None or field.default == ():
        return "unset"
    value = field.default
    if isinstance(value, tuple):
        value = ",".join(value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_variable_of_a_process_is_documented_with_its_default(section: str) -> None:
    documented = rows(section) | rows(SHARED)
    for field in SECTIONS[section].model_fields.values():
        if section == "The local stack" and field.alias not in rows(section):
            # Handed on to a service or set by the stack; documented where it is read.
            assert (
                field.alias is None
                or any(field.alias in rows(name) for name in SECTIONS)
                or (field.alias in rows(SHARED))
            )
            continue
        assert field.alias in documented
        if field.alias not in WORKED_OUT:
            assert documented[field.alias].startswith(shown(field)), field.alias


def test_no_variable_is_documented_that_nothing_reads() -> None:
    read = {
        field.alias for settings in SECTIONS.values() for field in settings.model_fields.values()
    }
    documented = set(rows(SHARED)).union(*(rows(section) for section in SECTIONS))
    assert documented - read == set()
