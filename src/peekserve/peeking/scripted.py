"""Twins for tests and for servers without a thread: peeks that say what they are told to, when they are told
to."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from peekserve.peeking.base import Counts, Glance, Inputs, Lengths, Looks, Report


class ScriptedPeek:
    """Answers by a function of the glance, and raises what it raises. Keeps how many glances each call
    saw."""

    def __init__(self, answer: Callable[[Glance], Counts]) -> None:
        self.calls: list[int] = []
        self._answer = answer

    @classmethod
    def always(cls, counts: Sequence[float]) -> "ScriptedPeek":
        """The same counts for every row."""
        return cls(lambda glance: np.tile(np.asarray(counts, dtype=np.float64), (glance.rows, 1)))

    def look_all(self, glances: Sequence[Glance]) -> list[Counts]:
        self.calls.append(len(glances))
        return [self._answer(glance) for glance in glances]


class ScriptedPeeks:
    """A Peeks without a thread: holds what is submitted until `turn` is called, which looks and reports at
    once.

    With `at_once`, `submit` itself looks and reports. A peek that raises, or an application without one,
    reports None.
    """

    def __init__(self, peeks: Mapping[str, Looks], report: Report, at_once: bool = False) -> None:
        self.waiting: list[tuple[str, str, Glance]] = []
        self._peeks = peeks
        self._report = report
        self._at_once = at_once

    def start(self) -> None:
        pass

    def submit(
        self, request_id: str, application: str, inputs: Inputs, lengths: Lengths | None = None
    ) -> None:
        self.waiting.append((request_id, application, Glance(inputs, lengths or {})))
        if self._at_once:
            self.turn()

    def turn(self) -> None:
        """Look at all that waits, in order of arrival, and report it in one call."""
        asked, self.waiting = self.waiting, []
        if asked:
            self._report([(request_id, self._look(name, glance)) for request_id, name, glance in asked])

    def stop(self) -> None:
        self.turn()

    def _look(self, application: str, glance: Glance) -> Counts | None:
        try:
            return self._peeks[application].look_all([glance])[0]
        except Exception:
            return None
