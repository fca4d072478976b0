"""The zoo of an application: five models of one kind, tiny to base, which a cascade can be made of.

`python -m peekserve.applications.zoo DIR [NAME ...]` writes a repository as `peekserve demo --prepare DIR` does, with
the five sizes as the variants of each application. Where they lie is said in NAME/zoo/zoo.yaml; of some applications
they are the separate models beside a supernet, and the path is the same in the repository as in this package.
"""

import argparse
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peekserve.applications.direct import declaration
from peekserve.applications.prepare import HOME, prepare
from peekserve.errors import DataUnavailable

NAMES = ("ecg", "keywords", "digits")
SIZES = ("tiny", "mini", "small", "medium", "base")
DECLARED = "zoo/zoo.yaml"
_VARIANTS = re.compile(r"^variants:\n(?:[ #].*\n|\n)*", re.MULTILINE)


def declared(name: str) -> dict[str, Any]:
    """An application's declaration with its zoo for variants, as plain values; a `model` lies below HOME / name. Raises
    DataUnavailable where it has none."""
    return {**declaration(HOME / name / "application.yaml"), **declaration(_file(name))}


def prepare_zoo(directory: Path, names: Sequence[str] = NAMES) -> None:
    """Write `directory`/NAME for each name, with the zoo's models and its data. Raises DataUnavailable as `prepare`
    does, or for an application without a zoo; nothing is written then."""
    models = {name: [spec["model"] for spec in declared(name)["variants"].values()] for name in names}
    prepare(directory, names)
    for name, files in models.items():
        place = directory / name
        own = declaration(place / "application.yaml")["variants"]
        for variant in own.values():
            shutil.rmtree((place / variant["model"]).parent)
        written = place / "application.yaml"
        fragment = _file(name).read_text(encoding="utf-8")
        written.write_text(instead(written.read_text(encoding="utf-8"), fragment), encoding="utf-8")
        for file in files:
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(HOME / name / file, place / file)


def instead(written: str, variants: str) -> str:
    """A declaration with these variants for its own; all else stays as it was written, comments too.

    >>> print(instead("application: a\\nvariants:\\n  b:\\n    model: b\\nvalidation: v\\n", "variants: {}\\n"), end="")
    application: a
    variants: {}
    validation: v
    """
    return _VARIANTS.sub(lambda _: variants, written, count=1)


def _file(name: str) -> Path:
    place = HOME / name / DECLARED
    if not place.is_file():
        raise DataUnavailable(f"{name!r} comes without a zoo; these have one: {', '.join(NAMES)}")
    return place


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    whom = "all that have one, if none is named"
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=whom)
    given = parser.parse_args()
    prepare_zoo(given.directory, given.names or NAMES)
