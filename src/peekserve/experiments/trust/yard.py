"""A repository to break servers on: the demo's digits, prepared and profiled once; and ways to ask its server."""

import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from peekserve.applications.prepare import prepare
from peekserve.cli.assembly import lay_out, open_store, read_profiled
from peekserve.domain.application import Application
from peekserve.experiments.trust.large import add_large
from peekserve.experiments.workload import Workload
from peekserve.loadgen.arrivals import Instants, mixed
from peekserve.loadgen.client import Call
from peekserve.registry.labelled import Labelled, read_labelled
from peekserve.registry.settings import read_settings

NAME = "digits"
# What a server here is told besides what an experiment wants: room for every variant at once.
SETTINGS = {"log": "error", "workers": json.dumps([{"device": "cpu:0", "memory": "192MiB"}])}


@dataclass(frozen=True, slots=True)
class Yard:
    """`folder` goes with it. `cores`: the front's, which the load is sent from, too."""

    folder: TemporaryDirectory[str]
    root: Path
    application: Application
    labelled: Labelled
    cores: tuple[int, ...]

    @property
    def log(self) -> Path:
        """Where its servers say what is wrong."""
        return Path(self.folder.name) / "server.log"

    def calls(self, instants: Instants, rng: np.random.Generator) -> tuple[Workload, list[Call]]:
        """Requests of one row each at these instants, with samples drawn from the test data."""
        arrivals = mixed(instants, {NAME: 1.0}, {NAME: self.labelled.rows}, rng)
        workload = Workload({NAME: self.application}, {NAME: self.labelled}, arrivals)
        return workload, workload.calls()


@lru_cache(maxsize=2)
def yard(big: bool = False) -> Yard:
    """Prepared and profiled quickly. `big`: with a variant of tens of MiB besides. Raises DataUnavailable where a
    package with data, or for `big` the package onnx, is missing."""
    folder = TemporaryDirectory(prefix="peekserve-yard-")
    root = Path(folder.name) / "repository"
    prepare(root, [NAME])
    if big:
        add_large(root / NAME)
    # In a process of its own: it prints, and binds itself to cores.
    command = [sys.executable, "-m", "peekserve.cli.main", "profile", str(root), "--quick", "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    settings, _ = read_settings(root, os.environ)
    layout = lay_out(settings)
    with open_store(root, settings) as store:
        (application,) = read_profiled(root, store, [layout.slots[0].device], lambda _: None)
    labelled = read_labelled(root / NAME / "test.npz", application)
    return Yard(folder, root, application, labelled, layout.front)


@contextmanager
def yard_copy(of: Yard) -> Iterator[Yard]:
    """The same with a repository and a state of its own, to leave things in."""
    folder = TemporaryDirectory(prefix="peekserve-yard-")
    with folder:
        root = Path(folder.name) / "repository"
        shutil.copytree(of.root, root)
        yield replace(of, folder=folder, root=root)


def dearest_s(application: Application) -> float:
    """Of the most accurate variant, one row, as profiled."""
    best = max(application.variants, key=lambda v: v.quality.accuracy if v.quality else 0.0)
    return next(iter(best.timing.values())).curve(0).seconds(1)


# ---- asking ----


def with_key(calls: Sequence[Call], key: str) -> list[Call]:
    return [replace(call, headers={**call.headers, **bearing(key)}) for call in calls]


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def ask(base: str, method: str, path: str, told: Any = None, headers: Mapping[str, str] | None = None) -> Any:
    """One request, and what its answer's JSON says: (status, told). What is told goes as JSON, bytes as they are.
    Raises OSError where nobody answers."""
    connection = http.client.HTTPConnection(base, timeout=60.0)
    try:
        body = told if told is None or isinstance(told, bytes) else json.dumps(told)
        connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
        reply = connection.getresponse()
        said = reply.read()
        return reply.status, json.loads(said) if said else None
    except http.client.HTTPException as error:  # cut off in the middle of an answer
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()
