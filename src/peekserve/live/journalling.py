"""Writes what a driver did into a journal, and does what a journal says again."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.messages import Command, Event
from peekserve.state.journal import JournalReader, JournalWriter, same


class Journalling:
    """An observer that journals. A step is written when its commands are known."""

    def __init__(self, writer: JournalWriter) -> None:
        self._writer = writer
        self._event: Event | None = None

    def event(self, event: Event, now: float) -> None:
        self._event = event

    def commands(self, commands: Sequence[Command], now: float) -> None:
        if self._event is not None:
            self._writer.step(self._event, now, commands)
            self._writer.flush()
            self._event = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay: steps done, and the first that went otherwise, in words; None when all were the
    same."""

    steps: int
    commands: int
    difference: str | None


def replay(reader: JournalReader, check: bool = True) -> Replayed:
    """Feed a journal's events to a fresh scheduler; are the commands the same, to the last bit?"""
    spec = msgspec.convert(reader.header.spec, SchedulerSpec, strict=False)
    scheduler = spec.build(reader.header.applications)
    steps = commands = 0
    for step in reader:
        now = scheduler.handle(step.event, step.now)
        if check:
            scheduler.check()
        if len(now) != len(step.commands) or not all(map(same, now, step.commands)):
            return Replayed(
                steps,
                commands,
                f"step {steps} at {step.now}: {step.event}\n then {step.commands}\n  now {now}",
            )
        steps += 1
        commands += len(now)
    return Replayed(steps, commands, None)
