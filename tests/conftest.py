"""Marks by folder, sockets by mark, and the real components for those who ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import invariants, workers
from tests.support.components import LocalComponents
from tests.support.system import LocalSystem
from xdist.remote import Producer
from xdist.scheduler import Scheduling

TESTS = Path(__file__).parent
KINDS = ("unit", "contract", "property", "integration", "e2e", "browser")


def pytest_configure(config: pytest.Config) -> None:
    workers.end_on_signals(config)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """With `-n`: whole files, the longest first."""
    return workers.Units(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test by its folder; a unit test opens no socket at all.

    All others reach the loopback addresses only (`--allow-hosts` in pyproject.toml).
    """
    for item in items:
        kind = item.path.relative_to(TESTS).parts[0]
        if kind in KINDS:
            item.add_marker(kind)
        if kind == "unit":
            item.add_marker("disable_socket")
    if workers.is_worker(config):
        items.sort(key=lambda item: workers.order(item.nodeid))


@pytest.fixture(scope="session")
def session_components() -> Iterator[LocalComponents]:
    """The four components of this run; none is started before it is asked for."""
    with LocalComponents() as components:
        yield components


@pytest.fixture
def components(session_components: LocalComponents) -> Iterator[LocalComponents]:
    """The components of this run; whatever the test stopped or killed is started again."""
    yield session_components
    session_components.restore()
    invariants.check_postponed()


@pytest.fixture(scope="session")
def session_system() -> Iterator[LocalSystem]:
    """The whole system of this run, its own components included."""
    with LocalSystem() as system:
        yield system


@pytest.fixture
def system(session_system: LocalSystem) -> Iterator[LocalSystem]:
    """The whole system, all healthy; what the test changed is put back after it."""
    session_system.up_all()
    yield session_system
    session_system.restore()
    invariants.check(session_system.database_url)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked anyio run on asyncio."""
    return "asyncio"
