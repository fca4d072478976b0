"""A folder of applications, read into domain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from peekserve.config import Problem, Problems, nearest
from peekserve.domain.application import Application
from peekserve.errors import InvalidConfiguration, UnknownApplication
from peekserve.registry.application import look_into, read_application
from peekserve.registry.tensors import Describe

FILE = "application.yaml"


@dataclass(frozen=True, slots=True)
class Source:
    """Where an application was written: its file, and the line of each of its keys
    (`variants.linear.model`).
    """

    file: str
    lines: Mapping[str, int]

    def line(self, key: str) -> int:
        """The line of a key, or of the nearest one above it."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return self.lines.get(key, 1)


@dataclass(frozen=True, slots=True)
class Repository:
    """What a folder holds: the applications that could be read, and every problem of those that could not."""

    root: Path
    applications: tuple[Application, ...]
    problems: tuple[Problem, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)

    def application(self, name: str) -> Application:
        for application in self.applications:
            if application.name == name:
                return application
        raise UnknownApplication(
            f"no application {name!r} in {self.root}; {nearest(name, [a.name for a in self.applications])}"
        )

    def sound(self) -> "Repository":
        """This repository, or InvalidConfiguration with a line for each problem that it has."""
        if self.problems:
            raise InvalidConfiguration("\n".join(str(p) for p in self.problems))
        return self


def read_repository(root: Path, describe: Describe = look_into) -> Repository:
    """Read every `NAME/application.yaml` below `root`, in the order of their names.

    A broken application is left out and its problems are listed; the others can be served. Raises
    InvalidConfiguration where there is no repository at all.
    """
    if not root.is_dir():
        raise InvalidConfiguration(f"{root}: there is no such folder")
    files = [
        p / FILE
        for p in sorted(root.iterdir())
        if p.is_dir() and not p.name.startswith(".") and (p / FILE).is_file()
    ]
    if not files:
        hint = f"; {FILE} lies here itself: name the folder above it" if (root / FILE).is_file() else ""
        raise InvalidConfiguration(
            f"{root}: no application here: a repository holds folders with an {FILE}{hint}"
        )
    applications: list[Application] = []
    problems: list[Problem] = []
    sources: dict[str, Source] = {}
    files_of: dict[str, str] = {}
    for file in files:
        found = Problems()
        application = read_application(file, root, found, describe)
        problems.extend(found.found)
        if application is None:
            continue
        if application.name in sources:
            other = sources[application.name].file
            what = f"application: the name {application.name!r} is taken by {other}"
            problems.append(Problem(str(file), found.lines.get("application", 1), what))
            continue
        applications.append(_sharing(application, files_of))
        sources[application.name] = Source(str(file), dict(found.lines))
    return Repository(root, tuple(applications), tuple(problems), sources)


def _sharing(application: Application, files_of: dict[str, str]) -> Application:
    """Copies of one file are the same weights, so they are read from the same place: the first that was seen."""
    variants = tuple(replace(v, model=files_of.setdefault(v.weights, v.model)) for v in application.variants)
    return replace(application, variants=variants)
