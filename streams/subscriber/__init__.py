"""
Follows the outputs into a data store, and says how far it is.

    from streams.sinks.sqlite import SqliteSink
    from streams.subscriber import Subscriber

    Subscriber(SqliteSink("features.sqlite"), store="feature-store").run()
"""

from streams.subscriber.run import Progress, Subscriber

__all__ = ["Progress", "Subscriber"]
