"""What devices push and clients ask, planned call by call: every sample at the time it was taken."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from peekserve.domain.application import Application
from peekserve.experiments.raw import Event, Source
from peekserve.loadgen.client import Call
from peekserve.peeking.streams import Stream

AFTER_S = 0.05  # from the event to the query
START_S = 1.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A call, and what it is about: a chunk, a query about a window, or a cut window of an event."""

    call: Call
    kind: str
    source: int
    about: int = -1


def path_of(source: Source) -> str:
    return f"/api/v1/streams/{source.application}/{source.stream}"


@dataclass(frozen=True, slots=True)
class ToFind:
    """A window that there is to be found, as number of its first sample: pushed whole at `ended_at`, and named by
    the finder with the chunk of `found_at`; seconds from the beginning."""

    first: int
    ended_at: float
    found_at: float

    @property
    def in_time(self) -> bool:
        """False for what the finder itself knows too late: beats of its first two seconds, and beats that are
        weaker than others, which it goes back for when the next one is overdue."""
        return self.found_at - self.ended_at < AFTER_S


def chunks_of(source: Source, application: Application) -> list[tuple[float, str, int, int]]:
    """(when, input, first sample, one behind the last) of each push."""
    assert application.stream is not None
    chunks = []
    for track in application.stream.tracks:
        count, size = len(source.samples[track.input]), max(round(source.chunk_s * track.rate), 1)
        for low in range(0, count, size):
            high = min(low + size, count)
            chunks.append((high / track.rate, track.input, low, high))
    return sorted(chunks)


def event_at(source: Source, application: Application, first: int) -> float:
    """When the last sample of the window that begins there is pushed."""
    spec = application.stream
    assert spec is not None
    ends = []
    for track in spec.tracks:
        count, size = len(source.samples[track.input]), max(round(source.chunk_s * track.rate), 1)
        last = round(first * track.rate / spec.lead.rate) + track.length
        ends.append(min(-(-last // size) * size, count) / track.rate)
    return max(ends)


def expected(source: Source, application: Application) -> list[ToFind]:
    """The windows that there are to be found, by the finder itself, fed with the same chunks."""
    assert application.stream is not None
    stream = Stream(application, application.stream)
    return [
        ToFind(window.first, event_at(source, application, window.first), at)
        for at, name, low, high in chunks_of(source, application)
        for window in stream.push(low, {name: source.samples[name][low:high]})
    ]


def planned(
    number: int, source: Source, application: Application, windows: Sequence[ToFind]
) -> Iterator[Planned]:
    """Every call of one source: its chunks, a query after each window, and each event's cut window."""
    for at, name, low, high in chunks_of(source, application):
        headers = {
            "Content-Type": "application/octet-stream",
            "Stream-First": str(low),
            "Stream-Input": name,
        }
        body = source.samples[name][low:high].tobytes()
        yield Planned(Call(START_S + at, path_of(source), body, headers), "chunk", number)
    infer = f"/v2/models/{source.application}/infer"
    asked = json.dumps({"inputs": [], "parameters": {"stream": source.stream}}).encode()
    for window in windows:
        at = START_S + window.ended_at + AFTER_S
        yield Planned(Call(at, infer, asked), "query", number, window.first)
    for index, event in enumerate(source.events):
        at = START_S + event_at(source, application, event.first) + AFTER_S
        yield Planned(Call(at, infer, cut(source, application, event)), "cut", number, index)


def cut(source: Source, application: Application, event: Event) -> bytes:
    """The request for the window that training would have cut."""
    spec = application.stream
    assert spec is not None
    declared = {tensor.name: tensor for tensor in application.inputs}
    inputs = []
    for track in spec.tracks:
        first = round(event.first * track.rate / spec.lead.rate)
        values = source.samples[track.input][first : first + track.length]
        shape = [1, *declared[track.input].shape]
        inputs.append(
            {"name": track.input, "shape": shape, "datatype": "FP32", "data": values.ravel().tolist()}
        )
    return json.dumps({"inputs": inputs}).encode()
