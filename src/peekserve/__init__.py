"""peekserve picks the model for every single request, from the data in it, the time that is left and the load of this
moment, so that the most correct answers arrive on time."""

from peekserve.results import Summary
from peekserve.sim.quick import application, simulate, variant

__version__ = "0.1.0"
__all__ = ["Summary", "application", "simulate", "variant"]
