"""Holds that nobody ended in time: orders that were not paid, reservations left alone."""
