"""The innermost loops, compiled ahead of time where that was possible.

`loops.py` is plain Python; the build also compiles it into the extension `_loops`. Whichever is in use
answers to `peekserve.kernel.loops`, however it is imported, so no caller can pick the slow one by
accident:

- `loops`: the module in use; `COMPILED`: whether that is the compiled one;
- `interpreted()`: the plain Python module, for comparing the two.

The extension carries the sha256 of the source that it was made from. One made from another `loops.py` is
refused: its plans would belong to code that nobody can read any more. `PEEKSERVE_KERNEL=interpreted` or
`compiled` forces the choice.
"""

import hashlib
import importlib
import importlib.util
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType

_NAME = "peekserve.kernel.loops"
_SOURCE = Path(__file__).with_name("loops.py")


def interpreted() -> ModuleType:
    """Return `loops.py` as plain Python, whichever of the two is in use."""
    if not COMPILED:
        return sys.modules[_NAME]
    spec = importlib.util.spec_from_file_location(_NAME, _SOURCE)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{_SOURCE} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _find_compiled(choice: str) -> ModuleType | None:
    if choice not in ("", "interpreted", "compiled"):
        raise RuntimeError(f"PEEKSERVE_KERNEL is {choice!r}; it may be 'interpreted', 'compiled' or unset")
    if choice == "interpreted":
        return None
    try:
        extension = importlib.import_module("peekserve.kernel._loops")
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
    source = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()
    if made_from != source:
        raise RuntimeError(
            f"the compiled kernel is stale: it was made from {made_from[:12]}, {_SOURCE} is {source[:12]}; "
            "run `make build`, or set PEEKSERVE_KERNEL=interpreted"
        )
    return extension


_compiled = _find_compiled(os.environ.get("PEEKSERVE_KERNEL", ""))
COMPILED: bool = _compiled is not None
if _compiled is not None:
    # Both places, for `from peekserve.kernel import loops` reads the first and
    # `from peekserve.kernel.loops import ...` the second.
    globals()["loops"] = sys.modules[_NAME] = _compiled
else:
    importlib.import_module(_NAME)

__all__ = ["COMPILED", "interpreted", "loops"]
