"""`peekserve plan`: gears for an application, written to plan.json. With --what-if: how many devices a load takes."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from peekserve.cascades.cascade import Answers
from peekserve.cascades.thresholds import MOST_STAGES
from peekserve.cli.assembly import lay_out, open_store, read_profiled
from peekserve.cli.planned import doubts, file_of
from peekserve.cli.terminal import console
from peekserve.domain.application import Application
from peekserve.domain.gears import GearPlan
from peekserve.errors import DataUnavailable, ProfileMissing, UnknownApplication
from peekserve.experiments.plot import draw
from peekserve.experiments.recording import record
from peekserve.experiments.spec import Panel, Series
from peekserve.planner import plan as files
from peekserve.planner.faults import Fault
from peekserve.planner.loads import Loads
from peekserve.planner.loop import plan as make
from peekserve.planner.problem import Device, Problem, Slo, devices, models
from peekserve.planner.sharing import part_of, part_of_device
from peekserve.planner.simulated import Simulated
from peekserve.planner.whatif import Line, Made, accuracy, needed, what_if
from peekserve.profiling.device import fingerprint, fingerprint_of
from peekserve.registry.labelled import read_labelled
from peekserve.registry.profiled import why_untimed
from peekserve.registry.settings import read_settings
from peekserve.registry.stated import DEVICES
from peekserve.runtimes.onnx import OnnxRuntime
from peekserve.sim.world import Recorded

# Each gear is simulated for so many times the goal.
GOALS = 20.0
# A goal that nothing meets (cli/main.py: exit codes).
NOT_MET = 4


def plan(
    root: Path,
    name: str,
    goal: str,
    highest: float,
    on: str | None,
    ranges: int,
    load: str,
    burstiness: float,
    share: float,
    single: bool,
    most: int,
    as_json: bool,
) -> int:
    """Record what every variant says of the validation data, then plan. `on`: devices as planner.problem.devices takes
    them, None for the repository's own workers. `share`: of the devices' time and memory. `single`: no cascades, for
    the policy model-switching. `most`: 0, or up to how many devices `--what-if` counts.

    Raises ProfileMissing or DataUnavailable when there is nothing to plan with.
    """
    tell = console(stderr=True)
    slo, loads = Slo.parse(goal), Loads.parse(load, highest, ranges)
    given = devices(on) if on else None
    settings, _ = read_settings(root, os.environ)
    own = tuple(Device(s.name, s.device, s.budget_bytes) for s in lay_out(settings).slots)
    there = tuple(part_of_device(device, share) for device in _named(given or own, own))
    kinds = [device.kind for device in there]
    with open_store(root, settings) as store:
        found = {a.name: a for a in read_profiled(root, store, kinds, tell.print)}
        if name not in found:
            raise UnknownApplication(f"no application {name!r} in {root}; there are {', '.join(found)}")
        app = part_of(found[name], share)
        for variant in app.variants:
            if not set(kinds) & set(variant.timing):
                tell.print(f"left out: {why_untimed(app, variant, store, fingerprint_of(kinds[0]))}")
    known = models(app, kinds)
    if slo.by_latency and slo.p95_s > app.query().deadline_s:
        tell.print(
            f"the goal of {slo.p95_s * 1e3:g} ms is more than the deadline of {name}, "
            f"{app.query().deadline_s * 1e3:g} ms: what comes after that counts as late",
            style="yellow",
        )
    with tell.status("recording what every variant says") as status:
        recorded, groups = _recorded(app)
        scores = {model.name: recorded.scores[model.name] for model in known}
        answers = Answers.recorded(scores, recorded.labels, groups)
        stages = 1 if single else MOST_STAGES
        problem = Problem(name, known, answers, there, slo, loads, fingerprint(), stages)
        judge = Simulated(app, recorded, burstiness=burstiness, goals=GOALS)
        if most:
            lines = what_if(problem, most, judge, status.update)
        else:
            made = make(problem, judge, status.update)
    if most:
        _show_what_if(problem, lines, as_json)
        return 0 if any(isinstance(line.gears, GearPlan) for line in lines) else NOT_MET
    if isinstance(made, Fault):
        _show_fault(made, slo, as_json, tell)
        return NOT_MET
    policy = "model-switching" if single else "gears"
    path = root / file_of(policy)
    made = replace(made, share=share)
    plans = files.read(path) | {name: made}
    files.write(path, plans)
    for sentence in doubts({one: plan for one, plan in plans.items() if one in found}, [d.name for d in own]):
        tell.print(sentence, style="yellow", markup=False)
    picture = root / f"{path.stem}-{name}.svg"
    drawn = draw(panels(made), f"{name}: gears for {made.slo}", [picture])
    if as_json:
        print(msgspec.json.encode(made).decode())
        return 0
    out = console()
    out.print(gears(made))
    out.print(f"written to {path}" + (f", drawn in {picture}" if drawn else "; a picture needs matplotlib"))
    out.print(f"run it with peekserve serve {root} --policy {policy}", markup=False)
    return 0


def _named(devices: Sequence[Device], workers: Sequence[Device]) -> list[Device]:
    """Devices as their workers are called, in order, where there are enough of that kind: a plan by these names can be
    served here. Others keep the names that they were given."""
    left = list(workers)
    found = []
    for device in devices:
        kind = _timed_as(device.kind, [worker.kind for worker in workers])
        own = next((worker for worker in left if worker.kind == kind), None)
        if own is not None:
            left.remove(own)
        found.append(replace(device, kind=kind, name=own.name if own is not None else device.name))
    return found


def _timed_as(kind: str, workers: Sequence[str]) -> str:
    """What a kind of device is called where timings are kept. Nothing was timed on a kind that no worker has, unless
    its owner states the times: then any other name will do."""
    if kind in workers or kind == "cpu":
        return kind
    like = [worker for worker in workers if worker.partition(":")[0] == kind]
    if not like and kind in DEVICES:
        raise ProfileMissing(
            f"nothing was timed on {kind}: the workers of this repository are on {', '.join(dict.fromkeys(workers))}; "
            "add a worker there and run peekserve profile"
        )
    return like[0] if like else kind


def _recorded(app: Application) -> tuple[Recorded, np.ndarray[tuple[int], np.dtype[np.generic]] | None]:
    """The variants' answers on validation data, and its groups."""
    path = Path(app.validation or "-")
    if not path.is_file():
        raise DataUnavailable(f"{app.name}: thresholds are chosen on validation data, and there are none")
    labelled = read_labelled(path, app)
    return record(app, labelled, OnnxRuntime(), None), labelled.groups


# ---- for people ----


def gears(made: GearPlan) -> Table:
    """What runs at which load, and what is expected of it."""
    table = Table(title=f"Gears of {made.application} for {made.slo}", title_justify="left",
                  header_style="bold", box=SIMPLE_HEAD, caption_justify="left")  # fmt: skip
    table.add_column("per second", justify="right", no_wrap=True)
    table.add_column("cascade", overflow="fold")
    for column in ("reach", "queue"):
        table.add_column(column, no_wrap=True)
    for column in ("accuracy", "p95", "busy"):
        table.add_column(column, justify="right", no_wrap=True)
    for gear in made.gears:
        e = gear.expected
        parts = [gear.stages[0]]
        for threshold, stage in zip(gear.thresholds, gear.stages[1:], strict=True):
            parts.append(f"below {threshold:.3g}: {stage}")
        table.add_row(
            f"{gear.low:g}-{gear.high:g}",
            ", ".join(parts),
            " ".join(f"{share:.0%}" for share in e.reach),
            " ".join(str(queue) for queue in gear.queues),
            f"{e.accuracy:.4f} ±{e.error:.4f}",
            f"{e.p95_s * 1e3:.3g} ms",
            f"{e.utilisation:.0%}",
        )
    held = "; ".join(f"{h.device} holds {len(h.weights)}" for h in made.placement)
    table.caption = f"""reach: the share of samples that comes to each stage. queue: how
many each waits for. accuracy: on validation data, with its standard
error. p95: simulated at the upper end of the range, without the guard.
Mean accuracy over the expected loads: {made.accuracy:.4f}. {held}."""
    return table


def panels(made: GearPlan) -> list[Panel]:
    """Accuracy, and the time to an answer, over load."""
    xs = [edge for gear in made.gears for edge in (gear.low, gear.high)]
    expected = [gear.expected for gear in made.gears for _ in range(2)]
    right = [
        np.array([e.accuracy, e.accuracy - 1.96 * e.error, e.accuracy + 1.96 * e.error]) for e in expected
    ]
    slow = [np.array([e.p95_s * 1e3] * 2) for e in expected]
    load = "requests per second"
    return [
        Panel("Accuracy (band: 95%)", load, "accuracy", [Series("gears", xs, right)], from_zero=False),
        Panel("Time to an answer", load, "p95, ms", [Series("gears", xs, slow)]),
    ]


def _show_fault(fault: Fault, slo: Slo, as_json: bool, tell: Console) -> None:
    if as_json:
        best = fault.best if np.isfinite(fault.best) else None
        told = {
            "part": fault.part.value,
            "why": fault.why,
            "range": fault.at,
            "model": fault.model,
            "best": best,
        }
        print(json.dumps({"slo": str(slo), "infeasible": told}))
    else:
        tell.print(str(fault), style="red", markup=False)


def compared(problem: Problem, lines: Sequence[Line]) -> Table:
    """How accurate so many devices are, with gears and with single models."""
    table = Table(title=f"{problem.application}: {problem.slo} up to {problem.loads.edges[-1]:g} per second",
                  title_justify="left", header_style="bold", box=SIMPLE_HEAD, caption_justify="left")  # fmt: skip
    for column in ("devices", "gears", "single models, switched", "one model", "as many for single models"):
        table.add_column(column, justify="right")
    singles = [line.singles for line in lines]
    for line in lines:
        least = accuracy(line.gears)
        same = needed(singles, least)
        many = "-" if not least else f"more than {len(lines)}" if same is None else str(same)
        cells = (_cell(made) for made in (line.gears, line.singles, line.one))
        table.add_row(str(line.devices), *cells, many)
    table.caption = """Accuracy on validation data over the expected loads; - where the goal
cannot be met. Last: the fewest devices with which single models that
change with the load are as accurate as the gears of the line."""
    return table


def _show_what_if(problem: Problem, lines: Sequence[Line], as_json: bool) -> None:
    if as_json:
        told = [
            {
                "devices": line.devices,
                "gears": _told(line.gears),
                "singles": _told(line.singles),
                "one": _told(line.one),
            }
            for line in lines
        ]
        print(json.dumps({"slo": str(problem.slo), "highest": problem.loads.edges[-1], "lines": told}))
        return
    out = console()
    out.print(compared(problem, lines))
    faults = [line for line in lines if isinstance(line.gears, Fault)]
    if faults and isinstance(faults[-1].gears, Fault):
        out.print(f"with {faults[-1].devices}: {faults[-1].gears.why}", markup=False)


def _cell(made: Made) -> str:
    return f"{made.accuracy:.4f}" if isinstance(made, GearPlan) else "-"


def _told(made: Made) -> dict[str, object]:
    if isinstance(made, GearPlan):
        return {"accuracy": made.accuracy}
    return {"accuracy": None, "part": made.part.value, "why": made.why}
