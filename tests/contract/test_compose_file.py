"""docker-compose.yml against the schema of compose files, the settings classes and the design."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator
from tests.support.compose import IMAGES, ROOT, compose, is_pinned, services

from shopstream_analytics.settings import AnalyticsSettings
from shopstream_api.settings import ApiSettings
from shopstream_notifications.settings import NotificationsSettings
from shopstream_shared.settings import Settings
from shopstream_shared.topic_admin import TopicAdminSettings

SETTINGS: dict[str, type[Settings]] = {
    "api": ApiSettings,
    "notifications": NotificationsSettings,
    "analytics": AnalyticsSettings,
    "topics": TopicAdminSettings,
    "bucket": AnalyticsSettings,
}
#: Where the design says that each part is to be found on this machine.
PORTS = {
    "api": {3000},
    "notifications": {3001},
    "analytics": {8080},
    "web": {5173},
    "redpanda": {9092},
    "redpanda-console": {8082},
    "postgres": {5432},
    "dynamodb": {8000},
    "dynamodb-admin": {8001},
    "minio": {9000, 9001},
    "prometheus": {9090},
    "grafana": {3030},
}
ONCE = ("topics", "bucket")


def published(name: str) -> dict[int, int]:
    """Port on this machine → port in the container."""
    found = {}
    for entry in services()[name].get("ports", []):
        address, outside, inside = entry.rsplit(":", 2)
        assert address == "127.0.0.1", f"{name} publishes {entry}"
        found[int(outside)] = int(inside)
    return found


def test_the_file_fits_the_compose_specification() -> None:
    # Only its vendored schema is wanted: its command line needs a newer click than others allow.
    spec = importlib.util.find_spec("check_jsonschema")
    assert spec is not None
    assert spec.origin is not None
    schema = Path(spec.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"

    Draft7Validator(json.loads(schema.read_text())).validate(compose())


def test_the_commands_of_the_migration_guide_find_their_container() -> None:
    """`docker exec redpanda rpk topic list` and its like must work as printed."""
    assert services()["redpanda"]["container_name"] == "redpanda"
    assert {"postgres", "redpanda", "minio", "dynamodb"} <= services().keys()


def test_every_part_is_at_its_port_and_on_loopback_only() -> None:
    found = {name: set(published(name)) for name in services()}

    assert {name: ports for name, ports in found.items() if ports} == PORTS


def test_every_image_is_pinned_and_names_no_registry() -> None:
    for name, service in services().items():
        if "build" not in service:
            assert is_pinned(service["image"]), f"{name}: {service['image']}"
        else:
            assert service["image"].endswith(":local"), name


@pytest.mark.parametrize("name", SETTINGS)
def test_a_services_variables_are_those_of_its_settings(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is read by somebody, and together they are all that the service needs."""
    environment: dict[str, str] = services()[name]["environment"]
    fields = SETTINGS[name].model_fields.values()
    for field in fields:
        assert field.alias is not None
        monkeypatch.delenv(field.alias, raising=False)
    for variable, value in environment.items():
        assert isinstance(value, str), f"{variable} is not quoted"
        monkeypatch.setenv(variable, value)

    SETTINGS[name].read()

    assert environment.keys() <= {field.alias for field in fields}


@pytest.mark.parametrize("name", ["api", "notifications", "analytics"])
def test_a_service_listens_where_compose_publishes_it(name: str) -> None:
    environment = services()[name]["environment"]
    variable = "HEALTH_PORT" if name == "analytics" else "PORT"
    default = next(
        field.default for field in SETTINGS[name].model_fields.values() if field.alias == variable
    )

    assert environment["SHOPSTREAM_HOST"] == "0.0.0.0"
    assert published(name) == {int(environment[variable]): int(environment[variable])}
    assert int(environment[variable]) == default


def test_the_page_is_served_where_compose_publishes_it_and_knows_the_services_ports() -> None:
    config = (ROOT / "apps" / "web" / "nginx.conf").read_text()
    ((outside, inside),) = published("web").items()

    assert re.findall(r"listen (?:\[::\]:)?(\d+);", config) == [str(inside)] * 2
    assert outside == inside
    addresses = dict(re.findall(r'"(\w+)Url":"http://\$host:(\d+)"', config))
    assert {name: int(port) for name, port in addresses.items()} == {
        "api": next(iter(published("api"))),
        "stream": next(iter(published("notifications"))),
        "analytics": next(iter(published("analytics"))),
    }


def test_an_address_names_a_service_and_a_port_it_has() -> None:
    inner = {"redpanda": 9092, "postgres": 5432, "minio": 9000, "dynamodb": 8000}
    for name, service in services().items():
        for variable, value in service.get("environment", {}).items():
            if variable in {"DATABASE_URL", "KAFKA_BROKERS", "DYNAMO_ENDPOINT", "MINIO_ENDPOINT"}:
                host, port = re.findall(r"([a-z]+):(\d+)", value)[-1]
                assert inner[host] == int(port), f"{name}: {variable}"


def test_the_broker_tells_this_machine_and_the_containers_apart() -> None:
    """A client goes on at the address that the broker advertises, not at the one it first asked."""
    flags = dict(
        word.removeprefix("--").split("=")
        for word in services()["redpanda"]["command"]
        if "=" in word
    )
    outside, inside = next(iter(published("redpanda").items()))

    assert f"external://0.0.0.0:{inside}" in flags["kafka-addr"]
    assert f"external://localhost:{outside}" in flags["advertise-kafka-addr"]
    assert "internal://redpanda:9092" in flags["advertise-kafka-addr"]


def test_the_broker_makes_no_topic_by_itself_and_takes_transactions() -> None:
    settings = yaml.safe_load((ROOT / "redpanda" / "bootstrap.yaml").read_text())

    assert settings["auto_create_topics_enabled"] is False
    assert settings["enable_transactions"] is settings["enable_idempotence"] is True
    mounts = services()["redpanda"]["volumes"]
    assert "./redpanda/bootstrap.yaml:/etc/redpanda/.bootstrap.yaml:ro" in mounts
    assert not any("dev-container" in word for word in services()["redpanda"]["command"])


def test_topics_and_bucket_are_set_up_once_before_who_needs_them() -> None:
    for name in ONCE:
        assert services()[name]["restart"] == "no"
        assert services()[name]["healthcheck"] == {"disable": True}
    completed = {"condition": "service_completed_successfully"}
    for name in ("api", "notifications", "analytics"):
        assert services()[name]["depends_on"]["topics"] == completed
    assert services()["analytics"]["depends_on"]["bucket"] == completed


def test_who_waits_for_health_waits_for_something_with_a_health_check() -> None:
    for name, service in services().items():
        for other, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                has_check = "healthcheck" in services()[other] or other in IMAGES
                assert has_check, f"{name} waits for {other}"


def test_every_file_and_volume_that_is_mounted_exists() -> None:
    volumes = compose()["volumes"].keys()
    used = set()
    for name, service in services().items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), f"{name}: {source}"
                assert mount.endswith(":ro"), f"{name} may write {source}"
            else:
                used.add(source)

    assert used == volumes


def test_a_service_is_given_the_time_it_needs_to_end() -> None:
    """The drain and 5 s more; the others promise 10 s."""
    grace = {
        name: int(services()[name]["stop_grace_period"].removesuffix("s"))
        for name in ("api", "notifications", "analytics")
    }
    drain = int(services()["notifications"]["environment"]["SHOPSTREAM_DRAIN_SECONDS"])

    assert grace["notifications"] > drain + 5
    assert grace["api"] > 10
    assert grace["analytics"] > 10


def test_our_containers_have_no_privileges() -> None:
    for name in (*IMAGES, *ONCE):
        assert services()[name]["cap_drop"] == ["ALL"]
        assert services()[name]["security_opt"] == ["no-new-privileges:true"]


def test_what_lies_behind_the_log_yields() -> None:
    """As on the local stack, where it is `SHOPSTREAM_BACKGROUND_NICE`."""
    shares = {name: one.get("cpu_shares", 1_024) for name, one in services().items()}
    behind = {"analytics", "dynamodb", "minio"}
    assert {name for name, share in shares.items() if share < 1_024} == behind


def test_dynamodb_is_the_version_of_the_local_stack() -> None:
    pom = (ROOT / "packages/stack/src/shopstream_stack/jars/pom.xml").read_text()
    pinned = re.search(r"<artifactId>DynamoDBLocal</artifactId>\s*<version>([^<]+)<", pom)
    assert pinned is not None

    assert services()["dynamodb"]["image"] == f"amazon/dynamodb-local:{pinned[1]}"
    assert "-sharedDb" in services()["dynamodb"]["command"]


def test_prometheus_asks_services_where_they_listen() -> None:
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]
    }

    for name in ("api", "notifications", "analytics"):
        assert targets.pop(name) == [f"{name}:{next(iter(published(name)))}"]
    assert targets == {"redpanda": ["redpanda:9644"]}


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    folder = ROOT / "monitoring" / "grafana"
    source = yaml.safe_load((folder / "provisioning/datasources/prometheus.yml").read_text())
    dashboard = json.loads((folder / "dashboards" / "shopstream.json").read_text())

    (provisioned,) = source["datasources"]
    assert provisioned["url"] == "http://prometheus:9090"
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {provisioned["uid"]}
