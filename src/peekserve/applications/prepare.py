"""Writes a repository of applications: declarations and models from this package, data from other packages or files.

The data are read in processes of their own, which end and take pandas and scikit-learn with them.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from peekserve.errors import DataUnavailable, UnknownApplication
from peekserve.registry.datasets import DATASETS, dataset_file, trained_models

HOME = Path(__file__).parent
# What must be installed for each application's data; seglearn uses pandas without saying so.
NEEDS = {"digits": ("sklearn",), "watch": ("seglearn", "pandas"), "appliances": ("sktime",)}
NAMES = tuple(NEEDS)  # the demo's
# Those whose data lie in files: application -> data set.
FILES = {"ecg": "mitbih_beats", "keywords": "speech_commands_test", "falls": "umafall"}
# Their models are not shipped: the licence of the data is unclear.
TRAINED_BESIDE_THEIR_DATA = ("falls",)
ALL = (*NAMES, *FILES)
SETTINGS = "peekserve.yaml"
SUPERNETS = "supernets.yaml"  # what is added to the declaration of an application
WRITTEN = ("reference", "validation", "test")
PATIENCE_S = 300.0


def models(name: str) -> list[Path]:
    """The models of an application, by name of the variant: those shipped, or those trained beside their data.

    Raises DataUnavailable, with the command that trains them, where the latter are absent.
    """
    if name in TRAINED_BESIDE_THEIR_DATA:
        return trained_models(name)
    return sorted((HOME / name / "models").glob("*.onnx"))


def with_supernets(name: str) -> bool:
    """Does the application come with supernets whose graphs are exported?"""
    return (HOME / name / "supernets" / SUPERNETS).is_file()


def prepare(directory: Path, names: Sequence[str] = NAMES, supernets: bool = False) -> None:
    """Write `directory`/NAME for each name: application.yaml, VARIANT/model.onnx, and the labelled data as npz.

    An npz holds one float32 array per input, `labels` and `groups` (int64), and for a ragged input also
    `NAME_length` (int64). With `supernets`, those that come with it are written, too, and those with exported graphs
    are declared; the others wait for `peekserve supernet export` (docs/supernets.md). Raises UnknownApplication, or
    DataUnavailable where a package of the extra `peekserve[demo]`, a data set's file, or a model that is trained beside
    its data is missing; nothing is written then.
    """
    for name in names:
        if name not in ALL:
            raise UnknownApplication(f"there is no demo application {name!r}; there are {', '.join(ALL)}")
        if name in NEEDS:
            require(name, NEEDS[name])
        else:
            dataset_file(DATASETS[FILES[name]].file)
        models(name)
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HOME / SETTINGS, directory / SETTINGS)
    for name in names:
        place = directory / name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HOME / name / "application.yaml", place / "application.yaml")
        for model in models(name):
            (place / model.stem).mkdir(exist_ok=True)
            shutil.copyfile(model, place / model.stem / "model.onnx")
        if supernets and with_supernets(name):
            _add_supernets(HOME / name / "supernets", place)
        with tempfile.TemporaryDirectory() as scratch:
            load_elsewhere(name, Path(scratch))
            for part in WRITTEN:
                shutil.copyfile(Path(scratch) / f"{part}.npz", place / f"{part}.npz")


def _add_supernets(home: Path, place: Path) -> None:
    with (place / "application.yaml").open("a") as declaration:
        declaration.write((home / SUPERNETS).read_text())
    for folder in sorted(path.parent for path in home.glob("*/supernet.json")):
        shutil.copytree(folder, place / folder.name, ignore=shutil.ignore_patterns("separate", "*.md"))


def require(name: str, packages: Sequence[str]) -> None:
    """Raises DataUnavailable, naming the packages that are not installed."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise DataUnavailable(
            f"the data of {name!r} come with {' and '.join(missing)}, not installed here: pip install 'peekserve[demo]'"
        )


def load_elsewhere(name: str, out: Path) -> None:
    """Run the application's loader in a process of its own; it writes train, reference, validation, test as npz."""
    command = [sys.executable, "-m", f"peekserve.applications.{name}.load", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise DataUnavailable(f"the data of {name!r} could not be read ({last}); {remedy(name)}")


def remedy(name: str) -> str:
    """What to try where data are here but cannot be read."""
    if name in FILES:
        return f"is the file whole? `peekserve data fetch {FILES[name]} --again` gets it anew"
    return "are the versions those of 'peekserve[demo]'?"
