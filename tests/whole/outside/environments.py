"""An environment of its own for each client, made once and kept in a cache folder."""

import ctypes.util
import hashlib
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path


class NotHere(Exception):
    """This client cannot be installed on this machine; the message says why."""


@dataclass(frozen=True)
class Environment:
    """Packages that are installed together. `programs` must be among what they bring; `libraries` are Debian packages
    by the library that they hold, for programs that link against it."""

    name: str
    packages: tuple[str, ...]
    programs: tuple[str, ...] = ()
    libraries: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Installed:
    """Where an environment lies."""

    root: Path

    @property
    def python(self) -> str:
        return str(self.root / "bin" / "python")

    def program(self, name: str) -> str:
        return str(self.root / "bin" / name)

    @property
    def library_path(self) -> str:
        """For LD_LIBRARY_PATH: unpacked Debian packages, and NVIDIA's libraries from wheels."""
        multiarch = sysconfig.get_config_var("MULTIARCH") or ""
        found = [self.root / "debian" / "usr" / "lib" / multiarch, self.root / "debian" / "usr" / "lib"]
        found += sorted(self.root.glob("lib/python*/site-packages/nvidia/*/lib"))
        return ":".join(str(folder) for folder in found if folder.is_dir())


TRITON = Environment("tritonclient", ("tritonclient[http,grpc]==2.73.0",))
KSERVE = Environment("kserve", ("kserve==0.21.0",))
MLSERVER = Environment("mlserver", ("mlserver==1.7.1",), ("mlserver",))
# The last wheel with the program; its CUDA runtime is linked, though nothing here has a GPU.
PERF_ANALYZER = Environment(
    "perf_analyzer",
    ("tritonclient[http]==2.44.0", "nvidia-cuda-runtime-cu12"),
    ("perf_analyzer",),
    (("b64", "libb64-0d"),),
)
SCHEMATHESIS = Environment("schemathesis", ("schemathesis==4.32.5", "pyyaml"))


def installed(environment: Environment, cache: Path) -> Installed:
    """The environment, made now if it is not there yet. Raises NotHere."""
    told = repr((sys.version_info[:2], environment))
    root = cache / f"{environment.name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    done = root / ".done"
    if not done.exists():
        cache.mkdir(parents=True, exist_ok=True)
        venv.create(root, clear=True, with_pip=True)
        quietly = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        run([str(root / "bin" / "python"), *quietly, *environment.packages], "pip")
        for library, package in environment.libraries:
            if ctypes.util.find_library(library) is None:
                _unpack(package, root / "debian")
        for program in environment.programs:
            if not (root / "bin" / program).exists():
                raise NotHere(f"{environment.packages[0]} has no {program} for this machine")
        done.touch()
    return Installed(root)


def _unpack(package: str, folder: Path) -> None:
    """A Debian package's files, without installing it: nobody has to be root."""
    folder.mkdir(exist_ok=True)
    run(["apt-get", "download", package], "apt-get", folder)
    for archive in folder.glob(f"{package}_*.deb"):
        run(["dpkg", "-x", str(archive), str(folder)], "dpkg")


def run(command: list[str], name: str, folder: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise NotHere(f"{name} is not on this machine") from None
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        wrong = [line for line in lines if line.startswith(("ERROR", "E:"))] or lines
        raise NotHere(f"{name}: {wrong[-1] if wrong else done.returncode}")
