"""What `streams.testing.sinks.SinkTests` consists of, by what is asked of a sink."""
