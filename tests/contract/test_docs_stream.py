"""docs/stream.md names every metric of the stream, and no other."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from shopstream_notifications.metrics import Metrics

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs" / "stream.md").read_text(encoding="utf-8")


def metric_names() -> set[str]:
    """As Prometheus shows them: a counter with its suffix."""
    registry = CollectorRegistry()
    Metrics(registry)
    return {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
    }


def test_the_table_of_metrics_is_complete() -> None:
    documented = set(re.findall(r"^\| `(shopstream_stream_\w+)", MANUAL, re.MULTILINE))
    assert documented == metric_names()


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    dashboard = ROOT / "monitoring" / "grafana" / "dashboards" / "shopstream.json"
    asked = set(re.findall(r"shopstream_stream_[a-z_]+", dashboard.read_text(encoding="utf-8")))
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert shown <= metric_names()
