"""Structured logs: one JSON object a line on stdout, events with fields, never sentences.

``correlation_id`` and whatever else is bound to the context travels with every line of a request.
Values of secret fields are masked, whoever logs them.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog
from pydantic import SecretStr

from shopstream_shared.settings import dead_variables

_SECRET_WORDS: Final = (
    "password",
    "secret",
    "authorization",
    "cookie",
    "token",
    "access_key",
    "api_key",
    "database_url",
    "dsn",
)
_MASK: Final = "***"
#: Mappings and lists inside values are searched this deep; what lies deeper is not shown.
_DEPTH_MAX: Final = 4
#: A traceback's innermost frames are the ones that say something.
_FRAMES_MAX: Final = 20

Logger = structlog.stdlib.BoundLogger


def configure(service: str, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Set up logging for the process; call once, in main."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(service),
        _without_colour,
        _mask_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            # Extras first: they are masked like all else.
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Without local variables, which hold whatever was being handled: secrets too.
                structlog.processors.ExceptionRenderer(
                    structlog.tracebacks.ExceptionDictTransformer(
                        show_locals=False, max_frames=_FRAMES_MAX
                    )
                ),
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The access log would double every request line; requests are measured, not narrated.
    logging.getLogger("uvicorn.access").disabled = True


def get_logger(name: str) -> Logger:
    """A logger; ``name`` is the module's."""
    logger: Logger = structlog.stdlib.get_logger(name)
    return logger


def warn_of_dead_variables() -> None:
    """Name the monolith's variables that are set although nothing reads them any more."""
    for variable in dead_variables():
        get_logger(__name__).warning("variable is no longer used", variable=variable)


def _named(service: str) -> structlog.typing.Processor:
    def add(
        _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    return add


def _without_colour(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    # uvicorn says each of its lines twice, the second time for a terminal.
    event.pop("color_message", None)
    return event


def _mask_secrets(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = _masked(key, value, _DEPTH_MAX)
    return event


def _masked(key: object, value: Any, depth: int) -> Any:
    name = str(key).lower().replace("-", "_")
    if isinstance(value, SecretStr) or any(word in name for word in _SECRET_WORDS):
        return _MASK
    if isinstance(value, Mapping):
        if depth == 0:
            return _MASK
        return {inner: _masked(inner, entry, depth - 1) for inner, entry in value.items()}
    if isinstance(value, list | tuple):
        if depth == 0:
            return _MASK
        inside = [_masked("", entry, depth - 1) for entry in value]
        # A traceback's triple must stay the tuple that it is.
        return tuple(inside) if isinstance(value, tuple) else inside
    return value
