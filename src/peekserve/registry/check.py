"""All that is wrong with a repository, before it serves: `peekserve check`.

Reading finds what application.yaml says wrongly; this adds what only the files themselves can tell:
labelled data that do not fit, models that do not load or do not give one score for each class.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from peekserve.config import Problem, Severity, nearest
from peekserve.domain.application import CHOSEN, Application, Variant
from peekserve.errors import InvalidConfiguration
from peekserve.policies import PLANNED, make
from peekserve.policies.options import checked
from peekserve.registry.application import look_into
from peekserve.registry.labelled import Labelled, examine
from peekserve.registry.probe import Probe, probing
from peekserve.registry.repository import Repository, Source, read_repository
from peekserve.registry.settings import ServerSettings, Slot, examine_settings
from peekserve.registry.stated import DEVICES, STATED
from peekserve.registry.tensors import Describe

Note = Callable[..., None]


def check(
    root: Path,
    environment: Mapping[str, str] | None = None,
    probe: Probe | None = None,
    describe: Describe = look_into,
) -> list[Problem]:
    """Every error and warning, in the order of applications and their files. Raises nothing of its own.

    `probe` runs one row through a variant, or through each subnet of a supernet, which is loaded once, and says what
    went wrong with each, if anything; by default that happens in a process that is thrown away, so that a model which
    brings its process down is one more line in the list.
    """
    problems: list[Problem] = []
    try:
        repository = read_repository(root, describe)
    except InvalidConfiguration as error:
        return [Problem(str(root), 0, str(error).removeprefix(f"{root}: "))]
    problems.extend(repository.problems)
    settings, _, found = examine_settings(root, environment)
    problems.extend(found.found)
    problems.extend(_check_policy(root, settings))
    problems.extend(
        Problem(str(root / "peekserve.yaml"), 0, what, hint, Severity.WARNING)
        for what, hint in idle(repository.applications, settings.workers)
    )
    if settings.beliefs == "calibrated":
        problems.extend(_never_calibrated(repository))
    if probe is not None:
        for application in repository.applications:
            problems.extend(_check(application, repository.sources[application.name], probe))
        return problems
    with probing() as throwaway:
        for application in repository.applications:
            problems.extend(_check(application, repository.sources[application.name], throwaway))
    return problems


def idle(applications: Iterable[Application], workers: Iterable[Slot]) -> Iterator[tuple[str, str]]:
    """A sentence and a hint for each worker that imitates a device of which nobody states anything."""
    known = {device for app in applications for v in app.variants for device in v.timing}
    stated = sorted(known - {STATED, *DEVICES})
    for worker in workers:
        if worker.pace and worker.pace not in stated:
            what = f"worker {worker.name!r}: no variant states times for the device {worker.pace!r}"
            hint = "state them under profile.devices of the variants"
            yield f"{what}: nothing will ever run there", nearest(worker.pace, stated) if stated else hint


def _check_policy(root: Path, settings: ServerSettings) -> list[Problem]:
    try:
        if settings.policy.name in PLANNED:  # its plans are read when it serves
            checked(PLANNED[settings.policy.name].OPTIONS, settings.policy.options, {})
        else:
            make(settings.policy.name, None, **settings.policy.options)
    except InvalidConfiguration as error:
        return [Problem(str(root / "peekserve.yaml"), 0, f"policy: {error}")]
    return []


def _never_calibrated(repository: Repository) -> Iterator[Problem]:
    for app in repository.applications:
        if app.peek is not None and not app.validation:
            source = repository.sources[app.name]
            yield Problem(
                source.file,
                source.line("peek"),
                "peek: without validation data nobody can measure what its votes are worth: they are added to the "
                "prior, as with beliefs: dirichlet",
                "add 'validation'",
                Severity.WARNING,
            )


def _check(application: Application, source: Source, probe: Probe) -> list[Problem]:
    problems: list[Problem] = []

    def note(key: str, what: str, hint: str = "", severity: Severity = Severity.ERROR) -> None:
        problems.append(
            Problem(source.file, source.line(key), f"{key}: {what}" if key else what, hint, severity)
        )

    validation = _data("validation", application.validation, application, note)
    reference = None
    if application.peek is not None:
        reference = _data("peek.reference", application.peek.reference, application, note)
        _check_reference(application, reference, note)
    if validation is not None:
        _check_validation(application, validation, note)
    elif not application.validation:
        for _, together in groupby((v for v in application.variants if v.quality is None), _key):
            unknown = tuple(together)
            note(
                _key(unknown[0]),
                f"{_named(unknown)}has no profile and there is no validation data: its accuracy stays unknown",
                "add 'validation', or state a profile with recalls",
                Severity.WARNING,
            )
    if validation is not None and reference is not None:
        _check_groups(validation, reference, note)
    for _, together in groupby(application.variants, _key):
        variants = tuple(together)
        of_fault: dict[str, list[Variant]] = {}
        for variant, fault in zip(variants, probe(application, variants), strict=True):
            if fault:
                own = fault.removeprefix(f"variant {variant.name!r}: ") if variant.subnet else fault
                of_fault.setdefault(own, []).append(variant)
        for fault, faulty in of_fault.items():
            note(_key(faulty[0], ".model"), f"{_named(faulty)}{fault}")
    if application.peek is not None and application.peek.decision is not None:
        (fault,) = probe(application, (application.peek.decision,))
        if fault:
            note("peek.evidence", fault)
    return problems


def _key(variant: Variant, part: str = "") -> str:
    """Where a variant is written: a subnet belongs to its supernet's line."""
    if variant.subnet:
        return f"supernets.{variant.name.removesuffix('.' + variant.subnet)}"
    return f"variants.{variant.name}{part}"


def _named(variants: Sequence[Variant]) -> str:
    """Which subnets of its line something is said of, shortly; nothing for a model of its own."""
    first, *others = (variant.subnet for variant in variants)
    if not first:
        return ""
    return f"{first} and {len(others)} more: " if others else f"{first}: "


def _data(key: str, path: str, application: Application, note: Note) -> Labelled | None:
    if not path:
        return None
    labelled, faults = examine(Path(path), application)
    for fault in faults:
        note(key, f"{Path(path).name}: {fault}")
    return labelled


def _check_reference(application: Application, reference: Labelled | None, note: Note) -> None:
    peek = application.peek
    if reference is None or peek is None:
        return
    for name in peek.inputs:
        if name not in reference.inputs:
            note(
                "peek.reference",
                f"{Path(peek.reference).name} lacks the input {name!r}, which the peek looks at",
            )
    if reference.rows < peek.neighbours:
        note("peek.neighbours", f"{peek.neighbours} neighbours are asked of {reference.rows} labelled rows")
    if reference.rows < peek.index.cells:
        note(
            "peek.neighbours",
            f"an index of {peek.index.cells} cells is asked of {reference.rows} labelled rows",
        )
    if peek.neighbours == CHOSEN and reference.groups is None:
        note(
            "peek.neighbours",
            f"k is chosen without groups: {Path(peek.reference).name} does not say which rows belong together, and "
            "rows of one subject vote for each other",
            "add 'groups' to it",
            Severity.WARNING,
        )
    if peek.neighbours == CHOSEN and reference.groups is not None and len(np.unique(reference.groups)) < 2:
        note("peek.neighbours", "k cannot be chosen from rows of one group", "write a number")


def _check_validation(application: Application, validation: Labelled, note: Note) -> None:
    file = Path(application.validation).name
    for variant in application.variants:
        lacking = [name for name in variant.needs if name not in validation.inputs]
        if lacking:
            note(
                "validation",
                f"{file} lacks the input {lacking[0]!r}, which the variant {variant.name!r} needs: it cannot be "
                "profiled",
            )
    counts = np.bincount(validation.labels, minlength=len(application.classes))
    for name, count in zip(application.classes, counts.tolist(), strict=True):
        if not count:
            note(
                "validation",
                f"{file} has no row of class {name!r}: its recall is a guess",
                "add rows of that class",
                Severity.WARNING,
            )


def _check_groups(validation: Labelled, reference: Labelled, note: Note) -> None:
    if validation.groups is None or reference.groups is None:
        return
    shared = sorted(set(validation.groups.tolist()) & set(reference.groups.tolist()))
    if shared:
        note(
            "validation",
            f"shares {len(shared)} group{'s' * (len(shared) != 1)} with the peek's reference, first {shared[0]!r}: "
            "the peek will look better than it is",
            "keep subjects or recordings apart",
            Severity.WARNING,
        )
