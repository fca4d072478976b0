"""Logs on stderr: one JSON object a line, or coloured text where a person is looking. Never the contents of
tensors."""

import logging
import sys
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger

_ENCODER = msgspec.json.Encoder(enc_hook=str)


def make_logger(stream: TextIO | None = None, level: str = "info") -> FilteringBoundLogger:
    """A logger of its own: nothing global is configured. Keys: ts (RFC 3339, UTC), level, event, then the
    rest."""
    stream = stream or sys.stderr
    for_people = stream.isatty()
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
        structlog.dev.ConsoleRenderer(timestamp_key="ts") if for_people else _json,
    ]
    logger = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    bound: FilteringBoundLogger = logger.bind()
    return bound


def _json(_: object, __: str, event: EventDict) -> str:
    # The time first, so that lines sort and eyes find it.
    ordered = {"ts": event.pop("ts"), "level": event.pop("level"), "event": event.pop("event"), **event}
    return _ENCODER.encode(ordered).decode()
