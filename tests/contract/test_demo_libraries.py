"""Each library of the design is in real use, not only in the lock file."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Distribution → (module, where it must be imported).
LIBRARIES = {
    "faust-streaming": ("faust", ("apps", "packages")),
    "confluent-kafka": ("confluent_kafka", ("apps", "packages")),
    "fastapi": ("fastapi", ("apps", "packages")),
    "sse-starlette": ("sse_starlette", ("apps", "packages")),
    "sqlalchemy": ("sqlalchemy", ("apps", "packages")),
    "psycopg": ("psycopg", ("apps", "packages")),
    "boto3": ("boto3", ("apps", "packages")),
    "aioboto3": ("aioboto3", ("apps", "packages")),
    "minio": ("minio", ("apps", "packages")),
    "prometheus-client": ("prometheus_client", ("apps", "packages")),
    "pytest": ("pytest", ("tests",)),
}


@cache
def imported_modules(source: Path) -> set[str]:
    """Top-level names of all that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return {name.partition(".")[0] for name in found}


@cache
def sources(folder: str) -> list[Path]:
    return [path for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_of_the_design_is_imported_where_it_should_do_its_work(library: str) -> None:
    module, folders = LIBRARIES[library]
    users = [
        source
        for folder in folders
        for source in sources(folder)
        if module in imported_modules(source)
    ]
    assert users, f"{library} is imported nowhere in {', '.join(folders)}"
