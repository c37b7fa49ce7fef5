"""Alembic's entry point: the connection comes from `shopstream_api.db.migrate`."""

from alembic import context
from sqlalchemy import Connection

from shopstream_api.schema import TABLES


def run(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=TABLES[0].metadata, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
