"""Asking a server over HTTP, as any client would. A key comes from the environment, where no list of processes shows
it."""

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import IO, Any

from peekserve.cli.terminal import console

KEY = "PEEKSERVE_KEY"


def ask(
    address: str, path: str, body: Mapping[str, object], as_json: bool, holds: str
) -> dict[str, Any] | None:
    """The server's answer; None when there is none, and then why has been printed, in the server's own words where it
    has some. `holds`: a key that every answer has; what lacks it was said by another server."""
    answer = call(address, "POST", path, json.dumps(body).encode())
    if answer is None:
        return None
    status, content = answer
    told = _object(content)
    if status == 200 and holds in told:
        return told
    if status != 200 and "error" in told:
        say(content.decode(errors="replace") if as_json else f"{status}: {told['error']}")
    else:
        say(f"there is no peekserve at {address}: {status} came back, and none of its answers")
    return None


def call(
    address: str,
    method: str,
    path: str,
    body: bytes | IO[bytes] | None = None,
    kind: str = "application/json",
    patience_s: float = 60.0,
) -> tuple[int, bytes] | None:
    """Status and content of a server's answer; None where there is none, and then why has been printed. `body`: a file
    is sent as it is read."""
    scheme, _, address = address.rstrip("/").rpartition("://")
    if scheme not in ("", "http"):
        say(f"an address is HOST:PORT; {scheme} is not spoken there")
        return None
    headers = {"Content-Type": kind}
    if body is not None and not isinstance(body, bytes):
        headers["Content-Length"] = str(os.fstat(body.fileno()).st_size)
    if key := os.environ.get(KEY):
        headers["Authorization"] = f"Bearer {key}"
    try:
        request = urllib.request.Request(f"http://{address}{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=patience_s) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (urllib.error.URLError, http.client.HTTPException, ValueError, OSError) as error:
        say(f"no server that speaks HTTP at {address}: {error}")
        return None


def _object(content: bytes) -> dict[str, Any]:
    """An empty one, where this is none."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def say(sentence: str) -> None:
    """Print what a server said, or what is said of it."""
    # Whatever is at that address may send what a terminal obeys.
    console().print("".join(c if c.isprintable() else "?" for c in sentence), markup=False)
