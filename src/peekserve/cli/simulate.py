"""`peekserve simulate`: the real scheduler in pretended time, on a profiled repository."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track

from peekserve.cli import tables
from peekserve.cli.arrivals import arrivals_of, source_of
from peekserve.cli.assembly import lay_out, open_store, read_profiled, scheduler_spec
from peekserve.cli.planned import doubts, gear_plans
from peekserve.cli.terminal import console
from peekserve.errors import DataUnavailable, ProfileMissing
from peekserve.experiments.comparison import as_json as rows_as_json
from peekserve.experiments.recording import record
from peekserve.experiments.workload import Workload
from peekserve.loadgen.describe import describe
from peekserve.loadgen.processes import arrive
from peekserve.policies import PLANNED, make
from peekserve.registry.labelled import Labelled, read_labelled
from peekserve.registry.peeks import peek_of
from peekserve.registry.settings import read_settings
from peekserve.runtimes.onnx import OnnxRuntime
from peekserve.sim.driver import SimWorker
from peekserve.sim.world import RecordedWorld


def simulate(
    root: Path,
    policies: Sequence[str],
    rate: float | None,
    seconds: float | None,
    seed: int,
    as_json: bool,
    arrivals: str | None = None,
    trace: Path | None = None,
    slot: str | None = None,
) -> int:
    """Record what every variant says of the labelled data, then run each policy over the same arrivals.

    Uses test.npz of each application, or else its validation data. Raises ProfileMissing or DataUnavailable
    when there is nothing to simulate with, InvalidConfiguration or InvalidData for policies or arrivals that cannot be.
    """
    source = source_of(arrivals, trace, slot)
    settings, _ = read_settings(root, os.environ)
    plain, own = scheduler_spec(settings), settings.policy.name
    specs = {
        policy: replace(plain, policy=policy, policy_options=plain.policy_options if policy == own else {})
        for policy in policies
    }
    for spec in specs.values():
        if spec.policy not in PLANNED:
            make(spec.policy, spec.switches, **spec.policy_options)  # a wrong name is said before models run
    layout = lay_out(settings)
    slots = layout.slots
    tell = console(stderr=True)
    with open_store(root, settings) as store:
        applications = {
            a.name: a for a in read_profiled(root, store, [slot.device for slot in slots], tell.print)
        }
    doubted: list[str] = []
    for policy in [policy for policy in specs if policy in PLANNED]:
        plans = gear_plans(root, applications.values(), policy)
        doubted += doubts(plans, [slot.name for slot in slots])
        specs[policy] = replace(specs[policy], plans=plans)
        specs[policy].made()
    for sentence in dict.fromkeys(doubted):
        tell.print(sentence, markup=False)
    labelled: dict[str, Labelled] = {}
    for name, app in applications.items():
        untimed = [v.name for v in app.variants if not any(s.device in v.timing for s in slots)]
        if untimed:
            raise ProfileMissing(
                f"{name}: no timing of {', '.join(untimed)} here; run peekserve profile {root}"
            )
        found = [path for path in (root / name / "test.npz", Path(app.validation or "-")) if path.is_file()]
        if not found:
            raise DataUnavailable(f"{name}: neither test.npz nor validation data to simulate with")
        labelled[name] = read_labelled(found[0], app)
    rng = np.random.default_rng(seed)
    played = arrive(source, rate, seconds, rng)
    coming = arrivals_of(played, {name: data.rows for name, data in labelled.items()}, rng)
    if not coming:
        at_rate = "" if rate is None else f" at {rate:g} a second"
        raise DataUnavailable(f"nothing arrives in {played.seconds:g} s{at_rate}: simulate longer, or more")
    recorded = {
        name: record(app, labelled[name], OnnxRuntime(), peek_of(app)) for name, app in applications.items()
    }
    workload = Workload(applications, labelled, coming)
    world = RecordedWorld(applications, recorded, jitter=True)
    workers = [SimWorker(slot.name, slot.device, slot.budget_bytes) for slot in slots]
    rows = {}
    for policy in track(specs, "simulating", console=tell, transient=True, disable=as_json):
        rows[policy] = workload.simulate(specs[policy], world, workers, seed)
    if as_json:
        told = rows_as_json(rows, {}, applications)
        came = describe(played.at, played.seconds)
        asked = {"rate": came.mean if rate is None else rate, "seconds": played.seconds, "seed": seed}
        print(json.dumps({"policies": told, **asked, "arrivals": came.as_json()}))
    else:
        out = console()
        out.print(tables.policies(rows, {}, title="Realised utility, simulated"))
        out.print(tables.recalls(rows, applications))
    return 0
