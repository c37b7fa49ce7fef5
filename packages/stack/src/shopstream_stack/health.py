"""Checks: does a process do its work? Each raises NotHealthyError with the reason."""

from __future__ import annotations

import logging
import socket
from typing import Final

import httpx
import psycopg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from shopstream_stack.ports import LOOPBACK
from shopstream_stack.process import NotHealthyError

CHECK_SECONDS_MAX: Final = 3.0
REASON_CHARACTERS_MAX: Final = 400


def listening(port: int) -> None:
    """Something accepts connections on `port` of the loopback address."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=CHECK_SECONDS_MAX).close()
    except OSError as error:
        raise NotHealthyError(f"nothing listens on port {port}") from error


def http_answers(url: str, *, any_status: bool = False) -> None:
    """`url` answers 200 (with `any_status`: answers at all)."""
    try:
        # trust_env off: a proxy of the environment has no business on the loopback address.
        # Loading the authorities' certificates costs more than the rest of a plain check.
        is_tls = url.startswith("https:")
        with httpx.Client(timeout=CHECK_SECONDS_MAX, trust_env=False, verify=is_tls) as client:
            answer = client.get(url)
    except httpx.HTTPError as error:
        raise NotHealthyError(f"{url} does not answer: {error}") from error
    if not any_status and answer.status_code != httpx.codes.OK:
        raise NotHealthyError(f"{url} answers {answer.status_code}: {_reason(answer)}")


def _reason(answer: httpx.Response) -> str:
    """The checks of a health page that fail, else the beginning of what was answered."""
    try:
        checks = answer.json()["checks"]
        sick = [
            f"{name}: {check['message']}"
            for name, check in checks.items()
            if check["status"] != "healthy"
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        sick = []
    return ("; ".join(sick) or answer.text)[:REASON_CHARACTERS_MAX]


def kafka_serves(brokers: str) -> None:
    """One of the brokers tells the cluster's metadata."""
    quiet = logging.getLogger("shopstream.stack.kafka-check")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0}, logger=quiet)
    try:
        admin.list_topics(timeout=CHECK_SECONDS_MAX)
    except KafkaException as error:
        raise NotHealthyError(f"the broker tells no metadata: {error}") from error


def postgres_serves(url: str) -> None:
    """The server lets us in and answers."""
    try:
        with psycopg.connect(url, connect_timeout=int(CHECK_SECONDS_MAX)) as connection:
            connection.execute("SELECT 1")
    except psycopg.ProgrammingError:
        # The library's message repeats what it could not read, a password among it.
        raise NotHealthyError("the address of PostgreSQL cannot be read") from None
    except psycopg.Error as error:
        raise NotHealthyError(f"PostgreSQL does not answer: {error}") from error
