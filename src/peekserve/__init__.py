"""peekserve picks the model for every single request, from the data in it, the time that is left and the load of this
moment, so that the most correct answers arrive on time."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peekserve.results import Summary
    from peekserve.sim.quick import application, simulate, variant

__version__ = "0.1.0"
__all__ = ["Summary", "application", "simulate", "variant"]

_HOMES = {
    "Summary": "peekserve.results",
    "application": "peekserve.sim.quick",
    "simulate": "peekserve.sim.quick",
    "variant": "peekserve.sim.quick",
}


def __getattr__(name: str) -> object:
    """The public names, found when they are asked for: a worker process imports this package and none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'peekserve' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
