import logging

from streams.kafka.client_log import OnceInAWhile


def line(text: str) -> logging.LogRecord:
    """Return a log record."""
    return logging.LogRecord("x", logging.ERROR, __file__, 1, text, None, None)


def test_a_line_is_said_once_in_a_while() -> None:
    """Lines that differ in numbers alone are one kind; another kind passes."""
    once = OnceInAWhile()

    assert once.filter(line("rdkafka#consumer-1: refused after 3 ms"))
    assert not once.filter(line("rdkafka#consumer-2: refused after 7 ms"))
    assert once.filter(line("rdkafka#consumer-1: disconnected after 7 ms"))
