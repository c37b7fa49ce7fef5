"""Create the topics of topics.toml on a broker, or check that it has them as they are written.

Guarantees of `ensure_topics`:

- Afterwards every topic exists with the partitions, replication and settings of the file, or
  TopicMismatch names each difference. A topic that exists is never altered: more partitions break
  stream ids and order unless the log is drained first (protocol rule 14), and a changed retention
  deletes data.
- Running it twice, or in several processes at once, is the same as running it once.

As a command, for the one-shot set-up of docker-compose.yml:
``python -m shopstream_shared.topic_admin`` with KAFKA_BROKERS and SHOPSTREAM_PROFILE; exit 0 when
the broker agrees with the file, 1 with one line that says why not, 2 for a wrong variable.
"""

import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from pydantic import Field

from shopstream_shared.kafka import METADATA_TIMEOUT_SECONDS, KafkaConnection, answer
from shopstream_shared.settings import Brokers, Settings
from shopstream_shared.topics import (
    REDPANDA_TIMESTAMP_AFTER_MAX_MS,
    RELAY_PROGRESS,
    TIMESTAMP_AFTER,
    Profile,
    TopicSpec,
    load_topics,
)

CREATE_TIMEOUT_SECONDS: Final = 15.0
#: How long a topic made a moment ago, by us or by another, may stay unknown to the broker we ask.
VISIBLE_TIMEOUT_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.1
#: librdkafka 2.16 may wait for its connection to the controller until the request's end although
#: the broker answers others (seen once in some ten suites); a new request connects at once.
CONTROLLER_TRIES_MAX: Final = 3

Answer = TypeVar("Answer")

_REFUSED_SETTING: Final = (KafkaError.INVALID_CONFIG, KafkaError.INVALID_REQUEST)


class TopicMismatch(Exception):
    """The broker's topics are not those of topics.toml; ``differences`` has a line for each."""

    def __init__(self, differences: Collection[str]) -> None:
        self.differences = tuple(differences)
        super().__init__("; ".join(self.differences))


def ensure_topics(admin: AdminClient, specs: Iterable[TopicSpec]) -> None:
    """Create what is missing and check all the rest; blocks, so call it from a thread.

    Raises TopicMismatch when an existing topic differs or a new one stays invisible, and
    KafkaException when the broker cannot be reached or refuses to create a topic.
    """
    wanted = {spec.name: spec for spec in specs}
    missing = [wanted[name] for name in wanted.keys() - shapes(admin, wanted).keys()]
    if missing:
        _of_controller(lambda: _create(admin, missing))
    _all_visible(admin, wanted)
    if found := differences(admin, wanted):
        raise TopicMismatch([line for lines in found.values() for line in lines])


def differences(admin: AdminClient, specs: Mapping[str, TopicSpec]) -> Mapping[str, list[str]]:
    """How the broker's topics differ from these, a line each; topics that agree are left out.

    Raises KafkaException.
    """
    found = shapes(admin, specs)
    configs = _of_controller(lambda: _configs(admin, found))
    lines = {
        name: list(_differences(spec, found[name], configs[name]))
        if name in found
        else [f"{name}: does not exist"]
        for name, spec in specs.items()
    }
    return {name: some for name, some in lines.items() if some}


def _of_controller(ask: Callable[[], Answer]) -> Answer:
    """What the controller answers, asked up to CONTROLLER_TRIES_MAX times if it is not reached.

    The caller has had an answer from the broker before: one that is away is not waited for here.
    """
    for _ in range(1, CONTROLLER_TRIES_MAX):
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() != KafkaError._TIMED_OUT:  # noqa: SLF001 - public in all but the underscore
                raise
    return ask()


def _create(admin: AdminClient, specs: Iterable[TopicSpec]) -> None:
    refused = _try_create(admin, [(spec, spec.config) for spec in specs], bounded=False)
    if refused:
        # Kafka's largest value is past Redpanda's, which refuses it; its own largest does as well.
        largest = {TIMESTAMP_AFTER: str(REDPANDA_TIMESTAMP_AFTER_MAX_MS)}
        _try_create(admin, [(spec, spec.config | largest) for spec in refused], bounded=True)


def _try_create(
    admin: AdminClient, wanted: Iterable[tuple[TopicSpec, Mapping[str, str]]], *, bounded: bool
) -> list[TopicSpec]:
    """Create them; answers which were refused for a setting, unless ``bounded`` already."""
    specs = {spec.name: spec for spec, _ in wanted}
    futures = admin.create_topics(
        [
            NewTopic(
                spec.name,
                num_partitions=spec.partitions,
                replication_factor=spec.replication,
                config=dict(config),
            )
            for spec, config in wanted
        ],
        operation_timeout=CREATE_TIMEOUT_SECONDS,
        request_timeout=CREATE_TIMEOUT_SECONDS,
    )
    refused = []
    for name, future in futures.items():
        try:
            answer(future, CREATE_TIMEOUT_SECONDS)
        except KafkaException as error:
            code = error.args[0].code()
            if code in _REFUSED_SETTING and not bounded:
                refused.append(specs[name])
            # Another process was quicker; what it made is checked like any other.
            elif code != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return refused


def _all_visible(admin: AdminClient, wanted: Mapping[str, TopicSpec]) -> None:
    deadline = time.monotonic() + VISIBLE_TIMEOUT_SECONDS
    while True:
        found = shapes(admin, wanted)
        unseen = wanted.keys() - found.keys()
        if not unseen:
            return
        if time.monotonic() >= deadline:
            raise TopicMismatch([f"{name}: does not exist" for name in sorted(unseen)])
        time.sleep(POLL_SECONDS)


def shapes(admin: AdminClient, names: Iterable[str]) -> Mapping[str, tuple[int, int]]:
    """(partitions, replication) of each topic that exists."""
    futures = admin.describe_topics(
        TopicCollection(list(names)), request_timeout=METADATA_TIMEOUT_SECONDS
    )
    found: dict[str, tuple[int, int]] = {}
    for name, future in futures.items():
        try:
            partitions = answer(future).partitions
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
        else:
            found[name] = (len(partitions), min(len(p.replicas) for p in partitions))
    return found


def _configs(admin: AdminClient, names: Collection[str]) -> Mapping[str, Mapping[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    futures = admin.describe_configs(resources, request_timeout=METADATA_TIMEOUT_SECONDS)
    return {
        resource.name: {entry.name: entry.value for entry in answer(future).values()}
        for resource, future in futures.items()
    }


def _differences(
    spec: TopicSpec, shape: tuple[int, int], config: Mapping[str, str]
) -> Iterable[str]:
    partitions, replication = shape
    # The number of relay shards is the operator's (`shopstream-api shards`), each with a partition.
    more_shards = spec.name == RELAY_PROGRESS and partitions > spec.partitions
    if partitions != spec.partitions and not more_shards:
        yield f"{spec.name}: {partitions} partitions, topics.toml says {spec.partitions}"
    if replication != spec.replication:
        yield f"{spec.name}: replication {replication}, topics.toml says {spec.replication}"
    for key, value in spec.config.items():
        actual = config.get(key)
        if actual != value and not (key == TIMESTAMP_AFTER and _takes_any_time(actual)):
            yield f"{spec.name}: {key} is {actual}, topics.toml says {value}"


def _takes_any_time(limit: str | None) -> bool:
    """Redpanda learnt this setting late; without it, it takes any timestamp."""
    return limit is None or int(limit) >= REDPANDA_TIMESTAMP_AFTER_MAX_MS


class TopicAdminSettings(Settings):
    """Variables of the command."""

    brokers: Brokers = Field(default="localhost:9092", alias="KAFKA_BROKERS")
    profile: Profile = Field(default="local", alias="SHOPSTREAM_PROFILE")


def main() -> int:
    """Ensure all topics of the profile; see the module's docstring for the exit codes."""
    settings = TopicAdminSettings.read_or_exit()
    admin = AdminClient(KafkaConnection(settings.brokers, "topic-admin").admin())
    specs = load_topics(settings.profile)
    try:
        ensure_topics(admin, specs.values())
    except (TopicMismatch, KafkaException) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else error
        sys.stderr.write(f"error: topics at {settings.brokers}: {reason}\n")
        return 1
    sys.stdout.write(f"{len(specs)} topics agree with topics.toml ({settings.profile})\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
