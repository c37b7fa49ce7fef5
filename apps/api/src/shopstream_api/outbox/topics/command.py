"""`shopstream-api topics ls|adopt|apply`: what it prints, and how it ends.

Exit code 0: done, or for `ls` nothing to do; 1: refused, or for `ls` something differs; the reason
is one line on stderr. With ``--json`` the result is one JSON document on stdout.
"""

import argparse
import sys
from typing import Final

import msgspec
import psycopg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from shopstream_api.outbox.relay.ports import LogFailed
from shopstream_api.outbox.topics.adopt import Adopted, adopt
from shopstream_api.outbox.topics.apply import Applied, Apply
from shopstream_api.outbox.topics.errors import Refused
from shopstream_api.outbox.topics.listing import Listed, list_topics
from shopstream_api.outbox.topics.quiet import opened
from shopstream_api.settings import ApiSettings
from shopstream_shared.kafka import KafkaConnection
from shopstream_shared.topics import RELAY_PROGRESS, load_topics

EXIT_REFUSED: Final = 1
ACTIONS: Final = ("ls", "adopt", "apply")


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command line of this command."""
    parser = commands.add_parser("topics", help="topics made again, more partitions")
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--without", action="append", default=[], help="apply: a group not to wait for"
    )


def run(settings: ApiSettings, arguments: argparse.Namespace) -> int:
    """Do one action and say what was done."""
    try:
        result = _do(settings, arguments)
    except Refused as error:
        return _fail(str(error))
    except LogFailed as error:
        return _fail(str(error))
    except KafkaException as error:
        return _fail(f"broker: {error.args[0].str()}")
    except psycopg.Error as error:
        return _fail(f"database: {type(error).__name__}")
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(result))
    fine = not isinstance(result, list) or all(row.state in {"ok", "unused"} for row in result)
    return 0 if fine else EXIT_REFUSED


def _do(settings: ApiSettings, arguments: argparse.Namespace) -> list[Listed] | Adopted | Applied:
    url = settings.database_url.get_secret_value()
    connection = KafkaConnection(settings.brokers, f"{settings.client_id}-topics")
    specs = load_topics(settings.profile)
    if arguments.action == "adopt":
        return adopt(url, connection, specs[RELAY_PROGRESS])
    if arguments.action == "apply":
        return Apply(url, connection, specs, arguments.without, _say).run()
    with opened(url) as books:
        return list_topics(
            AdminClient(connection.admin()), specs, books.stored(), list(books.boundaries())
        )


def _lines(result: list[Listed] | Adopted | Applied) -> list[str]:
    if isinstance(result, list):
        return [
            f"{row.topic}\t{row.state}\t{row.partitions} partitions\t{row.id}\t"
            f"stored {row.stored_id}, generation {row.generation}\t{'; '.join(row.differences)}"
            for row in result
        ]
    if isinstance(result, Applied):
        return [
            f"{g.topic}: {g.before} -> {g.after} partitions, boundary {list(g.ends)} {g.warning}"
            for g in result.topics
        ] or ["nothing to apply"]
    return [
        *(
            f"{topic.topic}: generation {topic.generation}, {topic.old_id} -> {topic.id}"
            for topic in result.topics
        ),
        *([f"found on the log: {result.found_published}"] if result.found_published else []),
        *([f"sent again, at most: {result.sent_again_max}"] if result.sent_again_max else []),
    ] or ["nothing to adopt"]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _fail(reason: str) -> int:
    _say(f"error: {reason}")
    return EXIT_REFUSED
