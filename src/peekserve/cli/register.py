"""`peekserve register` and `peekserve revisions`: applications sent to a server, and which of them it serves.

The key with the scope admin is taken from PEEKSERVE_KEY.
"""

import json
import tarfile
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import IO, Any

from rich.table import Table

from peekserve.cli.asking import call, say
from peekserve.cli.terminal import console, progress
from peekserve.errors import InvalidConfiguration

FILE = "application.yaml"
# A server that looks at large models may take long to take a file.
PATIENCE_S = 600.0
ENDS = {"active": 0, "ready": 0, "retired": 0, "rejected": 1, "failed": 1, "invalid": 3}

Told = dict[str, Any]


def register(
    address: str, folder: Path, name: str | None, swap: str, shadow: int, wait: bool, as_json: bool
) -> int:
    """Send a folder; with `wait`, until it is served (0), rejected or failed (1), or invalid (3)."""
    if not (folder / FILE).is_file():
        raise InvalidConfiguration(f"{folder}: there is no {FILE} here; name an application's folder")
    path = _base(name or folder.resolve().name) + f"/revisions?swap={swap}&shadow={shadow}"
    with tempfile.TemporaryFile() as packed:
        pack(folder, packed)
        packed.seek(0)
        told = _asked(address, "POST", path, as_json, packed, "application/x-tar")
    if told is None:
        return 1
    if wait:
        return _wait(address, told, as_json)
    if as_json:
        print(json.dumps(told))
    else:
        console().print(
            f"{told['application']} {told['revision']}: {told['state']}; peekserve revisions says where it stands",
            markup=False,
        )
    return 0


def listed(address: str, as_json: bool) -> int:
    """Of every application that is served, its revisions."""
    told = _asked(address, "GET", "/v2/models/stats", as_json)
    if told is None:
        return 1
    found = []
    for name in dict.fromkeys(one["name"] for one in told.get("model_stats", ())):
        found.append(_asked(address, "GET", f"{_base(name)}/revisions", as_json))
    known = [one for one in found if one is not None]
    if as_json:
        print(json.dumps(known))
    else:
        for one in known:
            _show(one)
    return 0 if len(known) == len(found) else 1


def revisions(address: str, name: str, swap: str | None, rollback: bool, as_json: bool) -> int:
    """The revisions of an application; before that, with `swap` or `rollback`, another one is served."""
    base = _base(name)
    if swap is not None:
        if _asked(address, "POST", f"{base}/revisions/{_quoted(swap)}/swap", as_json) is None:
            return 1
    elif rollback and _asked(address, "POST", f"{base}/rollback", as_json) is None:
        return 1
    told = _asked(address, "GET", f"{base}/revisions", as_json)
    if told is None:
        return 1
    if as_json:
        print(json.dumps(told))
    else:
        _show(told)
    return 0


def _show(told: Told) -> None:
    served = told["serving"] or "nothing"
    shown = Table(
        title=f"{told['application']}: {served} is served", title_justify="left", header_style="bold"
    )
    for column in ("revision", "state", "since", "why"):
        shown.add_column(column, no_wrap=column == "revision")
    for one in told["revisions"]:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["changed_at"]))
        shown.add_row(one["revision"], one["state"], since, one["why"])
    console().print(shown)


def pack(folder: Path, out: IO[bytes]) -> None:
    """What belongs to an application, as a tar: files whose names do not begin with a dot, links followed."""
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                # By its content alone: of this machine's users and times nobody else has to know.
                member = tarfile.TarInfo(name.as_posix())
                member.size = path.stat().st_size
                with path.open("rb") as source:
                    tar.addfile(member, source)


def _wait(address: str, told: Told, as_json: bool) -> int:
    place = f"{_base(told['application'])}/revisions/{told['revision']}"
    with progress(as_json) as bar:
        task = bar.add_task(told["state"], total=None)
        while told["state"] not in ENDS:
            time.sleep(0.2)
            found = _asked(address, "GET", place, as_json)
            if found is None:
                return 1
            told = found
            at = told.get("progress") or {"what": "", "done": 0, "total": 0}
            bar.update(task, description=told["state"], completed=at["done"], total=at["total"] or None)
    if as_json:
        print(json.dumps(told))
        return ENDS[told["state"]]
    out = console()
    out.print(f"{told['application']} {told['revision']}: {told['state']}: {told['why']}", markup=False)
    for fault in told["problems"]:
        hint = f"; {fault['hint']}" if fault["hint"] else ""
        out.print(f"  {fault['file']}:{fault['line']}: {fault['what']}{hint}", markup=False)
    if told["profile"]:
        out.print(_profile(told["profile"]))
    shadow = told["shadow"] or {}
    if shadow.get("rows"):
        chosen = shadow["chosen"]
        agreed = f"{shadow['agreed']} of {shadow['rows']} rows as what was served, each variant in turn"
        own = f"{chosen['agreed']} of {chosen['rows']} where it chose itself"
        out.print(f"shadow: {agreed}; {own}", markup=False)
    return ENDS[told["state"]]


def _profile(profile: Told) -> Table:
    shown = Table(header_style="bold")
    for column in ("variant", "accuracy", "1 row", "memory"):
        shown.add_column(column, justify="left" if column == "variant" else "right")
    for name, one in profile.items():
        accuracy = "not measured" if one["accuracy"] is None else f"{one['accuracy']:.3f}"
        seconds = min(one["row_s"].values(), default=None)
        row = "not measured" if seconds is None else f"{seconds * 1e3:.2f} ms"
        shown.add_row(name, accuracy, row, f"{one['bytes'] / 2**20:.1f} MiB")
    return shown


def _asked(
    address: str,
    method: str,
    path: str,
    as_json: bool,
    body: IO[bytes] | None = None,
    kind: str = "application/json",
) -> Told | None:
    """What the server told; None where it did not, and then its words have been printed."""
    answer = call(address, method, path, body, kind, PATIENCE_S)
    if answer is None:
        return None
    status, content = answer
    try:
        told = json.loads(content or b"{}")
    except ValueError:
        told = None
    if status < 300 and isinstance(told, dict):
        return told
    sentence = told.get("error") if isinstance(told, dict) else None
    if sentence is None:
        say(f"there is no peekserve at {address}: {status} came back, and none of its answers")
    else:
        say(content.decode(errors="replace") if as_json else f"{status}: {sentence}")
    return None


def _base(name: str) -> str:
    return f"/api/v1/admin/applications/{_quoted(name)}"


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")
