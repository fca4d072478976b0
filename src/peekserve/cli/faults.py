"""`peekserve simulate --faults`: seeded runs of the real scheduler in which much goes wrong (docs/testing.md)."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.progress import track

from peekserve.cli.terminal import console
from peekserve.errors import InvalidData
from peekserve.sim.campaign import Found, campaign
from peekserve.sim.planted import PLANTED, WORDS
from peekserve.sim.shrink import Shrunk, shrink
from peekserve.sim.story import Plant, Story, live
from peekserve.sim.tale import tale

SHRINK_KINDS = 3  # different failures that are made short; more are only counted


@dataclass(frozen=True, slots=True)
class Caught:
    """A planted bug: the first seed that finds it, None where none does, what was said then, and how short the story
    became."""

    name: str
    seed: int | None
    told: str = ""
    size: int = 0
    shrunk: int = 0
    requests: int = 0


def faults(seeds: int, first: int, planted: bool, story: Path | None, out: Path, as_json: bool) -> int:
    """Live through the stories of `seeds` seeds from `first` on, or through the one in a file; 1 if a rule is broken.
    `planted`: plant each known bug instead and say which seed finds it; 1 if one is not found. A short story of what
    goes wrong is written into the folder `out`."""
    if story is not None:
        return _again(story, as_json)
    if planted:
        return plant_each(range(first, first + seeds), as_json)
    return look_for(range(first, first + seeds), out, as_json)


def look_for(seeds: range, out: Path, as_json: bool, plant: Plant | None = None) -> int:
    """The campaign, with something planted or nothing; 1 if a rule is broken."""
    began_s = time.process_time()
    failures: dict[str, list[Found]] = {}
    runs = track(
        campaign(seeds, plant), "living through faults", len(seeds),
        console=console(stderr=True), transient=True, disable=as_json,
    )  # fmt: skip
    for found in runs:
        if found is not None:
            failures.setdefault(found.failure.kind, []).append(found)
    spent_s = time.process_time() - began_s
    broken = [found for kind in failures.values() for found in kind]
    short = [
        (of[0], shrink(of[0].story, of[0].failure, plant)) for of in list(failures.values())[:SHRINK_KINDS]
    ]
    if as_json:
        told = [{"seed": one.seed, "told": one.failure.told} for one in broken]
        print(
            json.dumps(
                {"seeds": len(seeds), "first": seeds.start, "broken": told, "processor_s": round(spent_s, 1)}
            )
        )
    else:
        rate = 60.0 * len(seeds) / spent_s if spent_s else 0.0
        print(
            f"{len(seeds)} seeds from {seeds.start} on: {len(broken)} broke a rule; {spent_s:.1f} s of processor time, "
            f"{rate:.0f} runs a minute"
        )
    for found, shrunk in short:
        path = _write(shrunk.story, out / f"fault-{found.seed}.json")
        if not as_json:
            print(_told(found, shrunk, plant), f"again: peekserve simulate --faults --story {path}", sep="\n")
    return 1 if broken else 0


def _told(found: Found, shrunk: Shrunk, plant: Plant | None) -> str:
    alike = f"seed {found.seed}: {found.story.size} things in the story, {shrunk.story.size} when made short"
    return f"\n{alike} ({shrunk.lives} lives)\n{tale(shrunk.story, plant)}"


def _again(path: Path, as_json: bool) -> int:
    story = read_story(path)
    failure = live(story)
    if as_json:
        print(json.dumps({"broken": None if failure is None else failure.told}))
    else:
        print(tale(story))
        if failure is not None and failure.trace and "InvariantBroken" not in failure.kind:
            print(failure.trace)
    return 0 if failure is None else 1


def read_story(path: Path) -> Story:
    """Raises InvalidData for a file that holds no story."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Story)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidData(f"{path}: no fault story, as simulate --faults writes them: {error}") from None


def _write(story: Story, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(story)))
    return path


# ---- planted bugs ----


def plant_each(seeds: range, as_json: bool, bugs: Mapping[str, Plant] = PLANTED) -> int:
    """Each of these bugs, by name, alone in its own campaign; 1 if one is not found."""
    caught = list(
        track(
            (_catch(name, plant, seeds) for name, plant in bugs.items()), "planting bugs", len(bugs),
            console=console(stderr=True), transient=True, disable=as_json,
        )
    )  # fmt: skip
    if as_json:
        print(json.dumps([msgspec.to_builtins(one) for one in caught]))
    else:
        print("\n".join(markdown(caught)))
    return 0 if all(one.seed is not None for one in caught) else 1


def _catch(name: str, plant: Plant, seeds: range) -> Caught:
    for found in campaign(seeds, plant):
        if found is not None:
            shrunk = shrink(found.story, found.failure, plant)
            told = shrunk.failure.told.removeprefix("InvariantBroken: ")
            return Caught(
                name, found.seed, told, found.story.size, shrunk.story.size, len(shrunk.story.requests)
            )
    return Caught(name, None)


def markdown(caught: Sequence[Caught]) -> Iterator[str]:
    """The table of docs/testing.md."""
    yield "| planted bug | found at seed | things in its story | made short | of these requests | what is said |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for one in caught:
        what = f"`{one.name}`: {WORDS[one.name]}"
        if one.seed is None:
            yield f"| {what} | not found | | | | |"
        else:
            yield f"| {what} | {one.seed} | {one.size} | {one.shrunk} | {one.requests} | {one.told} |"
