"""The real components: they work, keep their data, and come back after a kill."""

from __future__ import annotations

import boto3
import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from minio import Minio
from tests.support.components import LocalComponents

from shopstream_stack.process import started_mark


def test_kafka_makes_a_topic_and_keeps_it_over_a_kill(components: LocalComponents) -> None:
    admin = AdminClient({"bootstrap.servers": components.kafka_brokers, "log_level": 0})
    admin.create_topics([NewTopic("kept-topic", 1)])["kept-topic"].result(timeout=20)
    components.kill("kafka")
    components.start("kafka")
    assert "kept-topic" in admin.list_topics(timeout=20).topics


def test_postgres_18_asks_for_the_password_and_keeps_rows_over_a_kill(
    components: LocalComponents,
) -> None:
    url = components.fresh_database()
    with psycopg.connect(url) as connection:
        version = connection.execute("SHOW server_version").fetchone()
        assert version is not None
        assert version[0].startswith("18.")
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    components.kill("postgres")
    components.start("postgres")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    wrong = url.replace("postgres:password@", "postgres:wrong@")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_dynamodb_keeps_a_table_over_a_stop(components: LocalComponents) -> None:
    client = boto3.client(
        "dynamodb",
        endpoint_url=components.dynamo_endpoint,
        region_name="us-east-1",
        aws_access_key_id="fake",
        aws_secret_access_key="fake",
    )
    client.create_table(
        TableName="Kept",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    components.stop("dynamodb")
    components.start("dynamodb")
    # A list would be a page of a hundred: the other tests of this run have made more.
    assert client.describe_table(TableName="Kept")["Table"]["TableName"] == "Kept"
    client.close()


def test_minio_keeps_a_bucket_over_a_kill(components: LocalComponents) -> None:
    client = Minio(
        components.minio_endpoint.removeprefix("http://"),
        access_key="minio",
        secret_key="minio123",
        secure=False,
    )
    client.make_bucket("kept-bucket")
    components.kill("minio")
    components.start("minio")
    assert client.bucket_exists("kept-bucket")


def test_what_a_test_stopped_is_started_again(components: LocalComponents) -> None:
    components.up("minio", "postgres")
    postgres = components.system.runner.living("postgres")
    components.stop("minio")
    components.restore()
    minio = components.system.runner.living("minio")
    assert minio is not None
    assert started_mark(minio.pid) == minio.started
    assert components.system.runner.living("postgres") == postgres
