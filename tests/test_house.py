"""The shape of the house: which room may import which, how big a file may be, what `import peekserve` costs."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
HOUSE = SRC / "peekserve"

# Which way the arrows point. A room is a folder or a top-level file; it may import itself and what is listed.
GROUND = {"domain", "errors", "clock"}
PURE = GROUND | {"kernel", "awareness", "cascades", "results", "policies", "core"}
EDGES = {"workers", "runtimes", "peeking", "profiling", "registry", "state", "loadgen", "config", "supernets"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "clock": set(),
    "domain": {"errors"},
    "kernel": set(),
    "awareness": {"domain", "errors"},
    "cascades": {"domain", "errors"},
    "results": {"domain", "errors"},
    "policies": {"kernel", "awareness", "domain", "errors"},
    "core": {"policies", "awareness", "cascades", "domain", "errors"},
    "config": {"domain", "errors"},
    "loadgen": GROUND | {"config", "results"},
    "runtimes": GROUND | {"awareness", "supernets"},
    "supernets": GROUND | {"awareness"},
    "workers": GROUND | {"awareness", "runtimes"},
    "peeking": GROUND | {"awareness"},
    "profiling": GROUND | {"awareness", "peeking", "runtimes"},
    "registry": GROUND
    | {"awareness", "policies", "config", "peeking", "profiling", "runtimes", "state", "supernets"},
    "state": GROUND | {"awareness"},
    "applications": GROUND | {"config", "registry", "supernets"},
    "sim": PURE | {"loadgen", "runtimes"},
    "live": PURE | {"workers", "runtimes", "peeking", "state"},
    "planner": PURE | {"sim", "loadgen"},
    "server": PURE | EDGES | {"live"},
    "cluster": PURE | EDGES | {"live"},
}
ANYTHING = {"cli", "experiments", "__init__", "__main__"}

# Rooms that stay importable on a laptop with nothing but numpy.
NUMPY_ALONE = PURE | {"sim"}
# ... but for these, which import what they need when it is first asked of them.
AT_LAST = {"policies/allocation.py"}

# Who may import what from outside. A package that is not here yet needs a line, and with it a thought.
OUTSIDE: dict[str, list[str]] = {
    "numpy": ["*"],
    "cython": ["kernel/*"],
    "msgspec": ["*"],
    "yaml": ["config.py", "registry/*", "cli/*", "applications/direct.py"],
    "psutil": ["workers/*", "profiling/*", "server/*", "cli/*"],
    "faiss": ["peeking/indexes.py"],
    "onnxruntime": [
        "runtimes/onnx.py",
        "runtimes/shared.py",
        "peeking/*onnx*.py",
        "applications/direct.py",
        "applications/card.py",
    ],
    "safetensors": ["supernets/storage.py"],
    "onnx": [
        "applications/*",
        "supernets/export.py",
        "supernets/prefixes.py",
        "experiments/trust/large.py",
        "experiments/hostile_files.py",
    ],
    "torch": ["applications/*", "supernets/*", "runtimes/elastic.py"],
    "starlette": ["server/*"],
    "uvicorn": ["server/*"],
    "httptools": ["server/*", "loadgen/client.py"],
    "uvloop": ["live/loop.py"],
    "structlog": ["server/*", "cli/*"],
    "prometheus_client": ["server/telemetry.py"],
    "grpc": ["server/oip*.py", "experiments/attacks_grpc.py"],
    "grpc_health": ["server/oip*.py"],
    "grpc_reflection": ["server/oip*.py"],
    "google": ["server/oip*.py"],
    "typer": ["cli/*"],
    "rich": ["cli/*"],
    "ray": ["cluster/*"],
    "sklearn": ["applications/*"],
    "pandas": ["applications/*"],
    "seglearn": ["applications/*"],
    "sktime": ["applications/*"],
    "scipy": [
        "applications/*",
        "experiments/superserve/oracle.py",
        "planner/balance.py",
        "policies/allocation.py",
    ],
    "matplotlib": ["experiments/plot.py"],
}
HEAVY = sorted(set(OUTSIDE) - {"numpy", "cython", "msgspec", "yaml", "google"})
LONGEST_FILE = 400
# A class each, which Cython does not divide.
LONGER = {"kernel/loops.py", "kernel/slots.py", "kernel/search.py"}


def python_files() -> Iterator[tuple[str, Path]]:
    for path in sorted(HOUSE.rglob("*.py")):
        yield path.relative_to(HOUSE).as_posix(), path


def room_of(parts: list[str]) -> str:
    """The room of `["peekserve", "core", "fleet"]` is core; of `["peekserve"]` it is the front hall."""
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(relative: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Every module that a file imports, dotted parts, wherever in the file the import stands."""
    package = ["peekserve", *relative.split("/")[:-1]]
    for node in ast.walk(ast.parse(path.read_text(), relative)):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name != "peekserve":  # to ask where the package lies, which is no arrow
                    yield node.lineno, name.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = above + (node.module.split(".") if node.module else [])
            if base == ["peekserve"]:  # `from peekserve import core` names a room only here
                for name in node.names:
                    is_room = (HOUSE / name.name).is_dir() or (HOUSE / f"{name.name}.py").exists()
                    yield node.lineno, [*base, name.name] if is_room else base
            else:
                yield node.lineno, base


def test_arrows_point_down():
    wrong = []
    for relative, path in python_files():
        room = room_of(["peekserve", *relative.removesuffix(".py").split("/")])
        if room in ANYTHING:
            continue
        if room not in MAY_IMPORT:
            wrong.append(f"{relative}: {room} is not on the map: say here what it may import")
            continue
        for line, parts in imports_of(relative, path):
            if parts[0] == "peekserve" and room_of(parts) not in MAY_IMPORT[room] | {room}:
                allowed = ", ".join(sorted(MAY_IMPORT[room])) or "nothing of ours"
                wrong.append(f"{relative}:{line} imports {'.'.join(parts)}; {room} may import {allowed}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_what_comes_from_outside_is_imported_in_few_places():
    wrong = []
    for relative, path in python_files():
        room = room_of(["peekserve", *relative.removesuffix(".py").split("/")])
        for line, parts in imports_of(relative, path):
            package = parts[0]
            if package == "peekserve" or package in sys.stdlib_module_names:
                continue
            if package not in OUTSIDE:
                wrong.append(f"{relative}:{line} imports {package}: say here where it may be imported")
            elif not any(fnmatch(relative, pattern) for pattern in OUTSIDE[package]):
                wrong.append(
                    f"{relative}:{line} imports {package}; that belongs in {', '.join(OUTSIDE[package])}"
                )
            elif room in NUMPY_ALONE and package not in ("numpy", "cython") and relative not in AT_LAST:
                wrong.append(f"{relative}:{line} imports {package}; {room} runs with numpy alone")
    assert not wrong, "\n" + "\n".join(wrong)


def test_no_file_is_too_long():
    lengths = {relative: len(path.read_text().splitlines()) for relative, path in python_files()}
    too_long = {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE and name not in LONGER}
    assert not too_long, (
        f"over {LONGEST_FILE} lines, so two ideas: name the second and give it a file: {too_long}"
    )


def in_a_fresh_python(code: str, path: Path = SRC, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PEEKSERVE_KERNEL"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"PYTHONPATH": str(path)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_importing_peekserve_loads_nothing_heavy():
    done = in_a_fresh_python(f"import sys, peekserve; print(*(set({HEAVY}) & set(sys.modules)))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_the_compiled_kernel_is_in_use_where_that_is_required():
    from peekserve import kernel

    if os.environ.get("PEEKSERVE_REQUIRE_COMPILED") != "1":
        pytest.skip("PEEKSERVE_REQUIRE_COMPILED is not 1")
    assert kernel.COMPILED, "run `make build`"
    assert kernel.loops.SOURCE_SHA256
    assert kernel.interpreted().__file__.endswith("loops.py")


def test_the_kernel_runs_interpreted_where_cython_is_absent():
    code = """
import sys
sys.modules["cython"] = None  # import of it now raises ModuleNotFoundError
from peekserve import kernel
from peekserve.kernel.loops import cython
print(kernel.COMPILED, cython.__name__)
"""
    done = in_a_fresh_python(code, PEEKSERVE_KERNEL="interpreted")
    assert done.stdout.split() == ["False", "peekserve.kernel._shim"], done.stderr


@pytest.fixture
def a_copied_kernel(tmp_path: Path) -> Path:
    shutil.copytree(HOUSE / "kernel", tmp_path / "peekserve" / "kernel")
    (tmp_path / "peekserve" / "__init__.py").touch()
    return tmp_path


@pytest.mark.parametrize("file", ["penalty", "loops", "grouping", "slots", "search"])
def test_a_kernel_compiled_from_another_source_is_refused(a_copied_kernel: Path, file: str):
    if not list(a_copied_kernel.rglob("_compiled*.so")):
        pytest.skip("the kernel is not compiled")
    with (a_copied_kernel / f"peekserve/kernel/{file}.py").open("a") as source:
        source.write("# edited since\n")
    refused = in_a_fresh_python("import peekserve.kernel", a_copied_kernel)
    assert "stale" in refused.stderr
    assert "make build" in refused.stderr
    assert (
        in_a_fresh_python(
            "import peekserve.kernel", a_copied_kernel, PEEKSERVE_KERNEL="interpreted"
        ).returncode
        == 0
    )


def test_without_a_compiled_kernel_one_warning_says_so(a_copied_kernel: Path):
    for extension in a_copied_kernel.rglob("_compiled*.so"):
        extension.unlink()
    done = in_a_fresh_python("import peekserve.kernel as k; print(k.COMPILED)", a_copied_kernel)
    assert (done.stdout.strip(), done.stderr.count("RuntimeWarning")) == ("False", 1)
    forced = in_a_fresh_python("import peekserve.kernel", a_copied_kernel, PEEKSERVE_KERNEL="compiled")
    assert "make build" in forced.stderr
