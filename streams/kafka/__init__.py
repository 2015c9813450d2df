"""Everything that talks to Kafka from outside the worker: clients, topics, a local broker."""
