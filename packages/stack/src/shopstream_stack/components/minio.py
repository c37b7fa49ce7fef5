"""MinIO, one drive, with its console."""

from __future__ import annotations

from typing import Final

from shopstream_stack import health
from shopstream_stack.cache import Cache
from shopstream_stack.ports import LOOPBACK
from shopstream_stack.process import PortUse, ProcessSpec
from shopstream_stack.settings import StackSettings

START_SECONDS_MAX: Final = 60.0


def minio(settings: StackSettings, cache: Cache) -> ProcessSpec:
    """The object store; its data lives in `minio` under the data folder."""
    home = settings.data / "minio"
    address = f"{LOOPBACK}:{settings.minio_port}"
    console = f"{LOOPBACK}:{settings.minio_console_port}"
    return ProcessSpec(
        name="minio",
        kind="component",
        argv=(
            *(str(cache.minio), "server", "--quiet", str(home)),
            *("--address", address, "--console-address", console),
        ),
        environ=settings.component_environ(
            MINIO_ROOT_USER=settings.minio_access_key,
            MINIO_ROOT_PASSWORD=settings.minio_secret_key.get_secret_value(),
            MINIO_UPDATE="off",
        ),
        ports=(
            PortUse(settings.minio_port, "SHOPSTREAM_MINIO_PORT"),
            PortUse(settings.minio_console_port, "SHOPSTREAM_MINIO_CONSOLE_PORT"),
        ),
        check=lambda: health.http_answers(f"http://{address}/minio/health/ready"),
        prepare=lambda: home.mkdir(parents=True, exist_ok=True),
        start_seconds_max=START_SECONDS_MAX,
        nice=settings.background_nice,
    )
