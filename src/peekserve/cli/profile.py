"""`peekserve profile`: what every variant is worth and what it costs here, measured and kept."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Table

from peekserve.awareness import estimate
from peekserve.awareness.agreement import by_agreement
from peekserve.awareness.calibrate import Sampled
from peekserve.awareness.fusion import with_share
from peekserve.cli.assembly import (
    labelled_of,
    lay_out,
    open_store,
    own_slot,
    sample_inputs,
)
from peekserve.cli.terminal import console, progress
from peekserve.clock import WallClock
from peekserve.domain.application import Application, Score, Variant
from peekserve.domain.profile import Quality, Timing
from peekserve.errors import InvalidConfiguration
from peekserve.peeking.base import Counts
from peekserve.peeking.choosing import Choice
from peekserve.peeking.peek import calibrate, profile_peek, strangers, votes_on_reference
from peekserve.profiling.device import fingerprint_of
from peekserve.profiling.measure import BATCH_SIZES, Effort, measure_quality, measure_timing, steps
from peekserve.profiling.neighbour import busy
from peekserve.registry.labelled import Labelled, bucketed
from peekserve.registry.peeks import peek_of
from peekserve.registry.profiled import peek_key, profile_key, validation_sha, votes_key, with_profiles
from peekserve.registry.repository import read_repository
from peekserve.registry.settings import read_settings
from peekserve.runtimes.base import Inputs
from peekserve.state.store import Store
from peekserve.workers.remote import RemoteRuntime
from peekserve.workers.slots import Slot
from peekserve.workers.trial import WorkerStopwatch


def profile(root: Path, apps: Sequence[str] | None, quick: bool, again: bool, as_json: bool) -> int:
    """Measure what is not yet known of a repository (or everything, `again`), and print the two tables."""
    settings, _ = read_settings(root, os.environ)
    layout = lay_out(settings)
    repository = read_repository(root).sound()
    chosen = [repository.application(name) for name in apps] if apps else list(repository.applications)
    effort = Effort.quick() if quick else Effort(seconds=0.25)
    front = layout.front[0]
    with open_store(root, settings) as store, progress(as_json) as bar:
        task = bar.add_task("profile", total=sum(session_steps(app, effort) for app in chosen))

        def step(what: str) -> None:
            bar.update(task, advance=1, description=what)

        choices: dict[str, Choice | None] = {}
        device = own_slot(layout).device
        for app in chosen:
            session = Session(app, store, own_slot(layout), front, effort, again, step)
            session.run()
            choices[app.name] = session.choice
        profiled = [
            with_profiles(app, store, fingerprint_of(device), validation_sha(app), device) for app in chosen
        ]
    if as_json:
        print(json.dumps({app.name: _as_json(app, device, choices[app.name]) for app in profiled}))
    else:
        for app in profiled:
            console().print(table(app, device))
            for note in notes(app, choices[app.name]):
                console().print(note)
    return 0


class Session:
    """Profiles one application in one worker process, with the front's core as busy as in service. `front`: that core,
    None where a front is at work there."""

    def __init__(
        self,
        application: Application,
        store: Store,
        slot: Slot,
        front: int | None,
        effort: Effort,
        again: bool,
        step: Callable[[str], None],
    ) -> None:
        self._app = application
        self._store = store
        self._slot = slot
        self._front = front
        self._effort = effort
        self._again = again
        self._step = step
        self._where = fingerprint_of(slot.device)
        self._validation = labelled_of(application.validation, application)
        self._validation_sha = validation_sha(application)
        self.choice: Choice | None = None

    def run(self) -> None:
        app, validation = self._app, self._validation
        if validation is None and any(v.quality is None for v in app.variants):
            raise InvalidConfiguration(
                f"{app.name}: no validation data, and not every variant states its recalls: "
                "name an archive under 'validation:' or write a profile for each variant"
            )
        samples = sample_inputs(app, validation)
        # An older version measured less of it. How models and votes err together is known of one session only.
        self._again = self._again or self._outdated()
        votes = self._profile_peek(validation)
        answers: list[npt.NDArray[np.int64]] = []
        loaded: set[str] = set()
        for variant in app.variants:
            key = profile_key(app, variant)
            known_time = self._store.timing(key, self._where) is not None
            known_quality = validation is None or self._knows_quality(key, votes)
            timed = steps(samples, BATCH_SIZES, variant.max_batch, self._effort)
            if known_time and known_quality and not self._again:
                self._skip(f"{variant.name}: known", timed + 1)
                continue
            with RemoteRuntime(self._slot, app.inputs) as runtime:
                # New validation data say nothing new about time.
                if known_time and not self._again:
                    self._skip(f"{variant.name}: times known", timed)
                else:
                    self._time(variant, runtime, samples, variant.weights in loaded)
                    loaded.add(variant.weights)
                self._step(f"{app.name}/{variant.name}: validation")
                if validation is not None:
                    runtime.load(variant, len(app.classes))
                    cut = bucketed(validation, app)
                    parts = [(inputs, validation.labels[rows]) for _, rows, inputs in cut]
                    quality, scores = measure_quality(variant, len(app.classes), parts, runtime)
                    quality = quality.scored(np.concatenate([labels for _, labels in parts]), scores)
                    self._store.put_quality(key, self._validation_sha, quality)
                    if votes is not None:
                        said = np.empty(validation.rows, dtype=np.int64)
                        said[np.concatenate([rows for _, rows, _ in cut])] = scores.argmax(axis=1)
                        answers.append(said)
        self._share_loads()
        # Only where all spoke in one session is it known how they err together; else what was known stays.
        if votes is not None and validation is not None and len(answers) == len(app.variants):
            said_by_all = np.stack(answers)
            apart = votes.recalls(validation.labels, said_by_all, validation.groups)
            for variant, recalls in zip(app.variants, apart, strict=True):
                self._store.put_agreement(profile_key(app, variant), votes.key, recalls)
            self._profile_fusion(votes, said_by_all, validation)

    def _skip(self, what: str, steps: int) -> None:
        for _ in range(steps):
            self._step(f"{self._app.name}/{what}")

    def _time(
        self, variant: Variant, runtime: RemoteRuntime, samples: Sequence[Inputs], loaded: bool
    ) -> None:
        """What this variant costs. `loaded`: its weights were loaded here for another variant, and would take as long
        for this one."""
        app = self._app

        def step(what: str) -> None:
            self._step(f"{app.name}/{what}")

        effort = replace(self._effort, loads=1) if loaded else self._effort
        for _ in range(self._effort.loads - effort.loads):
            step(f"{variant.name}: load known")
        with busy(() if self._front is None else (self._front,)):
            timing = measure_timing(
                variant,
                len(app.classes),
                samples,
                WorkerStopwatch(runtime),
                effort=effort,
                clock=WallClock(),
                progress=step,
                runtime=self._slot.runtime.version(bool(variant.subnet)),
            )
        self._store.put_timing(profile_key(app, variant), self._where, timing)

    def _share_loads(self) -> None:
        """Variants of one set of weights (the subnets of a supernet) are loaded together: all of them take the load
        time of the first, and the bytes of whichever took most, since what batches need is shared, too."""
        kept: dict[str, list[tuple[str, Timing]]] = {}
        for variant in self._app.variants:
            key = profile_key(self._app, variant)
            if (timing := self._store.timing(key, self._where)) is not None:
                kept.setdefault(variant.weights, []).append((key, timing))
        for together in kept.values():
            first, held = together[0][1], max(timing.bytes for _, timing in together)
            for key, timing in together:
                shared = replace(timing, load_s=first.load_s, load_p95_s=first.load_p95_s, bytes=held)
                if shared != timing:
                    self._store.put_timing(key, self._where, shared)

    def _profile_fusion(self, votes: "_Votes", said: npt.NDArray[np.int64], validation: Labelled) -> None:
        spec = self._app.peek
        key = peek_key(self._app, spec) if spec is not None else ""
        calibration = self._store.calibration(key, self._validation_sha)
        if calibration is not None:
            rows = votes.rows
            groups = None if validation.groups is None else validation.groups[rows]
            labels, expected = validation.labels[rows], self._app.expected
            known = with_share(
                calibration, votes.counts[rows], said[:, rows], labels, groups, expected, votes.beside
            )
            self._store.put_calibration(key, self._validation_sha, known)

    def _outdated(self) -> bool:
        """Was the peek calibrated without its pull, or recalls without the groups that they were counted on? What a
        variant is better by than the others is known of one session only, so that a new one has all run again."""
        spec = self._app.peek
        if spec is None or self._validation is None:
            return False
        key = votes_key(self._app, spec, self._validation_sha)
        kept = self._store.calibration(peek_key(self._app, spec), self._validation_sha)
        apart = [self._store.agreement(profile_key(self._app, v), key) for v in self._app.variants]
        if kept is None:
            return any(apart) and not all(apart)
        return kept.pull is None or any(one is None or len(one) < len(kept.edges) + 2 for one in apart)

    def _knows_quality(self, key: str, votes: "_Votes | None") -> bool:
        kept = self._store.quality(key, self._validation_sha)
        if kept is None or (self._app.score is Score.QUADRATIC and not kept.quadratic):
            return False
        return votes is None or self._store.agreement(key, votes.key) is not None

    def _profile_peek(self, validation: Labelled | None) -> "_Votes | None":
        spec = self._app.peek
        peek = peek_of(self._app)
        self._step(f"{self._app.name}: peek")
        self.choice = peek.choice if peek is not None else None
        if spec is None or peek is None or validation is None:
            return None
        key, sha = peek_key(self._app, spec), self._validation_sha
        reference = labelled_of(spec.reference, self._app)
        known = reference.groups if reference is not None else None
        rows = strangers(validation.rows, validation.groups, known)
        beside = None
        if reference is not None:
            beside = votes_on_reference(
                peek, reference.inputs, reference.labels, reference.groups, reference.lengths
            )
        calibration = self._store.calibration(key, sha)
        if not self._again and calibration is not None and self._store.peek_quality(key, sha) is not None:
            counts = peek.look(validation.inputs, validation.lengths)
            return _Votes(votes_key(self._app, spec, sha), counts, calibration.edges, rows, beside)
        profile = profile_peek(
            peek,
            self._app.prior,
            validation.inputs,
            validation.labels,
            WallClock(),
            lengths=validation.lengths,
        )
        self._store.put_peek_quality(key, self._validation_sha, profile.quality)
        self._store.put_peek_latency(key, self._where, profile.latency)
        if not profile.votes.any():
            return None
        calibration = calibrate(self._app, profile.votes, validation.labels, validation.groups, known, beside)
        self._store.put_calibration(key, sha, calibration)
        return _Votes(votes_key(self._app, spec, sha), profile.votes, calibration.edges, rows, beside)


@dataclass(frozen=True, slots=True)
class _Votes:
    """The peek's votes on the validation data, float64 [n, C], and what is kept under the key of such votes. `rows`:
    bool [n], the samples that tell what votes are worth (peeking.peek.strangers); `beside`: others that do."""

    key: str
    counts: Counts
    edges: tuple[float, ...]
    rows: npt.NDArray[np.bool_]
    beside: Sampled | None = None

    def recalls(
        self,
        labels: npt.NDArray[np.integer],
        said: npt.NDArray[np.int64],
        groups: npt.NDArray[np.generic] | None,
    ) -> list[tuple[tuple[float, ...], ...]]:
        """[B + 1][C] for each variant, which said int [V, n]."""
        return by_agreement(said, labels, groups, self.counts, self.edges, self.rows)


def table(app: Application, device: str) -> Table:
    """Both tables of one application, as people read them."""
    shown = Table(title=f"{app.name}: {len(app.classes)} classes", title_justify="left", header_style="bold")
    columns = (
        "variant",
        "accuracy",
        "lowest recall",
        "1 row",
        "8 rows",
        "32 rows",
        "p95-median",
        "load",
        "memory",
    )
    for column in columns:
        name = column == "variant"  # stays whole in a narrow terminal
        shown.add_column(column, justify="left" if name else "right", no_wrap=name)
    for variant in app.variants:
        timing = variant.timing.get(device)
        shown.add_row(variant.name, *_quality_cells(app, variant.quality), *_timing_cells(timing))
    if app.peek is not None:
        latency = app.peek.latency
        cells = [f"{latency.seconds(n) * 1e3:.2f} ms" for n in (1, 8, 32)] if latency else ["-"] * 3
        shown.add_section()
        shown.add_row("(peek)", *_quality_cells(app, app.peek.quality), *cells, "", "", "")
    return shown


def notes(app: Application, choice: Choice | None) -> list[str]:
    """What the table cannot say: recalls that are guesses, how k was chosen, and a score other than accuracy."""
    told = []
    qualities = [v.quality for v in app.variants] + ([app.peek.quality] if app.peek else [])
    guessed = sorted({i for quality in qualities if quality is not None for i in quality.guessed})
    if guessed:
        names = ", ".join(app.classes[i] for i in guessed)
        told.append(
            f"* no validation sample of {names}: that recall is (0 + 1) / (0 + {len(app.classes)}), a guess"
        )
    if choice is not None:
        told.append(f"peek: {choice}")
    if app.peek is not None and app.peek.calibration is not None:
        known = app.peek.calibration
        told.append(
            f"peek: temperature {known.temperature:.3f}, so that its votes on a row, up to {known.most:g}, are worth "
            f"{known.temperature * known.most:.2f}; log loss {known.loss:.3f}, of uncalibrated votes "
            f"{known.loss_before:.3f}, on {known.fitted_on} rows"
        )
        if known.fusion == 0.0:
            told.append("fusion: not shown to be right more often; models answer by themselves")
    elif app.peek is not None:
        told.append("peek: never calibrated; its votes are added to the prior, as SneakPeek adds them")
    if app.score is not Score.ACCURACY:
        values = ", ".join(
            f"{v.name} {estimate.profiled(v.quality, app.weights, app.score):.3f}"
            for v in app.variants
            if v.quality
        )
        told.append(f"{app.score.value}: {values}")
    return told


def _quality_cells(app: Application, quality: Quality | None) -> list[str]:
    if quality is None:
        return ["not measured", ""]
    worst = min(range(len(app.classes)), key=lambda i: quality.recall[i])
    mark = "*" if worst in quality.guessed else ""
    return [f"{quality.accuracy:.3f}", f"{quality.recall[worst]:.2f}{mark} {app.classes[worst]}"]


def _timing_cells(timing: Timing | None) -> list[str]:
    if timing is None:
        return ["not measured"] + [""] * 5
    curve = timing.curve(0)
    mark = "~" if timing.provisional else ""
    sizes = [f"{mark}{curve.seconds(n) * 1e3:.2f} ms" for n in (1, 8, 32)]
    memory = f"{timing.bytes / 2**20:.1f} MiB"
    return [*sizes, f"{curve.spread_s() * 1e3:.2f} ms", f"{timing.load_s * 1e3:.0f} ms", memory]


def _as_json(app: Application, device: str, choice: Choice | None) -> dict[str, object]:
    def one(quality: Quality | None, timing: object) -> dict[str, object]:
        return {
            "accuracy": quality.accuracy if quality else None,
            "quality": asdict(quality) if quality else None,
            "timing": timing,
        }

    variants = {
        v.name: one(v.quality, asdict(v.timing[device]) if device in v.timing else None) for v in app.variants
    }
    peek = app.peek
    told: dict[str, object] = {"variants": variants}
    if peek is not None:
        told["peek"] = one(peek.quality, asdict(peek.latency) if peek.latency else None)
        told["calibration"] = asdict(peek.calibration) if peek.calibration else None
    if choice is not None:
        told["neighbours"] = {"k": choice.k, "log_scores": dict(choice.scores)}
    return told


def session_steps(app: Application, effort: Effort) -> int:
    """How often a session says that it goes on."""
    samples = sample_inputs(app, None)
    return sum(steps(samples, BATCH_SIZES, v.max_batch, effort) + 1 for v in app.variants) + 1
