"""Logs on stderr: one JSON object a line, or coloured text where a person is looking. Never the contents of
tensors."""

import logging
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger

from peekserve.domain.application import public
from peekserve.domain.messages import Command, Event, LoadFailed, Offered, WorkerDown, WorkerUp

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


class WorkerLog:
    """Writes down what becomes of workers (an Observer of the driver): a death with its signal or status, its last
    words, and the reason where it was ended by us; and what is loaded and unloaded by hand or by a swap."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log

    def event(self, event: Event, now: float) -> None:
        match event:
            case WorkerUp(worker):
                self._log.info("worker_up", worker=worker)
            case WorkerDown(worker, error):
                self._log.warning("worker_down", worker=worker, error=error)
            case Offered(key, variants):
                self._log.info("offered", model=public(key), variants=list(variants))
            case LoadFailed(worker, weights, error):
                self._log.warning("load_failed", worker=worker, weights=weights, error=error)
            case _:
                pass

    def commands(self, commands: Sequence[Command], now: float) -> None:
        """What is asked of workers is in the journal."""


def _json(_: object, __: str, event: EventDict) -> str:
    # The time first, so that lines sort and eyes find it.
    ordered = {"ts": event.pop("ts"), "level": event.pop("level"), "event": event.pop("event"), **event}
    return _ENCODER.encode(ordered).decode()
