"""Gear plans over the zoo's real models, served by `peekserve serve --policy gears`, beside the planner's simulator.

A repository is written for each application, profiled and planned for on this machine by the commands that everybody
has; the load comes over loopback. A batch takes a fraction of a millisecond here, and the ways between processes,
sockets and clients, which no planner counts, take longer. So there is no limit to what the simulator errs by.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from peekserve.applications.prepare import SETTINGS
from peekserve.applications.zoo import prepare_zoo
from peekserve.cli.assembly import lay_out, open_store, read_profiled
from peekserve.domain.application import Application
from peekserve.experiments.cascadeserve.playing import LIVE, PLANNED_FOR, REAL, served, told, up_and_down
from peekserve.experiments.comparison import PLAIN, Contender
from peekserve.experiments.recording import record
from peekserve.experiments.served import served as through_a_server
from peekserve.experiments.table import Row
from peekserve.experiments.workload import Workload
from peekserve.loadgen.arrivals import mixed
from peekserve.planner import plan as files
from peekserve.planner.simulated import Simulated, simulate
from peekserve.registry.labelled import read_labelled
from peekserve.registry.settings import ServerSettings, read_settings
from peekserve.runtimes.onnx import OnnxRuntime

# The load is what a front and a client on one small machine carry beside the models. At so little the most accurate
# model alone would meet any goal of latency: the goal is an accuracy, so much below that model's on validation data.
HIGHEST, RANGES, BELOW = 200.0, 4, 0.01
# Room for the zoo; and nothing is taken off deadlines, as the planner takes nothing off.
_SERVED = 'workers: [{device: "cpu:0", memory: 512MiB}]\nmargin: 0ms\n'
_GEARS = Contender("gears", "gears", PLAIN)
_STREAM = 93


def played(name: str, length_s: float, seed: int) -> list[Row]:
    """A row for the live run of this application and one for the simulation. Raises DataUnavailable where its data or
    its zoo are missing."""
    with TemporaryDirectory(prefix="peekserve-live-") as folder:
        root = Path(folder) / "repository"
        prepare_zoo(root, [name])
        (root / SETTINGS).write_text(_SERVED)
        settings, _ = read_settings(root, os.environ)
        app = _profiled(root, settings, name)
        goal = max(v.quality.accuracy for v in app.variants if v.quality) - BELOW
        load = ("--qps-max", str(HIGHEST), "--ranges", str(RANGES))
        _run("plan", str(root), name, "--slo", f"accuracy={goal:.3f}", *load)
        plan = files.read(root / files.FILE)[name]
        test = read_labelled(root / name / "test.npz", app)
        rng = np.random.default_rng([_STREAM, seed])
        arrivals = mixed(up_and_down(plan, length_s, rng), {name: 1.0}, {name: test.rows}, rng)
        workload = Workload({name: app}, {name: test}, arrivals)
        rows = through_a_server(root, _GEARS, workload, lay_out(settings).front)
        recorded = record(app, test, OnnxRuntime(), None)
    how = Simulated(app, recorded, guard=True)
    settled = simulate(how, plan, [one.at for one in arrivals], [one.sample for one in arrivals])
    what = f"{name}, real models, {plan.slo}, up to {plan.highest:.0f}/s"
    return [
        told(plan, one, plan=what, kind=REAL, world=world, seed=seed)
        for world, one in ((LIVE, rows), (PLANNED_FOR, served(settled, app, recorded)))
    ]


def _profiled(root: Path, settings: ServerSettings, name: str) -> Application:
    # In a process of its own: it binds itself to cores.
    _run("profile", str(root))
    device = lay_out(settings).slots[0].device
    with open_store(root, settings) as store:
        return next(a for a in read_profiled(root, store, [device], lambda _: None) if a.name == name)


def _run(*arguments: str) -> None:
    command = [sys.executable, "-m", "peekserve.cli.main", *arguments, "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
