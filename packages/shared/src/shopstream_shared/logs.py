"""Structured logs: one JSON object a line on stdout, events with fields, never sentences.

``correlation_id`` and whatever else is bound to the context travels with every line of a request.
Values of secret fields are masked, whoever logs them.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog
from pydantic import SecretStr

_SECRET_WORDS: Final = ("password", "secret", "authorization", "cookie", "token", "access_key")
_MASK: Final = "***"

Logger = structlog.stdlib.BoundLogger


def configure(service: str, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Set up logging for the process; call once, in main."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(service),
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
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.dict_tracebacks,
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


def _named(service: str) -> structlog.typing.Processor:
    def add(
        _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    return add


def _mask_secrets(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, SecretStr) or any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = _MASK
    return event
