"""The server's own cost: `python bench/bench_server.py [--json]`.

Against ONNX Runtime in this very process, on the cheapest pinned variant of digits: CPU time of front and worker for
each request, latency, and how many requests a second pass at 1, 8 and 64 in flight; beside it start to ready, and the
memory of front and worker when idle with the demo's repository loaded. Ratios come from one run; medians over repeats.
"""

import argparse
import asyncio
import contextlib
import io
import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from peekserve.applications.prepare import prepare
from peekserve.cli.assembly import bound_to, lay_out
from peekserve.cli.launch import ServerProcess
from peekserve.cli.profile import profile
from peekserve.domain.application import Variant
from peekserve.loadgen.client import Call, Reply, send
from peekserve.registry.repository import read_repository
from peekserve.registry.settings import read_settings
from peekserve.runtimes.onnx import OnnxRuntime

REPEATS = 3
VARIANT = "mlp"
RATES = (("json", 100), ("json", 400), ("binary", 100), ("binary", 400))


def in_process_s(variant: Variant, image: np.ndarray) -> float:
    """Median seconds of one row through the runtime, in this process."""
    runtime = OnnxRuntime()
    runtime.load(variant, 10)
    taken = []
    for _ in range(3000):
        started = time.perf_counter()
        runtime.run(variant, 10, {"image": image})
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def a_call(variant: str, image: np.ndarray, binary: bool, at: float = 0.0) -> Call:
    tensor = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32"}
    path = f"/v2/models/digits/versions/{variant}/infer"
    asked = {
        "outputs": [{"name": "label", "parameters": {"binary_data": False}}],
        "parameters": {"deadline_ms": 5000},
    }
    if not binary:
        body = json.dumps({"inputs": [{**tensor, "data": image.ravel().tolist()}], **asked}).encode()
        return Call(at, path, body, {"Content-Type": "application/json"})
    raw = image.tobytes()
    head = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}], **asked}
    ).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Call(at, path, head + raw, headers)


class Usage:
    """CPU seconds of the front and of its workers since this was made."""

    def __init__(self, pid: int) -> None:
        self._front = psutil.Process(pid)
        self._workers = self._front.children(recursive=True)
        self._before = self._now()

    def _now(self) -> tuple[float, float]:
        def cpu(process: psutil.Process) -> float:
            times = process.cpu_times()
            return times.user + times.system

        return cpu(self._front), sum(cpu(w) for w in self._workers)

    def since(self) -> tuple[float, float]:
        front, workers = self._now()
        return front - self._before[0], workers - self._before[1]

    def memory_mib(self) -> tuple[float, float]:
        """Proportional set size: pages shared by front and worker are counted once."""
        pss = [p.memory_full_info().pss / 2**20 for p in (self._front, *self._workers)]
        return pss[0], sum(pss[1:])


def at_rate(
    server: ServerProcess, front: tuple[int, ...], call: Call, rate: int, seconds: float
) -> dict[str, float]:
    """Evenly spaced requests: CPU of front and worker for each, and the median and p99 of the latency."""
    calls = [Call(i / rate, call.path, call.body, call.headers) for i in range(int(rate * seconds))]
    usage = Usage(server.pid)
    with bound_to(front):
        replies: list[Reply] = asyncio.run(send(server.http, calls))
    front_s, worker_s = usage.since()
    failed = sum(r.status != 200 for r in replies)
    if failed:
        raise SystemExit(
            f"{failed} of {len(replies)} requests failed: {next(r for r in replies if r.status != 200)}"
        )
    latency = np.array([r.done_at - r.sent_at for r in replies])
    return {
        "front_us": front_s / len(calls) * 1e6,
        "worker_us": worker_s / len(calls) * 1e6,
        "p50_us": float(np.median(latency)) * 1e6,
        "p99_us": float(np.quantile(latency, 0.99)) * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "repository"
        prepare(root)
        with contextlib.redirect_stdout(io.StringIO()):
            profile(root, None, quick=True, again=False, as_json=True)
        told = measure(root, Path(folder) / "log")
    if arguments.json:
        print(json.dumps(told))
        return
    print(f"ONNX Runtime in this process, one row: {told['in_process_us']:.0f} us")
    print(f"start to ready: {told['ready_s']:.2f} s (median of {REPEATS})")
    print(f"idle memory (PSS): front {told['front_mib']:.0f} MiB, worker {told['worker_mib']:.0f} MiB")
    print(
        f"{'':16}{'front us':>10}{'worker us':>11}{'p50 us':>9}{'p99 us':>9}   (for each request, median of {REPEATS})"
    )
    for name, row in told["rates"].items():
        print(
            f"{name:16}{row['front_us']:10.0f}{row['worker_us']:11.0f}{row['p50_us']:9.0f}{row['p99_us']:9.0f}"
        )


def measure(root: Path, log: Path) -> dict[str, Any]:
    variant = read_repository(root).application("digits").variant(VARIANT)
    front = lay_out(read_settings(root)[0]).front
    with np.load(root / "digits" / "test.npz") as archive:
        image = archive["image"][:1].astype(np.float32)
    settings = {"log": "error", "policy.aware": "false", "policy.short_circuit": "false", "on_miss": "reject"}
    ready, memory, runs = [], [], defaultdict(list)
    for _ in range(REPEATS):
        started = time.perf_counter()
        with ServerProcess(root, settings, log) as server:
            ready.append(time.perf_counter() - started)
            memory.append(Usage(server.pid).memory_mib())
            for form, rate in RATES:
                call = a_call(VARIANT, image, form == "binary")
                at_rate(server, front, call, rate, 0.5)
                runs[f"{form} {rate}/s"].append(at_rate(server, front, call, rate, 3.0))
    return {
        "in_process_us": in_process_s(variant, image) * 1e6,
        "ready_s": statistics.median(ready),
        "front_mib": statistics.median(f for f, _ in memory),
        "worker_mib": statistics.median(w for _, w in memory),
        "rates": {
            name: {key: statistics.median(run[key] for run in several) for key in several[0]}
            for name, several in runs.items()
        },
    }


if __name__ == "__main__":
    main()
