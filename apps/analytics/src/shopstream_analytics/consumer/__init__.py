"""From Faust to the sinks: batches, lanes, and the overrides that make Faust exact."""
