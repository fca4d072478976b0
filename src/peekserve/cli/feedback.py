"""`peekserve feedback`: the true class of an answer, told to the server that gave it."""

import json
from collections.abc import Sequence

from peekserve.cli.asking import ask
from peekserve.cli.terminal import console

UNKNOWN = "-"


def feedback(address: str, request_id: str, labels: Sequence[str], as_json: bool) -> int:
    """Print how many rows were accepted, or the server's words for why none was (then 1). `labels`: one for each row, a
    class's name, or - where it is still unknown."""
    told: list[str | None] = [None if label == UNKNOWN else label for label in labels]
    said = ask(address, "/api/v1/feedback", {"request_id": request_id, "labels": told}, as_json, "accepted")
    if said is None:
        return 1
    if as_json:
        print(json.dumps(said))
    else:
        console().print(f"accepted: {said['accepted']}", markup=False)
    return 0
