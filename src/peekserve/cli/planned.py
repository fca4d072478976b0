"""The gear plans of a repository: which file a policy's lie in, and whether they hold for what is here."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from peekserve.config import Problem, Severity, nearest
from peekserve.domain.application import Application
from peekserve.domain.gears import GearPlan, crowded
from peekserve.errors import InvalidConfiguration, ProfileMissing
from peekserve.planner import plan as files
from peekserve.policies import PLANNED
from peekserve.profiling.device import fingerprint
from peekserve.registry.repository import FILE, read_repository
from peekserve.registry.settings import examine_settings


def file_of(policy: str) -> str:
    """The file that a policy's plans lie in. A static gear is one of those that `gears` switches between; other
    policies have plans of their own.

    >>> file_of("gears"), file_of("static"), file_of("model-switching")
    ('plan.json', 'plan.json', 'plan-model-switching.json')
    """
    if policy in ("gears", "static"):
        return files.FILE
    return f"{Path(files.FILE).stem}-{policy}.json"


def gear_plans(root: Path, applications: Iterable[Application], policy: str = "gears") -> dict[str, GearPlan]:
    """The repository's gear plans for a policy, one for each of these applications.

    Raises InvalidConfiguration where there is none or its models have changed, and ProfileMissing where it was made
    with timings of another device; each says what to do.
    """
    path = root / file_of(policy)
    found = files.read(path)
    plans: dict[str, GearPlan] = {}
    for app in applications:
        if app.name not in found:
            raise InvalidConfiguration(f"{path}: {_lacking(root, app.name, policy)}")
        files.check(found[app.name], app, fingerprint())
        plans[app.name] = found[app.name]
    return plans


def doubts(plans: Mapping[str, GearPlan], workers: Sequence[str]) -> Iterator[str]:
    """A sentence for each gear plan whose devices are not these workers, and for devices that plans of several
    applications ask too much of: what such plans expect will not hold, though they can be carried out."""
    for name, plan in plans.items():
        planned = [held.device for held in plan.placement]
        if set(planned) != set(workers):
            yield (
                f"{name}: its gear plan is for {', '.join(planned)} and the workers here are {', '.join(workers)}: "
                "what it expects will not hold; name them so, or plan again without --devices"
            )
    alike: dict[tuple[tuple[str, ...], float], list[str]] = {}
    for crowd in crowded(plans):
        alike.setdefault((crowd.applications, crowd.share), []).append(crowd.device)
    for (names, share), devices in alike.items():
        shares = ", ".join(f"{plans[name].share:.0%} for {name}" for name in names)
        yield (
            f"the gear plans of {' and '.join(names)} ask for {share:.0%} of the time of {', '.join(devices)} "
            f"({shares}): what they expect will not hold when all are busy; plan each with a --share, 100% together, "
            "or give them devices of their own"
        )


def check_plans(root: Path, environment: Mapping[str, str], here: str | None = None) -> list[Problem]:
    """What is wrong with a repository's gear plans, beside what is wrong with the repository. `here`: the fingerprint
    of this device; its own by default."""
    settings, _, _ = examine_settings(root, environment)
    policy = settings.policy.name
    if policy not in PLANNED and not any((root / file_of(planned)).is_file() for planned in PLANNED):
        return []
    try:
        applications = read_repository(root).applications
    except InvalidConfiguration:
        return []
    workers = [slot.name for slot in settings.workers]
    return list(examine(root, applications, policy, workers, here or fingerprint()))


def examine(
    root: Path, applications: Iterable[Application], policy: str, workers: Sequence[str], here: str
) -> Iterator[Problem]:
    """What is wrong with the repository's gear plans. `policy`: the one that serves; what it could not be served with
    is an error, and so is a file that nobody can read; in plans that only another policy would carry out, the rest is a
    warning. `here`: this device's fingerprint."""
    known = {app.name: app for app in applications}
    for name in sorted({file_of(planned) for planned in PLANNED}):
        serves = policy in PLANNED and file_of(policy) == name
        yield from _of_file(root / name, known, serves, workers, here)
    if policy in PLANNED:
        path = root / file_of(policy)
        try:
            planned: Collection[str] = files.read(path)
        except InvalidConfiguration:
            return  # said already
        for app in known:
            if app not in planned:
                yield Problem(str(path), 0, _lacking(root, app, policy))


def _of_file(
    path: Path, known: Mapping[str, Application], serves: bool, workers: Sequence[str], here: str
) -> Iterator[Problem]:
    try:
        plans = files.read(path)
    except InvalidConfiguration as error:
        yield Problem(str(path), 0, str(error).removeprefix(f"{path}: "))
        return
    for name, plan in plans.items():
        if name not in known:
            if (path.parent / name / FILE).is_file():
                continue  # it could not be read, and that is said of its own file
            what = f"a gear plan for {name!r}, and there is no such application"
            hint = nearest(name, known) if known else ""
            yield Problem(str(path), 0, what, hint, Severity.WARNING)
            continue
        try:
            files.check(plan, known[name], here)
        except (InvalidConfiguration, ProfileMissing) as error:
            yield Problem(str(path), 0, str(error), "", Severity.ERROR if serves else Severity.WARNING)
    for sentence in doubts({name: plan for name, plan in plans.items() if name in known}, workers):
        yield Problem(str(path), 0, sentence, "", Severity.WARNING)


def _lacking(root: Path, name: str, policy: str) -> str:
    if file_of(policy) != files.FILE:
        return (
            f"the policy {policy!r} has no gear plan for {name!r}: make one with peekserve plan {root} {name} "
            "--single-models --slo p95=... --qps-max ..."
        )
    return (
        f"no gear plan for {name!r}: make one with peekserve plan {root} {name} --slo p95=... --qps-max ..."
    )
