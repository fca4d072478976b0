"""A floor on accuracy: what may answer a request that asks for at least so much of it.

A variant may, if its profile reaches the floor. The peek's own answer may, if its worth does: by its own profile, or by
a calibrated belief, row by row. An answer that models and peek are taken together for comes from such variants alone.
"""

import numpy as np
import numpy.typing as npt

from peekserve.core.beliefs import Belief
from peekserve.core.catalogue import Catalogue
from peekserve.domain.application import Application
from peekserve.errors import ConstraintInfeasible


def reaching(app: Application, floor: float, allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """bool [V]: those of the allowed variants that are profiled at this accuracy. Raises ConstraintInfeasible where
    none is."""
    if floor <= 0.0:
        return allowed
    reaches = np.zeros(len(allowed), dtype=np.bool_)
    reaches[: len(app.variants)] = [v.quality is not None and v.quality.reaches(floor) for v in app.variants]
    if not (reaches & allowed).any():
        raise ConstraintInfeasible(
            f"no variant of {app.name!r} that this request may use is profiled at an accuracy of {floor:g}"
        )
    return np.asarray(reaches & allowed)


def peek_may_reach(app: Application, belief: Belief, floor: float) -> bool:
    """Could the peek's own answer be as accurate as that? A belief that judges itself says so row by row."""
    if floor <= 0.0 or app.peek is None or belief.judges_itself:
        return True
    return app.peek.quality is not None and app.peek.quality.reaches(floor)


def good_enough(
    catalogue: Catalogue, a: int, belief: Belief, instant: npt.NDArray[np.float64], floor: float
) -> npt.NDArray[np.float64]:
    """What the peek's own answers of application `a` are worth, float64 [n]: nan for those that are less accurate than
    the floor, as if there were none."""
    if floor <= 0.0:
        return instant
    if belief.judges_itself:
        return np.where(instant / catalogue.scale[a] >= floor, instant, np.nan)
    return (
        instant if peek_may_reach(catalogue.applications[a], belief, floor) else np.full_like(instant, np.nan)
    )
