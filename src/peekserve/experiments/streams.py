"""Three devices push raw samples at their real rates into a live server: are the windows found, is the belief ready
when the query comes, is anything lost, does memory stay flat?

`python -m peekserve.experiments.streams [--seconds 120] [--out FILE.json]`

The *event* is the push of a window's last sample. 50 ms after it a client asks about the stream; the belief was
ready if the answer is about that window. Which windows there are to be found is known beforehand: the same finder
over the same samples finds the same windows, however they were cut into chunks. Beside each found window's answer
(the server asks by itself, `query: {every: event}`) stands the answer to the window that training would have cut
there, sent as an ordinary request.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peekserve.applications.prepare import prepare
from peekserve.cli.launch import ServerProcess
from peekserve.errors import DataUnavailable, InvariantBroken
from peekserve.experiments.pushing import Planned, ToFind, expected, path_of, planned
from peekserve.experiments.raw import Event, Source, heart, person, words
from peekserve.loadgen.client import Reply, send
from peekserve.registry.repository import read_repository

SEED = 5
SETTLE_S = 2.0
EVERY_S = 5.0
Json = dict[str, Any]


def prepared(folder: Path, seconds: float) -> tuple[list[Source], list[str]]:
    """A repository of the applications of three sources, profiled; and what had to be replaced."""
    rng = np.random.default_rng(SEED)
    sources, notes = [heart(seconds, rng), words(seconds, rng)], []
    try:
        prepare(folder, ["ecg", "keywords", "falls"])
        sources.append(person(seconds, rng))
    except DataUnavailable as error:
        notes.append(f"a second heart instead of falls: {error}")
        prepare(folder, ["ecg", "keywords"])
        sources.append(heart(seconds, rng, "patient-2"))
    for name in {source.application for source in sources}:
        file = folder / name / "application.yaml"
        text = file.read_text().rstrip("\n")
        # The section of streams is the last of the file.
        file.write_text(text + "\n  query: {every: event}\n")
    command = [sys.executable, "-m", "peekserve.cli.main", "profile", str(folder), "--quick"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return sources, notes


# ---- the run ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server's processes hold at one moment, in bytes resident."""

    at: float
    front: int
    worker: int


def resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def fetch(base: str, path: str) -> Json:
    with urllib.request.urlopen(f"http://{base}{path}", timeout=30) as response:
        told: Json = json.loads(response.read())
    return told


class Watching:
    """Reads memory and the recurring queries' results while the devices push."""

    def __init__(self, server: ServerProcess, sources: Sequence[Source]) -> None:
        self.memory: list[Sample] = []
        self.results: list[list[Json]] = [[] for _ in sources]
        self._server = server
        self._sources = sources

    async def go_on(self) -> None:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        while True:
            await asyncio.sleep(EVERY_S)
            front = self._server.pid
            worker = sum(resident(child) for child in children(front))
            self.memory.append(Sample(loop.time() - began_at, resident(front), worker))
            await loop.run_in_executor(None, self.collect)

    def collect(self) -> None:
        for source, results in zip(self._sources, self.results, strict=True):
            since = results[-1]["result"] if results else 0
            told = fetch(self._server.http, f"{path_of(source)}/results?since={since}")
            if told["forgotten"]:
                raise InvariantBroken(f"{told['forgotten']} results of {source.stream!r} were read too late")
            results += told["results"]


async def live(
    server: ServerProcess, sources: Sequence[Source], plan: Sequence[Planned]
) -> tuple[list[Reply], Watching]:
    watching = Watching(server, sources)
    task = asyncio.ensure_future(watching.go_on())
    replies = await send(server.http, [item.call for item in plan])
    await asyncio.sleep(SETTLE_S)
    task.cancel()
    watching.collect()
    return replies, watching


# ---- what came of it ------------------------------------------------------------------------------------------


def told_of(
    number: int,
    source: Source,
    windows: Sequence[ToFind],
    plan: Sequence[Planned],
    replies: Sequence[Reply],
    results: Sequence[Json],
    status: Json,
) -> Json:
    """One row of the report."""
    mine = [(item, reply) for item, reply in zip(plan, replies, strict=True) if item.source == number]
    chunks = [reply.status for item, reply in mine if item.kind == "chunk"]
    queries = [(item.about, reply) for item, reply in mine if item.kind == "query"]
    ready = {about for about, reply in queries if reply.status == 200 and _first(reply) == about}
    in_time = {window.first for window in windows if window.in_time}
    by_first = {result["first"]: result for result in results if "first" in result}
    right_found = right_cut = matched = 0
    cuts = {item.about: reply for item, reply in mine if item.kind == "cut"}
    taken: set[int] = set()
    for index, event in enumerate(source.events):
        near = min((w.first for w in windows), key=lambda first: abs(first - event.first), default=None)
        if near is None or abs(near - event.first) > source.tolerance or near in taken:
            continue
        taken.add(near)
        matched += 1
        right_found += by_first.get(near, {}).get("label") == event.label
        right_cut += cuts[index].status == 200 and _label(cuts[index]) == event.label
    outcomes = status["queries"]["outcomes"]
    delays = sorted(reply.done_at - item.call.at for item, reply in mine if item.kind == "query")
    return {
        "application": source.application,
        "stream": source.stream,
        "made_of": source.note,
        "chunks": len(chunks),
        "chunks_taken": sum(code == 200 for code in chunks),
        "windows_to_find": len(windows),
        "windows_found": status["windows"],
        "gaps": status["filled"] + status["resets"],
        "late": status["late"],
        "events": len(source.events),
        "events_found": matched,
        "windows_of_no_event": len(windows) - len(taken),
        "queries": len(queries),
        "belief_ready": len(ready),
        "belief_ready_share": len(ready) / max(len(queries), 1),
        "named_in_time": len(in_time),
        "ready_of_named_in_time": len(ready & in_time) / max(len(in_time), 1),
        "query_ms_median": 1e3 * delays[len(delays) // 2] if delays else None,
        "recurring_asked": status["queries"]["asked"],
        "recurring_outcomes": outcomes,
        "recurring_lost": status["queries"]["asked"] - len(results),
        "accuracy_found": right_found / max(matched, 1),
        "accuracy_cut": right_cut / max(matched, 1),
        "accuracy_difference": _paired(source.events, windows, source, by_first, cuts),
    }


def _paired(
    events: Sequence[Event],
    windows: Sequence[ToFind],
    source: Source,
    by_first: dict[int, Json],
    cuts: dict[int, Reply],
) -> tuple[float, float, float]:
    """Found less cut, with a 95% interval: bootstrap over the events that both were asked about."""
    pairs = []
    for index, event in enumerate(events):
        near = min((w.first for w in windows), key=lambda first: abs(first - event.first), default=None)
        if near is not None and abs(near - event.first) <= source.tolerance:
            found = by_first.get(near, {}).get("label") == event.label
            pairs.append(
                float(found) - float(cuts[index].status == 200 and _label(cuts[index]) == event.label)
            )
    if not pairs:
        return 0.0, 0.0, 0.0
    rng = np.random.default_rng(SEED)
    means = rng.choice(np.array(pairs), (2000, len(pairs))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.mean(pairs)), float(low), float(high)


def _first(reply: Reply) -> int | None:
    first: int | None = json.loads(reply.body)["parameters"].get("window_first")
    return first


def _label(reply: Reply) -> int:
    return int(json.loads(reply.body)["outputs"][0]["data"][0])


def run(seconds: float, folder: Path) -> Json:
    """The whole experiment; `folder` gets a repository and a log."""
    sources, notes = prepared(folder / "repository", seconds)
    known = {app.name: app for app in read_repository(folder / "repository").sound().applications}
    apps = [known[source.application] for source in sources]
    windows = [expected(source, app) for source, app in zip(sources, apps, strict=True)]
    plan = sorted(
        (
            item
            for i, (source, app) in enumerate(zip(sources, apps, strict=True))
            for item in planned(i, source, app, windows[i])
        ),
        key=lambda item: item.call.at,
    )
    with ServerProcess(folder / "repository", {"log": "error"}, folder / "server.log") as server:
        replies, watching = asyncio.run(live(server, sources, plan))
        rows = [
            told_of(i, s, windows[i], plan, replies, watching.results[i], fetch(server.http, path_of(s)))
            for i, s in enumerate(sources)
        ]
    memory = watching.memory
    early = memory[min(3, len(memory) - 1)]
    return {
        "seconds": seconds,
        "seed": SEED,
        "notes": notes,
        "streams": rows,
        "calls": len(plan),
        "calls_without_an_answer": sum(reply.status == 0 for reply in replies),
        "sent_late_ms_p99": 1e3
        * float(np.quantile([r.sent_at - p.call.at for r, p in zip(replies, plan, strict=True)], 0.99)),
        "memory_mib": [(round(m.at), round(m.front / 2**20, 1), round(m.worker / 2**20, 1)) for m in memory],
        "memory_growth_mib": {
            "from_s": round(early.at),
            "front": (memory[-1].front - early.front) / 2**20,
            "worker": (memory[-1].worker - early.worker) / 2**20,
        },
    }


def table(told: Json) -> str:
    """The report for people."""
    lines = [
        f"{'stream':<20} {'windows':>12} {'events':>11} {'ready':>14} {'found':>7} {'cut':>7}   difference (95%)"
    ]
    for row in told["streams"]:
        mean, low, high = row["accuracy_difference"]
        name = f"{row['application']}/{row['stream']}"
        lines.append(
            f"{name:<20} {row['windows_found']:>5} of {row['windows_to_find']:>3} "
            f"{row['events_found']:>4} of {row['events']:>3} "
            f"{row['belief_ready']:>4}/{row['queries']:<4}{row['belief_ready_share']:>5.1%} "
            f"{row['accuracy_found']:>7.3f} {row['accuracy_cut']:>7.3f}   {mean:+.3f} ({low:+.3f} to {high:+.3f})"
        )
        lines.append(
            f"{'':<20} chunks {row['chunks_taken']} of {row['chunks']}, recurring {row['recurring_asked']}: "
            f"{row['recurring_outcomes']}, lost {row['recurring_lost']}; gaps {row['gaps']}, late {row['late']}; "
            f"query {row['query_ms_median']:.1f} ms; ready of {row['named_in_time']} named in time: "
            f"{row['ready_of_named_in_time']:.1%}"
        )
    growth = told["memory_growth_mib"]
    lines.append(
        f"memory from second {growth['from_s']} on: front {growth['front']:+.1f} MiB, "
        f"worker {growth['worker']:+.1f} MiB; "
        f"calls without an answer: {told['calls_without_an_answer']} of {told['calls']}; "
        f"sent late by {told['sent_late_ms_p99']:.1f} ms (99th percentile)"
    )
    return "\n".join([*lines, *told["notes"]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = run(asked.seconds, Path(folder))
    print(table(told))
    if asked.out is not None:
        asked.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
