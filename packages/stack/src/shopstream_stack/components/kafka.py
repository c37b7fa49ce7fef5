"""Apache Kafka, one node in KRaft mode (broker and controller in one process)."""

from __future__ import annotations

import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shopstream_stack import health, tools
from shopstream_stack.cache import Cache, run_build
from shopstream_stack.ports import LOOPBACK, reserved_ports
from shopstream_stack.process import PortUse, ProcessSpec, write_atomically
from shopstream_stack.settings import StackSettings

# 512 MiB holds a broker with the project's topics; a fixed small heap starts fast.
HEAP: Final = ("-Xms256m", "-Xmx512m")
START_SECONDS_MAX: Final = 90.0

# One node: every internal topic has one copy. Few partitions of internal topics, so that start
# and stop open and close few files. A group's first member waits for nobody (stock: 3 s). A killed
# broker may come back once its session is over (stock: 9 s).
PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}{listeners}
advertised.listeners=PLAINTEXT://{host}:{port}{advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
background.threads=2
queued.max.requests=200
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
default.replication.factor=1
min.insync.replicas=1
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.max.timeout.ms=900000
log.segment.bytes=134217728
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.threads=1
# Kafka 4 leaves out the markers of a transaction that is being committed for partitions which have
# no leader just then ("likely deleted already"), as all have while the only broker shuts down in a
# controlled way: what lies behind is never read (seen once in fifteen stops under load).
controlled.shutdown.enable=false
"""

_ASCII: Final = range(128)

LOG4J: Final = """\
rootLogger.level=INFO
rootLogger.appenderRef.stdout.ref=STDOUT
appender.console.type=Console
appender.console.name=STDOUT
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %m (%c)%n
logger.config.name=org.apache.kafka.common.config
logger.config.level=WARN
logger.clients.name=org.apache.kafka.clients
logger.clients.level=WARN
logger.utils.name=org.apache.kafka.common.utils
logger.utils.level=WARN
"""


@dataclass(frozen=True, slots=True)
class Door:
    """One more listener, for clients that are told to come by another port: a proxy's."""

    name: str
    port: int
    advertised_port: int


def kafka(settings: StackSettings, cache: Cache, doors: Sequence[Door] = ()) -> ProcessSpec:
    """The broker; its data lives in `kafka` under the data folder."""
    home = settings.data / "kafka"
    classpath = f"{cache.jars('kafka')}/*"
    java, classes = tools.path_of(tools.JAVA), ("-cp", classpath)
    quick = tools.QUICK_JAVA if settings.quick_java != "false" else ()
    logs = f"-Dlog4j2.configurationFile={home / 'log4j2.properties'}"
    environ = settings.component_environ()

    def check() -> None:
        # First the port: a Kafka client for each try of a start would cost more than the start.
        health.listening(settings.kafka_port)
        health.kafka_serves(f"{LOOPBACK}:{settings.kafka_port}")

    def prepare() -> None:
        _configure(home, settings.kafka_port, doors)
        if not (home / "data" / "meta.properties").exists():
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            argv = [java, *tools.QUICK_JAVA, *classes, logs, "kafka.tools.StorageTool", "format"]
            argv += [f"--cluster-id={cluster}", "-c", str(home / "server.properties")]
            run_build(argv, "format Kafka's storage", environ=environ)

    return ProcessSpec(
        name="kafka",
        kind="component",
        argv=(java, *HEAP, *quick, *classes, logs, "kafka.Kafka", str(home / "server.properties")),
        environ=environ,
        ports=(PortUse(settings.kafka_port, "SHOPSTREAM_KAFKA_PORT"),),
        check=check,
        prepare=prepare,
        start_seconds_max=START_SECONDS_MAX,
        # The controller's port is free when chosen; should another take it, choose again.
        tries_max=2,
    )


def properties_value(text: str) -> str:
    """Text as a value of a properties file, which Java reads as Latin-1 with UTF-16 escapes."""
    units = text.replace("\\", "\\\\").encode("utf-16-be")
    pairs = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    return "".join(chr(unit) if unit in _ASCII else f"\\u{unit:04x}" for unit in pairs)


def _configure(home: Path, port: int, doors: Sequence[Door]) -> None:
    # Nobody outside the process speaks to the controller, so any free port will do.
    with reserved_ports() as ports:
        properties = PROPERTIES.format(
            host=LOOPBACK,
            port=port,
            controller_port=ports.take(),
            data=properties_value(str(home / "data")),
            listeners="".join(f",{door.name}://{LOOPBACK}:{door.port}" for door in doors),
            advertised="".join(
                f",{door.name}://{LOOPBACK}:{door.advertised_port}" for door in doors
            ),
            protocols="".join(f",{door.name}:PLAINTEXT" for door in doors),
        )
    write_atomically(home / "server.properties", properties)
    write_atomically(home / "log4j2.properties", LOG4J)
