"""`peekserve replay`: does the scheduler still decide what a journal says that it decided?"""

import json
from pathlib import Path

from peekserve.live.journalling import replay as run
from peekserve.state.journal import JournalReader


def replay(path: Path, as_json: bool) -> int:
    """Print how many steps were the same; 1 at the first that is not."""
    replayed = run(JournalReader(path))
    same = replayed.difference is None
    if as_json:
        print(json.dumps({"same": same, "steps": replayed.steps, "commands": replayed.commands}))
    elif same:
        print(f"{path}: {replayed.steps} events led to the same {replayed.commands} commands")
    else:
        print(f"{path}: after {replayed.steps} events the commands differ\n{replayed.difference}")
    return 0 if same else 1
