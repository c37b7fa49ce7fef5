"""A worker: one Faust app with one sink in a process of its own."""
