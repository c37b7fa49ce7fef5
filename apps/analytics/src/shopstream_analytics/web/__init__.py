"""The read API, health and metrics on HEALTH_PORT."""
