"""Clients that are programs: `mlserver infer`, perf_analyzer, schemathesis; and scripts for other interpreters."""

import csv
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

from tests.whole.outside.checks import AMPLE_US, Target
from tests.whole.outside.environments import Installed

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "clients.md"
# Requests a second, open loop: what a small box answers without falling behind.
RATE = 50
# The shortest that perf_analyzer measures thrice.
WINDOW_MS = 2000
LINES = 60


@dataclass(frozen=True)
class Row:
    """What one check came to. `passed` is None for what could not be tried here."""

    client: str
    check: str
    what: str
    passed: bool | None
    seen: str
    took_s: float = 0.0


class Failed(Exception):
    """What was seen instead of what must be."""


def script(
    client: str, module: str, which: str, env: Installed, target: Target, folder: Path
) -> Iterator[Row]:
    """The checks of a script of this folder, by the interpreter of `env`."""
    told = folder / "target.json"
    told.write_text(json.dumps(asdict(target)))
    command = [env.python, "-m", f"outside.{module}", which, str(told)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    log = folder / f"{module}-{which}.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=folder
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            yield Row(client, **json.loads(line))
    if process.returncode:
        said = log.read_text().strip().splitlines() or [f"exit status {process.returncode}"]
        yield Row(client, "the script", "runs to its end", False, said[-1])


def snippets(client: str, heading: str, env: Installed, target: Target, folder: Path) -> Iterator[Row]:
    """The Python of docs/clients.md under a heading, as it stands there but for the addresses."""
    if target.model != "digits":
        return
    for number, code in enumerate(python_of(heading), 1):
        began = perf_counter()
        code = code.replace("localhost:8000", target.http).replace("localhost:8001", target.grpc)
        name, what = f"docs/clients.md, {heading}, {number}", "the page's own lines run"
        try:
            seen = " / ".join(_done([env.python, "-c", code], folder).split("\n")[:4]).strip(" /")
        except Failed as error:
            yield Row(client, name, what, False, str(error), perf_counter() - began)
        else:
            yield Row(client, name, what, True, seen, perf_counter() - began)


def python_of(heading: str) -> list[str]:
    """The blocks of Python under a heading of docs/clients.md."""
    _, _, rest = PAGE.read_text().partition(f"\n## {heading}\n")
    return re.findall(r"```python\n(.*?)```", rest.partition("\n## ")[0], re.S)


def mlserver(client: str, env: Installed, target: Target, folder: Path) -> Iterator[Row]:
    """The batch driver: a file of requests in, a file of answers out."""
    rows = target.rows(LINES)
    asked = folder / "requests.jsonl"
    with asked.open("w") as file:
        for i, row in enumerate(rows):
            tensor = {"name": target.input, "shape": [1, *row.shape], "datatype": target.datatype}
            tensor["data"] = row.ravel().tolist()
            file.write(json.dumps({"id": str(i), "inputs": [tensor]}) + "\n")
    for name, more in {
        "requests one by one": [],
        "binary tensors": ["-b"],
        "micro batches of 8, 3 workers": ["-s", "8", "-w", "3"],
    }.items():
        began = perf_counter()
        what = f"{LINES} lines of requests: {' '.join(['mlserver infer', *more])}"
        try:
            seen = _batch(env, target, asked, folder / "answers.jsonl", more)
        except Failed as error:
            yield Row(client, name, what, False, str(error), perf_counter() - began)
        else:
            yield Row(client, name, what, True, seen, perf_counter() - began)


def _batch(env: Installed, target: Target, asked: Path, answers: Path, more: list[str]) -> str:
    answers.unlink(missing_ok=True)
    command = [env.program("mlserver"), "infer", "-u", target.http, "-m", target.model, "-i", str(asked)]
    command += ["-o", str(answers), "-H", f"x-request-timeout-seconds: {AMPLE_US / 1e6:g}", *more]
    _done(command, asked.parent)
    told = [json.loads(line) for line in answers.read_text().splitlines()]
    wrong = [answer["error"] for answer in told if "error" in answer]
    if wrong or len(told) != LINES:
        raise Failed(f"{len(told)} answers to {LINES} lines, {len(wrong)} of them errors: {wrong[:1]}")
    if len({answer["parameters"]["batch_index"] for answer in told}) != LINES:
        raise Failed("some line was answered twice")
    names = {output["name"] for output in told[0]["outputs"]}
    return f"{len(told)} answers, no error; outputs {', '.join(sorted(names))}"


def perf_analyzer(client: str, env: Installed, target: Target, folder: Path) -> Iterator[Row]:
    """Closed loop, Poisson, and gaps from a file, at both doors, with real rows of the application."""
    data, gaps = folder / "rows.json", folder / "gaps.txt"
    rows = target.rows(40)
    entries = [{target.input: {"content": row.ravel().tolist(), "shape": list(row.shape)}} for row in rows]
    data.write_text(json.dumps({"data": entries}))
    chance = random.Random(7)
    gaps.write_text("".join(f"{max(round(chance.expovariate(RATE) * 1e6), 1)}\n" for _ in range(100)))
    kinds = {
        "concurrency 2": ["--concurrency-range", "2"],
        f"Poisson, {RATE}/s": ["--request-distribution", "poisson", "--request-rate-range", str(RATE)],
        "gaps from a file": ["--request-intervals", str(gaps)],
    }
    ample = {
        "http": ["-H", f"x-request-timeout-seconds:{AMPLE_US / 1e6:g}"],
        "grpc": ["--request-parameter", f"timeout:{AMPLE_US}:int"],
    }
    for door, address in (("http", target.http), ("grpc", target.grpc)):
        for name, options in kinds.items():
            began = perf_counter()
            shown = " ".join(gaps.name if part == str(gaps) else part for part in options)
            what = f"perf_analyzer -i {door} {shown}"
            command = [env.program("perf_analyzer"), "-m", target.model, "-u", address, "-i", door]
            command += [*options, *ample[door], "--input-data", str(data), "-p", str(WINDOW_MS), "-s", "999"]
            try:
                seen = _measured(command, env, target, folder / "report.csv")
            except Failed as error:
                yield Row(client, f"{door}: {name}", what, False, str(error), perf_counter() - began)
            else:
                yield Row(client, f"{door}: {name}", what, True, seen, perf_counter() - began)


def _measured(command: list[str], env: Installed, target: Target, report: Path) -> str:
    report.unlink(missing_ok=True)
    before = _counts(target)
    out = _done(
        [*command, "-r", "3", "-f", str(report)], report.parent, {"LD_LIBRARY_PATH": env.library_path}
    )
    after = _counts(target)
    found = re.search(r"Request count: (\d+)", out)
    if found is None or not int(found[1]):
        raise Failed(f"it measured no request: {out.strip().splitlines()[-1]}")
    (line,) = csv.DictReader(report.read_text().splitlines())
    served, failed = after[0] - before[0], after[1] - before[1]
    if failed or served < int(found[1]):
        raise Failed(f"it counted {found[1]} requests; the server {served} answered and {failed} failed")
    told = {name: float(line[name]) / 1e3 for name in ("p50 latency", "p99 latency")}
    return (
        f"{found[1]} requests, {float(line['Inferences/Second']):.0f}/s, p50 {told['p50 latency']:.1f} ms, "
        f"p99 {told['p99 latency']:.1f} ms; none failed"
    )


def _counts(target: Target) -> tuple[int, int]:
    """Successes and failures of the model, as the server counts them."""
    (told,) = asked(target.http, f"/v2/models/{target.model}/stats")["model_stats"]
    return told["inference_stats"]["success"]["count"], told["inference_stats"]["fail"]["count"]


def schemathesis(client: str, env: Installed, target: Target, cases: int, folder: Path) -> Iterator[Row]:
    """Both documents, the protocol's (repaired) and ours, by tests/whole/fuzz.py."""
    began = perf_counter()
    command = [env.python, str(HERE.parent / "fuzz.py"), target.http, "--cases", str(cases)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    report = env.root.parent / "schemathesis.log"  # the folder goes, and a failure is not told in a line
    report.write_text(done.stdout + done.stderr)
    lines = [line for line in done.stdout.splitlines() if "cases" in line and "wrong" in line]
    told = [line for line in done.stdout.splitlines() if line.lstrip().startswith("- ")][:3]
    seen = "; ".join(told + lines[-4:]) or (done.stderr.strip().splitlines() or ["nothing"])[-1]
    if done.returncode:
        seen += f"; all of it is in {report}"
    what = f"python -m tests.whole.fuzz {cases} cases: no 5xx but 501, 503, 504; nothing undocumented"
    yield Row(client, f"{cases} cases", what, done.returncode == 0, seen, perf_counter() - began)


def asked(address: str, path: str, body: bytes | None = None) -> Any:
    with urlopen(Request(f"http://{address}{path}", body), timeout=10) as answer:
        return json.load(answer)


def _slowest_ms(properties: dict[str, str], variant: str) -> float:
    """A row's time on the slowest device that this variant is profiled on."""
    prefix = f"latency_ms.{variant}."
    return max((float(told) for name, told in properties.items() if name.startswith(prefix)), default=0.0)


def _done(command: list[str], folder: Path, more: dict[str, str] | None = None) -> str:
    """What a program printed; Failed if it ends with another status than 0, or not at all."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, **(more or {})},
        )
    except subprocess.TimeoutExpired:
        raise Failed("it did not end within 300 s") from None
    if done.returncode:
        lines = (done.stdout + "\n" + done.stderr).strip().splitlines() or ["nothing"]
        raise Failed(f"exit status {done.returncode}: {' / '.join(lines[-2:])}")
    return done.stdout


def target_of(repository: Path, http: str, grpc: str, model: str, folder: Path) -> Target:
    """What there is at these doors, with data from the application's own test split. `model`: "" for the first whose
    rows all have one shape."""
    names = list(dict.fromkeys(entry["name"] for entry in asked(http, "/v2/repository/index", b"")))
    for name in [model] if model else names:
        told = asked(http, f"/v2/models/{name}")
        if len(told["inputs"]) == 1 and -1 not in told["inputs"][0]["shape"][1:]:
            break
    else:
        sys.exit(f"no application of {repository} has one input of one shape; there are {', '.join(names)}")
    (tensor,) = told["inputs"]
    with np.load(repository / name / "test.npz") as archive:
        rows = archive[tensor["name"]][:64].astype(np.float32)
    np.savez(folder / "rows.npz", **{tensor["name"]: rows})
    times = {v: _slowest_ms(told["properties"], v) for v in told["versions"]}
    return Target(
        http=http,
        grpc=grpc,
        model=name,
        variants=told["versions"],
        pinned=told["versions"][0],
        dearest=max(times, key=lambda variant: times[variant]),
        input=tensor["name"],
        datatype=tensor["datatype"],
        classes=told["properties"]["classes"].split(","),
        data=str(folder / "rows.npz"),
        folder=str(repository.resolve() / name),
    )
