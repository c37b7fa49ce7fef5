"""The architecture rules hold, and each of them fails when it is broken on purpose."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = str(Path(sys.executable).parent / "lint-imports")
SOURCES = ("apps/api", "apps/notifications", "apps/analytics", "packages/shared", "packages/stack")

#: contract id → (file, a line that breaks it)
VIOLATIONS = {
    "apps-independent": (
        "apps/api/src/shopstream_api/errors.py",
        "import shopstream_notifications",
    ),
    "shared-below-apps": (
        "packages/shared/src/shopstream_shared/clock.py",
        "import shopstream_api",
    ),
    "oracle-apart": (
        "packages/stack/src/shopstream_stack/__init__.py",
        "import shopstream_api.money",
    ),
    "api-layers": (
        "apps/api/src/shopstream_api/catalog/repository.py",
        "import shopstream_api.catalog.service",
    ),
    "api-services-pure": (
        "apps/api/src/shopstream_api/orders/place.py",
        "import starlette.requests",
    ),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources that may be spoilt."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for source in SOURCES:
        shutil.copytree(
            ROOT / source / "src",
            copy / source / "src",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return copy


def _lint(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(tree / source / "src") for source in SOURCES)
    return subprocess.run(
        [LINT, "--no-cache", *arguments],
        cwd=tree,
        env={"PYTHONPATH": paths, "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_rules_hold(tree: Path) -> None:
    result = _lint(tree)
    assert result.returncode == 0, result.stdout


def test_every_rule_has_its_violation_here() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    assert {contract["id"] for contract in contracts} == set(VIOLATIONS)


@pytest.mark.parametrize("contract", sorted(VIOLATIONS))
def test_a_rule_fails_when_it_is_broken(tree: Path, contract: str) -> None:
    name, line = VIOLATIONS[contract]
    file = tree / name
    intact = file.read_text(encoding="utf-8")
    file.write_text(f"{intact}\n{line}\n", encoding="utf-8")
    try:
        result = _lint(tree, "--contract", contract)
    finally:
        file.write_text(intact, encoding="utf-8")
    assert result.returncode == 1, result.stdout
    assert "BROKEN" in result.stdout
