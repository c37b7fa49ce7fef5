"""The API's start: what it loads, and that nothing is collected meanwhile (ADR 0020)."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from alembic.config import Config
from alembic.script import ScriptDirectory
from tests.support.api import COMMAND, ApiProcess
from tests.support.components import LocalComponents, machine_environ
from tests.support.system import wait_until

from shopstream_api.db import migrations, revision

#: Libraries that a start on a current schema has no use for: each would cost every restart its
#: load, some by a single import in a module of ours. The tools' own stay out of the service too.
UNUSED: Final = {
    *("alembic", "mako"),
    *("aiokafka", "boto3", "botocore", "duckdb", "faust", "httpx", "matplotlib", "minio", "typer"),
    *("jinja2", "numpy", "psutil", "yaml", "zstandard"),
    *("shopstream_analytics", "shopstream_notifications", "shopstream_stack"),
}
#: Of a start that loads one service; the interpreter itself has some tens of thousands.
FROZEN_OBJECTS_MIN: Final = 100_000

_COUNT_COLLECTIONS: Final = """
import gc, sys
from shopstream_api import start

collections = []
gc.callbacks.append(lambda phase, _: collections.append(phase) if phase == "start" else None)
sys.argv[:] = ["shopstream-api", "--help"]
try:
    start.main()
except SystemExit:
    print(len(collections), gc.isenabled(), gc.get_freeze_count())
"""


def test_a_start_on_a_current_schema_loads_no_library_that_it_has_no_use_for(
    components: LocalComponents, tmp_path: Path
) -> None:
    listing = tmp_path / "listing"
    with ApiProcess.beside(components, SHOPSTREAM_RELAY="off") as api:
        api.kill()
        environ = {**api.environ, "PYTHONPROFILEIMPORTTIME": "1"}
        with listing.open("wb") as output:
            process = subprocess.Popen([COMMAND], env=environ, stderr=output, stdout=output)
        try:
            wait_until(lambda: api.answers("/health/ready"), "it is ready")
        finally:
            process.kill()
            process.wait()
    loaded = _packages(listing.read_text())
    assert {"shopstream_api", "sqlalchemy"} <= loaded
    assert loaded & UNUSED == set()


def test_nothing_is_collected_while_the_service_is_loaded_and_later_collections_leave_it_out() -> (
    None
):
    result = subprocess.run(
        [sys.executable, "-c", _COUNT_COLLECTIONS],
        env=machine_environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    collections, enabled, frozen = result.stdout.splitlines()[-1].split()
    # One that the command line itself may set off has nothing much to go through.
    assert int(collections) <= 1
    assert enabled == "True"
    assert int(frozen) > FROZEN_OBJECTS_MIN


def test_the_newest_revision_is_alembics_own() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0])))
    config.set_main_option("path_separator", "os")
    assert revision.newest() == ScriptDirectory.from_config(config).get_current_head()


def _packages(listing: str) -> set[str]:
    """The top-level names in what `PYTHONPROFILEIMPORTTIME` writes: times, a bar, the name."""
    names = (
        line.rpartition("|")[2].strip()
        for line in listing.splitlines()
        if line.startswith("import time:")
    )
    return {name.partition(".")[0] for name in names}
