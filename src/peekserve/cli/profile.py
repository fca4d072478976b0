"""`peekserve profile`: what every variant is worth and what it costs here, measured and kept."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from peekserve.awareness import estimate
from peekserve.cli.assembly import (
    labelled_of,
    lay_out,
    open_store,
    own_slot,
    sample_inputs,
)
from peekserve.cli.terminal import console
from peekserve.clock import WallClock
from peekserve.domain.application import Application, Score
from peekserve.domain.profile import Quality, Timing
from peekserve.errors import InvalidConfiguration
from peekserve.peeking.choosing import Choice
from peekserve.peeking.peek import profile_peek
from peekserve.profiling.device import fingerprint
from peekserve.profiling.measure import BATCH_SIZES, Effort, measure_quality, measure_timing, steps
from peekserve.profiling.neighbour import busy
from peekserve.registry.labelled import Labelled, bucketed
from peekserve.registry.peeks import peek_of
from peekserve.registry.profiled import peek_key, profile_key, validation_sha, with_profiles
from peekserve.registry.repository import read_repository
from peekserve.registry.settings import read_settings
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
    with open_store(root, settings) as store, _bar(as_json) as bar:
        task = bar.add_task("profile", total=sum(_steps(app, effort) for app in chosen))

        def step(what: str) -> None:
            bar.update(task, advance=1, description=what)

        choices: dict[str, Choice | None] = {}
        for app in chosen:
            session = Session(app, store, own_slot(layout), front, effort, again, step)
            session.run()
            choices[app.name] = session.choice
        profiled = [
            with_profiles(app, store, fingerprint(), validation_sha(app), own_slot(layout).device)
            for app in chosen
        ]
    if as_json:
        device = own_slot(layout).device
        print(json.dumps({app.name: _as_json(app, device, choices[app.name]) for app in profiled}))
    else:
        for app in profiled:
            console().print(table(app, own_slot(layout).device))
            for note in notes(app, choices[app.name]):
                console().print(note)
    return 0


class Session:
    """Profiles one application in one worker process, with the front's core as busy as in service."""

    def __init__(
        self,
        application: Application,
        store: Store,
        slot: Slot,
        front: int,
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
        for variant in app.variants:
            key = profile_key(app, variant)
            known_time = self._store.timing(key, fingerprint()) is not None
            known_quality = validation is None or self._knows_quality(key)
            if known_time and known_quality and not self._again:
                for _ in range(steps(samples, BATCH_SIZES, variant.max_batch, self._effort) + 1):
                    self._step(f"{app.name}/{variant.name}: known")
                continue

            def step(what: str) -> None:
                self._step(f"{app.name}/{what}")

            with RemoteRuntime(self._slot, app.inputs) as runtime:
                with busy((self._front,)):
                    timing = measure_timing(
                        variant,
                        len(app.classes),
                        samples,
                        WorkerStopwatch(runtime),
                        effort=self._effort,
                        clock=WallClock(),
                        progress=step,
                        runtime=_runtime(),
                    )
                self._store.put_timing(key, fingerprint(), timing)
                self._step(f"{app.name}/{variant.name}: validation")
                if validation is not None:
                    runtime.load(variant, len(app.classes))
                    cut = bucketed(validation, app)
                    parts = [(inputs, validation.labels[rows]) for _, rows, inputs in cut]
                    quality, scores = measure_quality(variant, len(app.classes), parts, runtime)
                    quality = quality.scored(np.concatenate([labels for _, labels in parts]), scores)
                    self._store.put_quality(key, self._validation_sha, quality)
        self._profile_peek(validation)

    def _knows_quality(self, key: str) -> bool:
        kept = self._store.quality(key, self._validation_sha)
        return kept is not None and (self._app.score is not Score.QUADRATIC or bool(kept.quadratic))

    def _profile_peek(self, validation: Labelled | None) -> None:
        spec = self._app.peek
        peek = peek_of(self._app)
        self._step(f"{self._app.name}: peek")
        self.choice = peek.choice if peek is not None else None
        if spec is None or peek is None or validation is None:
            return
        key = peek_key(self._app, spec)
        if not self._again and self._store.peek_quality(key, self._validation_sha) is not None:
            return
        profile = profile_peek(
            peek,
            self._app.prior,
            validation.inputs,
            validation.labels,
            WallClock(),
            lengths=validation.lengths,
        )
        self._store.put_peek_quality(key, self._validation_sha, profile.quality)
        self._store.put_peek_latency(key, fingerprint(), profile.latency)


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
    if choice is not None:
        told["neighbours"] = {"k": choice.k, "log_scores": dict(choice.scores)}
    return told


def _steps(app: Application, effort: Effort) -> int:
    samples = sample_inputs(app, None)
    return sum(steps(samples, BATCH_SIZES, v.max_batch, effort) + 1 for v in app.variants) + 1


def _runtime() -> str:
    from importlib.metadata import version

    return f"onnxruntime {version('onnxruntime')}"


def _bar(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        disable=quiet,
        transient=True,
    )
