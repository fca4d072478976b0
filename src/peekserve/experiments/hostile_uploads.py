"""How hostile uploads come in, and what is looked at after each, for attacks_uploads.py."""

import json
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from peekserve.experiments import hostile_files as hostile
from peekserve.experiments.attacks import PATIENCE_S, Target, answered, get, post
from peekserve.experiments.attacks_grpc import call
from peekserve.server.oip_messages import OIP
from peekserve.state.registrations import UNDER_WAY

MIB = 1 << 20
UPLOAD = 32 * MIB  # the server's limit here
ADMIN = "/api/v1/admin/applications"
TAR = "application/x-tar"
GZIP = "application/gzip"
ZIP = "application/zip"
_ENDS_S = 150.0
Got = tuple[int | str, str]
Tries = Callable[[Target], Got]


# ---- ways in ------------------------------------------------------------------------------------------------------


def sent(method: str, path: str, body: bytes = b"", kind: str = "", key: str = "admin") -> Tries:
    return lambda target: answered(target, _request(target, method, path, body, kind, key))


def sent_long(size: int) -> Tries:
    """The head of an upload that says that so much will come."""
    path = f"{ADMIN}/guest/revisions"
    return lambda target: answered(target, _request(target, "POST", path, b"", TAR, "admin", size))


def _request(
    target: Target, method: str, path: str, body: bytes, kind: str, key: str, length: int | None = None
) -> list[bytes]:
    lines = [f"{method} {path} HTTP/1.1", "host: a"]
    lines += [f"content-length: {len(body) if length is None else length}"]
    lines += ["connection: close"]
    lines += [f"content-type: {kind}"] if kind else []
    lines += [f"authorization: Bearer {getattr(target, key)}"] if key else []
    return ["\r\n".join(lines).encode() + b"\r\n\r\n", body]


def archive(make: Callable[[], bytes], kind: str = TAR, name: str = "guest") -> Tries:
    """It is sent; and where it is taken, what becomes of it."""

    def tries(target: Target) -> Got:
        path = f"{ADMIN}/{name}/revisions?swap=manual&shadow=0"
        return ended(target, name, _request(target, "POST", path, make(), kind, "admin"))

    return tries


def application(name: str = "guest", **parts: bytes) -> Tries:
    """An application with these parts in place of honest ones."""
    return archive(lambda: hostile.tar(hostile.around(name, **parts)), name="guest")


def ended(target: Target, name: str, request: Sequence[bytes]) -> Got:
    status, words = answered(target, request)
    if status != 202:
        return status, words
    told = _newest(target, name)
    since = time.monotonic()
    while told["state"] in UNDER_WAY and time.monotonic() < since + _ENDS_S:
        time.sleep(0.05)
        told = _newest(target, name)
    faults = "; ".join(fault["what"] for fault in told["problems"])
    return told["state"], faults or told["why"]


def _newest(target: Target, name: str) -> dict[str, Any]:
    revisions = _told(target, f"{ADMIN}/{name}/revisions")["revisions"]
    newest = max(revisions, key=lambda one: one["changed_at"])
    found: dict[str, Any] = _told(target, f"{ADMIN}/{name}/revisions/{newest['revision']}")
    return found


def _told(target: Target, path: str) -> Any:
    with socket.create_connection((target.host, target.port), timeout=PATIENCE_S) as client:
        client.sendall(b"".join(get(path, target.admin, "connection: close")))
        told = b""
        while chunk := client.recv(65536):
            told += chunk
    return json.loads(told.partition(b"\r\n\r\n")[2])


def load(parameters: Mapping[str, object], name: str = "digits") -> Tries:
    """Over HTTP."""
    body = json.dumps({"parameters": parameters}).encode()
    return lambda t: answered(t, post(f"/v2/repository/models/{name}/load", body, key=t.admin))


def load_by_grpc(parameter: str, content: bytes | str, name: str = "digits") -> Tries:
    def tries(target: Target) -> Got:
        request = OIP["RepositoryModelLoadRequest"](model_name=name)
        if isinstance(content, bytes):
            request.parameters[parameter].bytes_param = content
        else:
            request.parameters[parameter].string_param = content
        key = (("authorization", f"Bearer {target.admin}"),)
        path = "/inference.GRPCInferenceService/RepositoryModelLoad"
        return call(target, path, request.SerializeToString(), key)

    return tries


# ---- those that take their time -----------------------------------------------------------------------------------


def slowly(part: bytes, pause_s: float, times: int) -> Tries:
    """An upload of which now and then a little comes."""

    def tries(target: Target) -> Got:
        path = f"{ADMIN}/guest/revisions"
        told = b""
        with socket.create_connection((target.host, target.port), timeout=PATIENCE_S) as client:
            client.sendall(_request(target, "POST", path, b"", TAR, "admin", UPLOAD)[0])
            for _ in range(times):
                client.sendall(part)
                if select.select([client], [], [], pause_s)[0]:
                    break
            while chunk := client.recv(65536):
                told += chunk
        head, _, body = told.partition(b"\r\n\r\n")
        return int(head.split()[1]), str(json.loads(body)["error"])

    return tries


def in_chunks(size: int) -> Tries:
    """So many bytes without a word on how many they will be."""

    def tries(target: Target) -> Got:
        head = f"POST {ADMIN}/guest/revisions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {target.admin}\r\n"
        head += f"content-type: {TAR}\r\ntransfer-encoding: chunked\r\n\r\n"
        chunk = b"100000\r\n" + bytes(MIB) + b"\r\n"
        return answered(target, [head.encode(), *[chunk] * (size // MIB)])

    return tries


def several(number: int) -> Tries:
    """What the last one gets where as many have begun and go no further."""

    def tries(target: Target) -> Got:
        path = f"{ADMIN}/guest/revisions"
        with ExitStack() as stack:
            for _ in range(number):
                client = socket.create_connection((target.host, target.port), timeout=PATIENCE_S)
                stack.enter_context(client)
                client.sendall(b"".join(_request(target, "POST", path, b"x", TAR, "admin", MIB)))
            time.sleep(0.2)
            return answered(target, _request(target, "POST", path, b"x", TAR, "admin"))

    return tries


def hangs_up(target: Target) -> Got:
    with socket.create_connection((target.host, target.port), timeout=PATIENCE_S) as client:
        path = f"{ADMIN}/guest/revisions"
        client.sendall(b"".join(_request(target, "POST", path, bytes(MIB), TAR, "admin", UPLOAD)))
    return 0, ""


def until_it_hangs(then: Callable[[Target, str], Got]) -> Tries:
    """A model that never ends is sent, and while it is looked at something is done."""

    def tries(target: Target) -> Got:
        files = hostile.tar(hostile.around(model=hostile.never_ends()))
        path = f"{ADMIN}/guest/revisions?swap=manual&shadow=0"
        status, words = answered(target, _request(target, "POST", path, files, TAR, "admin"))
        if status != 202:
            return status, words
        revision = _newest(target, "guest")["revision"]
        since = time.monotonic()
        while len(looking(target)) < 2 and time.monotonic() < since + PATIENCE_S:
            time.sleep(0.05)
        time.sleep(1.0)
        return then(target, revision)

    return tries


def removed(target: Target, revision: str) -> Got:
    path = f"{ADMIN}/guest/revisions/{revision}"
    return answered(target, _request(target, "DELETE", path, b"", "", "admin"))


def brought_down(target: Target, revision: str) -> Got:
    """As a fault of the library that runs it would end its process."""
    os.kill(min(looking(target)), 11)
    since = time.monotonic()
    path = f"{ADMIN}/guest/revisions/{revision}"
    told = _told(target, path)
    while told["state"] in UNDER_WAY and time.monotonic() < since + PATIENCE_S:
        time.sleep(0.05)
        told = _told(target, path)
    return told["state"], told["why"]


@contextmanager
def a_full_disk(target: Target) -> Iterator[None]:
    """No file of the server's gets any longer than 64 KiB: what a full disk says, without one (setrlimit(2))."""
    soft, hard = resource.prlimit(target.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(target.pid, resource.RLIMIT_FSIZE, (64 << 10, hard))
    try:
        yield
    finally:
        resource.prlimit(target.pid, resource.RLIMIT_FSIZE, (soft, hard))


def without_room(tries: Tries) -> Tries:
    def in_need(target: Target) -> Got:
        with a_full_disk(target):
            return tries(target)

    return in_need


# ---- what is left of it -------------------------------------------------------------------------------------------


def looking(target: Target) -> list[int]:
    """The processes that look at revisions, and what they began."""
    parents = {int(p.name): _parent(p) for p in Path("/proc").iterdir() if p.name.isdigit()}
    found = [
        pid for pid, parent in parents.items() if parent == target.pid and b"cli.onboarding" in _command(pid)
    ]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def outside(target: Target, root: Path) -> dict[str, tuple[int, int]]:
    """Every file where none of an upload belongs: around the state folder and in the repository."""
    state = Path(target.state)
    around = [path for top in (state.parents[2], root) for path in top.rglob("*")]
    mine = [p for p in around if not p.is_relative_to(state) and not p.name.startswith("state.sqlite")]
    found = {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in mine if not p.is_dir()}
    return found | {str(p): (0, 0) for p in (Path("/pwned"), state.parents[2] / "pwned") if p.exists()}


class Watch:
    """The most memory that the server's own process had, in bytes beyond what it has now."""

    def __init__(self, target: Target) -> None:
        self._status = Path(f"/proc/{target.pid}/status")
        self._before = self._kept()
        self._most = self._before
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _kept(self) -> int:
        lines = self._status.read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))

    def _look(self) -> None:
        while not self._over.wait(0.01):
            self._most = max(self._most, self._kept())

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return self._most - self._before
