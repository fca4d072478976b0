"""`peekserve demo`: real applications, a real server, more load than it can carry, and what each policy makes
of it."""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.live import Live

from peekserve.applications.prepare import prepare
from peekserve.cli import tables
from peekserve.cli.assembly import lay_out, open_store, read_profiled, scheduler_spec
from peekserve.cli.launch import ServerProcess
from peekserve.cli.profile import profile
from peekserve.cli.terminal import console
from peekserve.domain.application import Application
from peekserve.experiments.comparison import Contender, as_json, capacity, contenders, differences
from peekserve.experiments.recording import record
from peekserve.experiments.served import served
from peekserve.experiments.service import Seen, seen_in, service_of
from peekserve.experiments.workload import LOADED_BY_S, Workload
from peekserve.loadgen.arrivals import mixed, shares_of
from peekserve.loadgen.processes import arrive, parse_process
from peekserve.registry.labelled import Labelled, read_labelled
from peekserve.registry.peeks import peek_of
from peekserve.registry.settings import ServerSettings, read_settings
from peekserve.results import Row
from peekserve.runtimes.onnx import OnnxRuntime
from peekserve.sim.driver import SimWorker
from peekserve.sim.world import Recorded, RecordedWorld

POLICIES = ("maxacc-edf", "lo-edf", "lo-priority", "grouped", "sneakpeek", "horizon")
SHOWN = "horizon"
OF_SUPERNETS = ("infaas", "slackfit")  # besides, where there are some

# Passes over the policies, each on arrivals of its own: what the machine does beside them in one minute falls on all
# alike. The policies that the comparison is about run in every pass, the others in the first alone.
PASSES = 3
OTHERS_PASSES = 1
# Simulations of each live run, each with other draws of what the machine does: with many swaps much is luck.
SIMULATED = 3
IN_EVERY_PASS = (
    "lo-edf",
    "lo-edf+aware+sc",
    "lo-priority",  # it swaps on nearly every batch: one pass says too little of it
    "grouped+aware",
    "sneakpeek-sc",
    "sneakpeek",
    "sneakpeek+calibrated",
    "horizon-escalate",
    "horizon",
)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A prepared, profiled repository and the workload for it."""

    root: Path
    settings: ServerSettings
    applications: Mapping[str, Application]
    workloads: Sequence[Workload]
    world: RecordedWorld
    best_alone: float
    rate: float


class Demo:
    """One run of the demo. `overload`: the load in shares of what the most accurate variants alone can
    carry. `policies` in `passes` passes are compared. `arrivals`: a word of loadgen.processes. `supernets`: with those
    that the applications come with."""

    def __init__(
        self,
        apps: Sequence[str],
        seconds: float,
        overload: float,
        seed: int,
        quiet: bool,
        policies: Sequence[str] = POLICIES,
        passes: int = PASSES,
        arrivals: str = "poisson",
        supernets: bool = False,
    ) -> None:
        self._process = parse_process(arrivals)
        self._policies = (*policies, *OF_SUPERNETS) if supernets else policies
        self._supernets = supernets
        self._passes = passes
        self._apps = list(apps)
        self._seconds = seconds
        self._overload = overload
        self._seed = seed
        self._quiet = quiet
        self._console = console(stderr=quiet)

    def run(self, only_prepare: Path | None, keep: bool) -> int:
        """Everything; or with `only_prepare`, the repository alone. `keep` leaves a server running until
        stopped."""
        if only_prepare is not None:
            prepare(only_prepare, self._apps, self._supernets)
            self._say(f"{only_prepare}: {', '.join(self._apps)}; peekserve profile {only_prepare} comes next")
            return 0
        with tempfile.TemporaryDirectory(prefix="peekserve-demo-") as folder:
            root = Path(folder) / "repository"
            ready = self._get_ready(root)
            rows, simulated = self._compare(ready)
            self._report(ready, rows, simulated)
            if keep:
                self._keep(root)
        return 0

    # ---- before ----

    def _get_ready(self, root: Path) -> _Ready:
        self._title("1. A repository of real applications")
        prepare(root, self._apps, self._supernets)
        self._say(f"models and labelled data of {', '.join(self._apps)}")
        self._title("2. What every variant is worth and costs on this machine")
        profile(root, None, quick=False, again=False, as_json=False) if not self._quiet else _quietly(root)
        settings, _ = read_settings(root, os.environ)
        layout = lay_out(settings)
        device = layout.slots[0].device
        with open_store(root, settings) as store:
            applications = {a.name: a for a in read_profiled(root, store, [device], self._say)}
        labelled = {name: read_labelled(root / name / "test.npz", app) for name, app in applications.items()}
        recorded = self._record(applications, labelled)
        shares = shares_of(sorted(applications))
        buckets = {name: _bucket_shares(r, applications[name]) for name, r in recorded.items()}
        best_alone = capacity(applications, device, shares, buckets)
        rate = self._overload * best_alone
        rng = np.random.default_rng(self._seed)
        samples = {name: data.rows for name, data in labelled.items()}
        arrivals = [
            mixed(arrive(self._process, rate, self._seconds, rng).at, shares, samples, rng)
            for _ in range(self._passes)
        ]
        workloads = [Workload(applications, labelled, some) for some in arrivals]
        world = RecordedWorld(applications, recorded, jitter=True)
        return _Ready(root, settings, applications, workloads, world, best_alone, rate)

    def _record(
        self, applications: Mapping[str, Application], labelled: Mapping[str, Labelled]
    ) -> dict[str, Recorded]:
        what = "what every variant says of every test sample, for the simulator"
        with self._console.status(what) as status:
            return {
                name: record(app, labelled[name], OnnxRuntime(), peek_of(app), status.update)
                for name, app in applications.items()
            }

    # ---- the runs ----

    def _compare(self, ready: _Ready) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
        self._title(
            f"3. {ready.rate:.0f} requests a second, {self._overload:g} times what the best variants can carry"
        )
        base = scheduler_spec(ready.settings)
        device = lay_out(ready.settings).slots[0]
        worker = SimWorker(device.name, device.device, device.budget_bytes)
        everyone = contenders(self._policies)
        rows: dict[str, list[Row]] = {c.name: [] for c in everyone}
        if not self._quiet:
            # A run to look at, and not in the table: drawing takes time from the core that the front runs on.
            shown = next(c for c in everyone if c.name == SHOWN)
            self._live(ready, shown, ready.workloads[0], show=True)
        self._title("4. The same arrivals, policy by policy")
        simulated: dict[str, list[Row]] = {c.name: [] for c in everyone}
        turns = [
            (workload, contender)
            for i, workload in enumerate(ready.workloads)
            for contender in everyone
            if i < OTHERS_PASSES or contender.name in IN_EVERY_PASS
        ]
        seen: list[Seen] = []
        with self._console.status("") as status:
            for i, (workload, contender) in enumerate(turns):
                left = (len(turns) - i) * (self._seconds + 2.0)
                status.update(f"{contender.name}: {i + 1} of {len(turns)}, about {left:.0f} s left")
                journal = ready.root.parent / "live.journal"
                rows[contender.name] += self._live(ready, contender, workload, journal=journal)
                seen.append(seen_in(journal))
            for i, ((workload, contender), own) in enumerate(zip(turns, seen, strict=True)):
                status.update(f"the same arrivals simulated: {i + 1} of {len(turns)}")
                # At the pace that the machine had just then: what is compared is the scheduler.
                world = replace(
                    ready.world, service=service_of(own, seen, LOADED_BY_S + workload.arrivals[0].at)
                )
                for luck in range(SIMULATED):
                    simulated[contender.name] += workload.simulate(
                        contender.spec(base), world, [worker], self._seed + luck
                    )
        return rows, simulated

    def _live(
        self,
        ready: _Ready,
        contender: Contender,
        workload: Workload,
        show: bool = False,
        journal: Path | None = None,
    ) -> list[Row]:
        front = lay_out(ready.settings).front
        if not show:
            return served(ready.root, contender, workload, front, journal)
        watch = tables.Watch(workload, self._seconds)
        with Live(get_renderable=watch.render, console=self._console, refresh_per_second=8):
            return served(ready.root, contender, workload, front, journal, watch.seen)

    # ---- after ----

    def _report(
        self, ready: _Ready, rows: Mapping[str, list[Row]], simulated: Mapping[str, list[Row]]
    ) -> None:
        if self._quiet:
            told = {
                "policies": as_json(rows, simulated, ready.applications),
                "differences": [
                    {"name": d.name, "against": d.against, "mean": d.mean, "low": d.low, "high": d.high}
                    for d in differences(rows)
                ],
                "rate": ready.rate,
                "capacity_of_best": ready.best_alone,
                "seconds": self._seconds,
                "seed": self._seed,
            }
            print(json.dumps(told))
            return
        self._console.print(tables.policies(rows, simulated))
        self._console.print(tables.recalls(rows, ready.applications))
        self._console.print(tables.paired(differences(rows)))
        reasons = Counter(r.reason.value for r in rows[SHOWN])
        self._say(
            f"outcomes of {SHOWN}: " + ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
        )

    def _keep(self, root: Path) -> None:
        with ServerProcess(root, {}, root.parent / "server.log") as server:
            self._say(
                f"serving {root} on http://{server.http}; stop with Ctrl-C. Try, from another terminal:"
            )
            for name in self._apps:
                self._say(f"  peekserve infer {server.http} {name} {root}/{name}/test.npz --row 7")
            try:
                server.wait()
            except KeyboardInterrupt:
                self._say("stopping")

    def _title(self, text: str) -> None:
        self._console.print(f"\n[bold]{text}[/bold]")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)


def _bucket_shares(recorded: Recorded, app: Application) -> list[float]:
    if recorded.buckets is None:
        return [1.0]
    return [float(n) / len(recorded.buckets) for n in np.bincount(recorded.buckets, minlength=app.buckets)]


def _quietly(root: Path) -> None:
    """Profile without printing tables: the console belongs to one JSON document."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()):
        profile(root, None, quick=False, again=False, as_json=True)
