"""The server's parts list: what a repository and its settings become."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from peekserve.clock import WallClock
from peekserve.core.beliefs import named, uncalibrated
from peekserve.core.spec import SchedulerSpec, windowed
from peekserve.domain.application import Application, OnMiss, Variant
from peekserve.domain.feedback import Lesson
from peekserve.domain.gears import GearPlan
from peekserve.domain.profile import Timing
from peekserve.errors import DataUnavailable, InvalidConfiguration
from peekserve.live.confirming import Confirmations
from peekserve.live.driver import LiveDriver
from peekserve.live.journalling import Journalling
from peekserve.live.keeping import Keeper
from peekserve.peeking.base import Results
from peekserve.peeking.peek import Peek
from peekserve.peeking.peeker import Peeker
from peekserve.peeking.staging import LocalStage, Staging
from peekserve.policies import PLANNED
from peekserve.policies.base import Switches
from peekserve.profiling.device import fingerprint_of
from peekserve.profiling.measure import Effort, measure_timing
from peekserve.registry.labelled import Labelled, bucketed, read_labelled
from peekserve.registry.peeks import peek_of
from peekserve.registry.profiled import peek_key, validation_sha, with_profiles
from peekserve.registry.repository import read_repository
from peekserve.registry.settings import ServerSettings
from peekserve.runtimes.base import Inputs
from peekserve.runtimes.spec import RuntimeSpec
from peekserve.state.history import Edition, History
from peekserve.state.journal import JournalWriter
from peekserve.state.store import FILE, Store
from peekserve.workers.process import ProcessWorkers
from peekserve.workers.remote import RemoteRuntime
from peekserve.workers.slots import Slot
from peekserve.workers.trial import WorkerStopwatch

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Layout:
    """Which cores do what: the front's, and the slots of the workers."""

    front: tuple[int, ...]
    slots: tuple[Slot, ...]


def lay_out(settings: ServerSettings) -> Layout:
    """Cores for the front and the workers. A worker that names no core gets one of its own, from the last
    core downwards, as long as one is left for the front; on a machine of one core everybody shares."""
    have = sorted(os.sched_getaffinity(0))
    named = {core for slot in settings.workers for core in slot.cores}
    spare = [core for core in have if core not in named]
    if settings.supernets == "torch" and find_spec("torch") is None:
        raise DataUnavailable(
            "supernets: torch needs torch, which is not here: pip install 'peekserve[train]'"
        )
    slots = []
    for slot in settings.workers:
        cores = slot.cores or ((spare.pop(),) if len(spare) > 1 else None)
        kind = slot.device.partition(":")[0]
        device, runtime = slot.pace or kind, RuntimeSpec("paced" if slot.pace else "onnx")
        if settings.supernets == "torch" and not slot.pace:
            device, runtime = "cpu:torch" if kind == "cpu" else slot.device, RuntimeSpec("elastic")
        slots.append(Slot(slot.name, device, slot.memory, cores, runtime=runtime))
    return Layout(tuple(spare or have), tuple(slots))


def own_slot(layout: Layout) -> Slot:
    """The first worker at this machine's own pace, to measure on; like the first one where all imitate another."""
    own = [slot for slot in layout.slots if slot.runtime.kind != "paced"]
    return own[0] if own else replace(layout.slots[0], device="cpu", runtime=RuntimeSpec())


@contextmanager
def bound_to(cores: Iterable[int]) -> Iterator[None]:
    """This process on these cores for a while. Processes started meanwhile inherit it, so start none."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def state_folder(root: Path, settings: ServerSettings) -> Path:
    """Where a server of this repository keeps its state; made if it is not there."""
    if not root.is_dir():
        raise InvalidConfiguration(f"{root}: there is no such folder")
    folder = Path(settings.state) if settings.state else root / ".peekserve"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_store(root: Path, settings: ServerSettings) -> Store:
    return Store(state_folder(root, settings) / FILE)


def read_profiled(root: Path, store: Store, devices: Sequence[str], tell: Tell) -> tuple[Application, ...]:
    """The repository's sound applications with their profiles; tells of the ones that are left out.

    Raises InvalidConfiguration when none can be served.
    """
    repository = read_repository(root)
    for problem in repository.problems:
        tell(str(problem))
    if not repository.applications:
        raise InvalidConfiguration(f"{root}: no application can be served; peekserve check says why")
    applications = []
    for application in repository.applications:
        for device in dict.fromkeys(devices):
            application = with_profiles(
                application, store, fingerprint_of(device), validation_sha(application), device
            )
        applications.append(application)
    return tuple(applications)


def time_provisionally(application: Application, slot: Slot, samples: Sequence[Inputs]) -> Application:
    """Give a quick timing to each variant that has none on the slot's device, marked as provisional: it can
    be served at once, and a profile says more."""
    missing = [v for v in application.variants if slot.device not in v.timing]
    timed: dict[str, Timing] = {}
    with RemoteRuntime(slot, application.inputs) as runtime:
        for variant in missing:
            timing = measure_timing(
                variant,
                len(application.classes),
                samples,
                WorkerStopwatch(runtime),
                effort=Effort.quick(),
                batch_sizes=(1,),
                clock=WallClock(),
            )
            timed[variant.name] = replace(timing, provisional=True)

    def with_timing(variant: Variant) -> Variant:
        if variant.name not in timed:
            return variant
        return replace(variant, timing={**variant.timing, slot.device: timed[variant.name]})

    return replace(application, variants=tuple(with_timing(v) for v in application.variants))


def oversized(applications: Iterable[Application], layout: Layout) -> Iterator[str]:
    """A sentence for each variant that no worker has the memory for."""
    most = max(slot.budget_bytes for slot in layout.slots)
    for app in applications:
        for variant in app.variants:
            need = max((t.bytes for t in variant.timing.values()), default=0)
            if need > most:
                yield (
                    f"{app.name}/{variant.name} takes {need / 2**20:.1f} MiB and the largest worker holds "
                    f"{most / 2**20:.1f} MiB: it will never run; give a worker more memory"
                )


def sample_inputs(application: Application, labelled: Labelled | None) -> list[Inputs]:
    """One set of inputs for each shape bucket, to time batches with: real rows where there are some, else
    zeros."""
    by_bucket: dict[int, Inputs] = {}
    if labelled is not None:
        by_bucket = {bucket: inputs for bucket, _, inputs in bucketed(labelled, application)}
    blank = [
        {s.name: np.zeros((1, *s.row_shape(bucket)), dtype=s.dtype) for s in application.inputs}
        for bucket in range(application.buckets)
    ]
    return [by_bucket.get(bucket, zeros) for bucket, zeros in enumerate(blank)]


def labelled_of(path: str, application: Application) -> Labelled | None:
    """An application's labelled data, or None where the file is not there."""
    return read_labelled(Path(path), application) if path and Path(path).is_file() else None


def scheduler_spec(settings: ServerSettings, plans: Mapping[str, GearPlan] | None = None) -> SchedulerSpec:
    """What the settings say of the scheduler, and the gear plans that its policy carries out."""
    policy = settings.policy
    switches = Switches(policy.aware, policy.short_circuit, policy.drop, policy.merge)
    believes = policy.name not in PLANNED and (policy.aware or policy.short_circuit)
    return SchedulerSpec(
        policy=policy.name,
        switches=switches,
        policy_options=dict(policy.options),
        planning=windowed(settings.window_s, settings.rebalance_s) if settings.window_s else "rolling",
        lead_s=LEAD_S,
        margin_s=settings.margin_s,
        patience_s=settings.peek_patience_s,
        # Nobody would use what a peek finds: then there is none, and its time is saved.
        peek=believes or settings.on_miss in (None, OnMiss.DEGRADE),
        on_miss=settings.on_miss,
        max_rows=settings.limits.waiting_rows,
        max_bytes=settings.limits.waiting_bytes,
        remember_rows=settings.limits.remembered_rows,
        normalise=settings.normalise,
        beliefs=settings.beliefs,
        escalate=settings.escalate,
        escalate_gain=settings.escalate_gain,
        admit=True,
        follow_pace=settings.follow_pace,
        plans=plans or {},
    )


def as_sneakpeek(spec: SchedulerSpec, applications: Iterable[Application]) -> Iterator[str]:
    """A sentence for each application whose evidence cannot be believed as the scheduler believes."""
    if named(spec.beliefs, spec.policy) == "calibrated":
        for name in uncalibrated(applications):
            yield (
                f"{name}: what its peek's votes are worth was never measured, and they are added to the prior as "
                "SneakPeek adds them; peekserve profile measures it on validation data"
            )


# A worker gets its next batch this long before the running one should end: the event loop may be busy that long.
LEAD_S = 0.003


class Core:
    """Everything behind the doors, started but perhaps not ready yet, and what joins it later."""

    def __init__(
        self,
        driver: LiveDriver,
        peeker: Peeker | None,
        peeks: dict[str, Peek],
        journal: JournalWriter | None,
        stage: LocalStage,
        keeper: Keeper,
        confirmations: Confirmations,
        editions: dict[str, Edition],
        history: Path,
    ) -> None:
        """`peeks`, `editions`: as the peeker and the keeper look into them, by key. Peeks stand under the name that
        clients use, too, for windows of streams."""
        self.driver = driver
        self.stage = stage
        self.confirmations = confirmations
        self._peeker = peeker
        self._peeks = peeks
        self._journal = journal
        self._keeper = keeper
        self._editions = editions
        self._history = history

    async def register(self, application: Application) -> None:
        """Let it join: its peek is made and what is known of its models is learnt, then requests may name its key.
        Raises InvalidConfiguration, InvalidData, InvalidModel; nothing has changed then."""
        loop = asyncio.get_running_loop()
        peek = await loop.run_in_executor(None, peek_of, application) if self._peeker is not None else None
        edition = await loop.run_in_executor(None, _edition, application)
        lessons = await loop.run_in_executor(None, _lessons, self._history, {application.key: edition})
        if peek is not None:
            self._peeks[application.key] = peek
        self._editions[application.key] = edition
        self.driver.register(application)
        self.driver.recall(lessons)

    def activate(self, key: str) -> None:
        """Clients get this one under its name from now on. Raises UnknownApplication."""
        self.driver.activate(key)
        application = self.driver.editions[key]
        if key in self._peeks:
            self._peeks[application.name] = self._peeks[key]
        else:
            self._peeks.pop(application.name, None)
        self.stage.join(application)

    def stop(self) -> None:
        self.driver.stop()
        self._keeper.stop()
        if self._peeker is not None:
            self._peeker.stop()
        if self._journal is not None:
            self._journal.close()


def start_core(
    settings: ServerSettings,
    applications: Sequence[Application],
    layout: Layout,
    loop: asyncio.AbstractEventLoop,
    history: Path,
    plans: Mapping[str, GearPlan] | None = None,
) -> Core:
    """Bring up scheduler, workers and peeks on the running loop. `history`: the file of what was confirmed, which is
    learnt first. `plans`: as in `scheduler_spec`."""
    clock = WallClock()
    spec = scheduler_spec(settings, plans)
    workers = ProcessWorkers(layout.slots, {app.key: app for app in applications}, loop, clock)
    peeks: dict[str, Peek] = {}
    for app in applications if spec.peek else ():
        if (peek := peek_of(app)) is not None:
            peeks[app.key] = peeks[app.name] = peek
    driver: LiveDriver
    stage: LocalStage

    def report(results: Results) -> None:  # in the peeking thread
        loop.call_soon_threadsafe(looked, results)

    def looked(results: Results) -> None:
        stage.looked([result for result in results if stage.mine(result[0])])
        driver.post_peeks([result for result in results if not stage.mine(result[0])])

    peeker = Peeker(peeks, report) if spec.peek else None
    stage = LocalStage(Staging({app.name: app for app in applications}), peeker, peeks)
    driver = LiveDriver(spec.build(applications), applications, workers, peeker, clock, loop)
    journal = None
    if settings.journal:
        journal = JournalWriter(Path(settings.journal), spec, applications)
        driver.observe(Journalling(journal))
    editions = {app.key: _edition(app) for app in applications}
    driver.recall(_lessons(history, editions))
    keeper = Keeper(History(history, editions), time.time)
    driver.observe(keeper)
    # Python code of the peeking thread would otherwise keep the event loop waiting for 5 ms at a time.
    sys.setswitchinterval(5e-4)
    if peeker is not None:
        peeker.start()
    keeper.start()
    driver.start()
    confirmations = Confirmations(driver, loop, keeper)
    return Core(driver, peeker, peeks, journal, stage, keeper, confirmations, editions, history)


def _lessons(history: Path, editions: Mapping[str, Edition]) -> tuple[Lesson, ...]:
    with History(history, editions) as kept:
        return kept.lessons()


def _edition(app: Application) -> Edition:
    """What lessons are kept for: they hold for these models and this peek, and for no others."""
    own = {None: peek_key(app, app.peek) if app.peek else ""}
    return Edition(app.classes, own | {variant.name: variant.revision for variant in app.variants})


def boot_id() -> str:
    """Distinct for each start of a server."""
    return f"{time.time_ns() // 1000:x}"
