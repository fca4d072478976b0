"""Asking a server over HTTP, as any client would."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from peekserve.cli.terminal import console


def ask(address: str, path: str, body: Mapping[str, object], as_json: bool) -> dict[str, Any] | None:
    """The server's answer; None when there is none, and then why has been printed, in the server's own words where it
    has some."""
    address = address.removeprefix("http://").rstrip("/")
    post = urllib.request.Request(
        f"http://{address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    out = console()
    try:
        with urllib.request.urlopen(post, timeout=60) as response:
            told: dict[str, Any] = json.loads(response.read())
            return told
    except urllib.error.HTTPError as error:
        refused = error.read().decode(errors="replace")
        out.print(
            refused if as_json else f"{error.code}: {json.loads(refused).get('error', refused)}", markup=False
        )
    except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
        out.print(f"no server that speaks HTTP at {address}: {error}", markup=False)
    return None
