"""Asking a server over HTTP, as any client would."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from peekserve.cli.terminal import console


def ask(
    address: str, path: str, body: Mapping[str, object], as_json: bool, holds: str
) -> dict[str, Any] | None:
    """The server's answer; None when there is none, and then why has been printed, in the server's own words where it
    has some. `holds`: a key that every answer has; what lacks it was said by another server."""
    scheme, _, address = address.rstrip("/").rpartition("://")
    if scheme not in ("", "http"):
        _say(f"an address is HOST:PORT; {scheme} is not spoken there")
        return None
    post = urllib.request.Request(
        f"http://{address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(post, timeout=60) as response:
            status, content = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, content = error.code, error.read()
    except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
        _say(f"no server that speaks HTTP at {address}: {error}")
        return None
    told = _object(content)
    if status == 200 and holds in told:
        return told
    if status != 200 and "error" in told:
        _say(content.decode(errors="replace") if as_json else f"{status}: {told['error']}")
    else:
        _say(f"there is no peekserve at {address}: {status} came back, and none of its answers")
    return None


def _object(content: bytes) -> dict[str, Any]:
    """An empty one, where this is none."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _say(sentence: str) -> None:
    # Whatever is at that address may send what a terminal obeys.
    console().print("".join(c if c.isprintable() else "?" for c in sentence), markup=False)
