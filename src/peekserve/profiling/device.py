"""Which device a timing belongs to."""

import os
import platform
import re
from hashlib import sha256
from pathlib import Path

# Where each kind of machine says what its processor is: x86, then arm (which names parts by number), then boards.
_LINES = ("model name", "Hardware", "CPU part", "cpu model")
_BOARD = Path("/proc/device-tree/model")


def fingerprint(cpuinfo: str | None = None, cores: int | None = None, machine: str | None = None) -> str:
    """A short name of this machine's processor that stays the same over restarts: timings count on it alone.

    The runtime's version is not in it: another version warns, another device is refused. The arguments, for tests,
    default to this machine's own.

    >>> fingerprint("model name : Example CPU 3000 @ 2.0GHz", cores=4, machine="x86_64")
    'example-cpu-3000-2.0ghz-4c-x86_64-f9b0'
    """
    text = _read(Path("/proc/cpuinfo")) if cpuinfo is None else cpuinfo
    machine = machine or platform.machine()
    cores = cores or os.cpu_count() or 1
    pairs = (line.partition(":") for line in text.splitlines())
    said = {key.strip(): value.strip() for key, _, value in pairs}
    model = next((said[key] for key in _LINES if said.get(key)), "")
    board = "" if cpuinfo is not None else _read(_BOARD).strip("\0\n ")
    # What the short name leaves out still tells two machines apart.
    digest = sha256(f"{model}|{board}|{said.get('CPU revision', '')}|{cores}|{machine}".encode()).hexdigest()[
        :4
    ]
    name = re.sub(r"[^a-z0-9.]+", "-", (board or model or "cpu").lower()).strip("-.")[:32].strip("-.")
    return f"{name}-{cores}c-{machine}-{digest}"


def fingerprint_of(device: str) -> str:
    """What timings of a worker's device are kept under. A device that says more than its kind (a framework of its
    own, or which of several accelerators: "cpu:torch", "cuda:0") has timings of its own."""
    return f"{fingerprint()}+{device}" if ":" in device else fingerprint()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
