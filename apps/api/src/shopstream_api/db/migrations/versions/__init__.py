"""Alembic migrations, packed with the code that needs them."""
