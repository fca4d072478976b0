"""The innermost loops, compiled ahead of time where that was possible.

Its files are plain Python: `penalty.py`, `loops.py` and `grouping.py` (for the policies of the paper), `slots.py` and
`search.py` (for `horizon`). The build also compiles them, one after another as one source, into the extension
`_compiled`. Whichever is in use answers to `peekserve.kernel.loops` and the others, however they are imported, so no
caller can pick the slow one by accident:

- `loops`, `grouping`, `search`: the modules in use; `COMPILED`: whether they are the compiled ones;
- `interpreted()`: one of them as plain Python, for comparing the two.

The extension carries the sha256 of the source that it was made from. One made from other files is refused: its plans
would belong to code that nobody can read any more. `PEEKSERVE_KERNEL=interpreted` or `compiled` forces the choice.
"""

import hashlib
import importlib
import importlib.util
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType

# In the order in which they are compiled, as in setup.py: each uses what stands in those before it.
_FILES = ("penalty", "loops", "grouping", "slots", "search")
_SOURCES = {f"peekserve.kernel.{name}": Path(__file__).with_name(f"{name}.py") for name in _FILES}


def interpreted(name: str = "loops") -> ModuleType:
    """Return `loops.py`, or another of its files, as plain Python, whichever of the two forms is in use."""
    if not COMPILED:
        return sys.modules[f"peekserve.kernel.{name}"]
    in_use = {own: sys.modules[own] for own in _SOURCES}
    try:
        for own, source in _SOURCES.items():
            spec = importlib.util.spec_from_file_location(own, source)
            if spec is None or spec.loader is None:
                raise RuntimeError(f"{source} cannot be imported")
            # Under its own name while the files after it are read, which import from it.
            sys.modules[own] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[own])
        return sys.modules[f"peekserve.kernel.{name}"]
    finally:
        sys.modules.update(in_use)


def _find_compiled(choice: str) -> ModuleType | None:
    if choice not in ("", "interpreted", "compiled"):
        raise RuntimeError(f"PEEKSERVE_KERNEL is {choice!r}; it may be 'interpreted', 'compiled' or unset")
    if choice == "interpreted":
        return None
    try:
        extension = importlib.import_module("peekserve.kernel._compiled")
    except ModuleNotFoundError:
        if choice == "compiled":
            raise RuntimeError(
                "PEEKSERVE_KERNEL=compiled, but there is no compiled kernel: run `make build`"
            ) from None
        warnings.warn(
            "the kernel is not compiled, planning will be slow: run `make build`",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    made_from = getattr(extension, "SOURCE_SHA256", "no hash at all")
    source = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES.values())).hexdigest()
    if made_from != source:
        raise RuntimeError(
            f"the compiled kernel is stale: it was made from {made_from[:12]}, {', '.join(_FILES)} of "
            f"{Path(__file__).parent} are {source[:12]}; run `make build`, or set PEEKSERVE_KERNEL=interpreted"
        )
    return extension


_compiled = _find_compiled(os.environ.get("PEEKSERVE_KERNEL", ""))
COMPILED: bool = _compiled is not None
for _name, _own in zip(_FILES, _SOURCES, strict=True):
    if _compiled is not None:
        # Both places, for `from peekserve.kernel import loops` reads the first and
        # `from peekserve.kernel.loops import ...` the second.
        globals()[_name] = sys.modules[_own] = _compiled
    else:
        importlib.import_module(_own)

__all__ = ["COMPILED", "grouping", "interpreted", "loops", "search"]
