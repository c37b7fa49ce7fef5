"""Settings of the stack: what is local, what is external, what each process is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopstream_stack.components.kafka import PROPERTIES, kafka, properties_value
from shopstream_stack.errors import StackError
from shopstream_stack.settings import SERVICES, Service, StackSettings
from shopstream_stack.system import System
from shopstream_stack.verify.run import FOLDER


def settings(**environ: str) -> StackSettings:
    return StackSettings.load({"HOME": "/home/someone", **environ})


def test_the_ports_and_addresses_are_those_of_the_design_unless_moved() -> None:
    plain = settings()
    assert {name: plain.port_of(name) for name in SERVICES} == {
        "api": 3000,
        "notifications": 3001,
        "analytics": 8080,
        "web": 5173,
    }
    assert plain.addresses == {
        "DATABASE_URL": "postgresql://postgres:password@127.0.0.1:5432/app",
        "KAFKA_BROKERS": "127.0.0.1:9092",
        "DYNAMO_ENDPOINT": "http://127.0.0.1:8000",
        "MINIO_ENDPOINT": "http://127.0.0.1:9000",
    }
    assert settings(SHOPSTREAM_KAFKA_PORT="9999").addresses["KAFKA_BROKERS"] == "127.0.0.1:9999"


def test_everything_is_local_when_nothing_is_said() -> None:
    names = System(settings()).names()
    assert names == [
        *("kafka", "postgres", "dynamodb", "dynamodb-admin", "minio"),
        *("api", "notifications", "analytics", "web"),
    ]


@pytest.mark.parametrize(
    ("variable", "value", "gone"),
    [
        ("KAFKA_BROKERS", "broker.example:9092", {"kafka"}),
        ("KAFKA_BROKERS", "localhost:9093", {"kafka"}),
        ("KAFKA_BROKERS", "localhost:9092,localhost:9093", {"kafka"}),
        ("DATABASE_URL", "postgresql://u:p@db.example/app", {"postgres"}),
        ("DATABASE_URL", "postgresql://u:p@localhost:5433/app", {"postgres"}),
        ("DYNAMO_ENDPOINT", "http://localhost:8010", {"dynamodb", "dynamodb-admin"}),
        ("MINIO_ENDPOINT", "https://s3.example", {"minio"}),
        ("MINIO_ENDPOINT", "http://localhost:nonsense", {"minio"}),
    ],
)
def test_a_component_whose_variable_points_elsewhere_is_not_started(
    variable: str, value: str, gone: set[str]
) -> None:
    everything = set(System(settings()).names())
    assert everything - set(System(settings(**{variable: value})).names()) == gone


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KAFKA_BROKERS", "localhost:9092"),
        ("KAFKA_BROKERS", "127.0.0.1:9092"),
        ("DATABASE_URL", "postgresql://postgres:password@localhost:5432/app"),
        ("DATABASE_URL", "postgresql://postgres:password@localhost/app"),
        ("DYNAMO_ENDPOINT", "http://localhost:8000"),
        ("MINIO_ENDPOINT", "http://[::1]:9000/"),
        ("KAFKA_BROKERS", ""),
    ],
)
def test_a_component_whose_variable_names_its_own_address_is_local(
    variable: str, value: str
) -> None:
    assert System(settings(**{variable: value})).names() == System(settings()).names()


def test_a_moved_component_is_local_when_the_variable_moves_with_it() -> None:
    moved = settings(SHOPSTREAM_KAFKA_PORT="9393", KAFKA_BROKERS="localhost:9393")
    assert moved.kafka_is_local
    assert not settings(SHOPSTREAM_KAFKA_PORT="9393", KAFKA_BROKERS="localhost:9092").kafka_is_local


@pytest.mark.parametrize(
    ("service", "port", "client_id"),
    [
        ("api", {"PORT": "3000"}, "api-service"),
        ("notifications", {"PORT": "3001"}, "notifications-service"),
        ("analytics", {"HEALTH_PORT": "8080"}, "analytics-service"),
        ("web", {"PORT": "5173"}, None),
    ],
)
def test_each_service_gets_its_own_port_and_client_id_whatever_the_caller_has(
    service: Service, port: dict[str, str], client_id: str | None
) -> None:
    given = settings(PORT="1", HEALTH_PORT="2", KAFKA_CLIENT_ID="mine").service_environ(service)
    own = {name: given[name] for name in ("PORT", "HEALTH_PORT") if name in given}
    assert own == port
    assert given.get("KAFKA_CLIENT_ID") == client_id


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("LOW_STOCK_THRESHOLD", "RECENT_EVENTS_TABLE_NAME", "ARCHIVE_BUCKET_NAME"),
                *("KAFKA_TRANSACTIONAL_ID", "SHOPSTREAM_RESERVATION_SECONDS", "AUTH_MODE"),
                *("AWS_ACCESS_KEY_ID", "MINIO_SECRET_KEY", "SHOPSTREAM_ANYTHING", "PATH"),
            ]
        ),
        st.text("abcdefgh0123456789", min_size=8, max_size=12),
    )
)
def test_every_other_variable_of_the_caller_reaches_every_service(environ: dict[str, str]) -> None:
    for service in SERVICES:
        assert environ.items() <= settings(**environ).service_environ(service).items()


def test_a_proxy_of_the_caller_is_not_asked_for_what_is_local() -> None:
    proxied = settings(HTTP_PROXY="http://proxy.example:3128", NO_PROXY="intranet.example")
    given = proxied.service_environ("analytics")
    assert given["HTTP_PROXY"] == "http://proxy.example:3128"
    assert given["NO_PROXY"] == given["no_proxy"] == "intranet.example,127.0.0.1,::1,localhost"
    assert "NO_PROXY" not in settings().service_environ("analytics")


def test_local_credentials_are_handed_out_and_external_ones_are_not_invented() -> None:
    local = settings().service_environ("analytics")
    assert (local["AWS_ACCESS_KEY_ID"], local["AWS_SECRET_ACCESS_KEY"]) == ("fake", "fake")
    assert (local["MINIO_ACCESS_KEY"], local["MINIO_SECRET_KEY"]) == ("minio", "minio123")
    outside = settings(
        DYNAMO_ENDPOINT="https://dynamodb.example", MINIO_ENDPOINT="https://s3.example"
    ).service_environ("analytics")
    assert not {"AWS_ACCESS_KEY_ID", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"} & outside.keys()


def test_a_component_gets_no_variable_of_a_service() -> None:
    system = System(settings(PATH="/bin", MINIO_ENDPOINT="http://localhost:9000", SECRET="x"))
    assert system.spec("minio").environ == {
        "PATH": "/bin",
        "HOME": "/home/someone",
        "MINIO_ROOT_USER": "minio",
        "MINIO_ROOT_PASSWORD": "minio123",
        "MINIO_UPDATE": "off",
    }


def test_an_impossible_port_is_one_line_that_names_the_variable() -> None:
    with pytest.raises(StackError) as error:
        settings(SHOPSTREAM_KAFKA_PORT="90000")
    assert str(error.value).startswith("SHOPSTREAM_KAFKA_PORT: ")
    assert "\n" not in str(error.value)


def test_a_secret_stands_neither_in_a_complaint_nor_in_a_print() -> None:
    with pytest.raises(StackError) as caught:
        StackSettings.load({"MINIO_SECRET_KEY": "hush"})
    assert "MINIO_SECRET_KEY" in str(caught.value)
    assert "hush" not in str(caught.value)
    settings = StackSettings.load({"MINIO_SECRET_KEY": "hush-hush", "DATABASE_URL": "hush://hush"})
    assert "hush" not in repr(settings)


def test_the_variables_of_one_process_can_be_changed_without_the_others() -> None:
    system = System(settings())
    system.overrides["api"] = {"LOW_STOCK_THRESHOLD": "9"}
    assert system.spec("api").environ["LOW_STOCK_THRESHOLD"] == "9"
    assert "LOW_STOCK_THRESHOLD" not in system.spec("analytics").environ


def test_reset_leaves_what_is_not_the_stacks_own(tmp_path: Path) -> None:
    (tmp_path / "minio").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / FOLDER).mkdir()
    (tmp_path / "thesis.txt").write_text("mine")
    System(settings(SHOPSTREAM_DATA_DIR=str(tmp_path))).forget()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(StackError, match="redis is none of kafka, postgres"):
        System(settings()).spec("redis")


def test_the_broker_makes_no_topic_by_itself_and_keeps_one_copy_of_all() -> None:
    lines = PROPERTIES.splitlines()
    assert "auto.create.topics.enable=false" in lines
    assert "group.initial.rebalance.delay.ms=0" in lines
    factors = [line for line in lines if "replication.factor" in line or ".isr" in line]
    assert factors
    assert all(line.endswith("=1") for line in factors)


def test_a_path_is_written_so_that_java_reads_it_back() -> None:
    written = properties_value("/home/jürgen 😀/a\\b")
    assert written == "/home/j\\u00fcrgen \\ud83d\\ude00/a\\\\b"


def test_kafka_runs_in_half_a_gigabyte() -> None:
    system = System(settings())
    assert "-Xmx512m" in kafka(system.settings, system.cache).argv


def test_a_long_drain_is_waited_for_before_anything_is_killed() -> None:
    system = System(settings(SHOPSTREAM_DRAIN_SECONDS="60"))
    assert system.stop_seconds_max("notifications") > 60 + 5  # the contract's drain + 5 s
    assert system.stop_seconds_max("api") < 60
