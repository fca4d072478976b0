"""What an experiment is: jobs that make rows, quantities measured from the rows, and a picture of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from peekserve.experiments.table import Floats, Row, Table

# One job measures one point for one seed.
Job = Callable[[int], Sequence[Row]]


@dataclass(frozen=True, slots=True)
class Series:
    """One curve, or the bars of one colour: a value, float64 [1 + draws], at each x or category of the panel."""

    label: str
    x: Sequence[float]
    values: Sequence[Floats]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. With `categories` its series are bars side by side, otherwise lines with bands. `from_zero`:
    the y axis begins at 0, unless something is below; bars always should."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    categories: Sequence[str] = ()
    log_y: bool = False
    from_zero: bool = True
    log_x: bool = False


@dataclass(frozen=True, slots=True)
class Experiment:
    """`jobs`: of a laboratory, all that is to be run, each for every seed. `measure`: claim id -> float64 [1 + draws].
    `panels`: the picture. `tables`: what is printed beside the claims, the first row of each its head. `jobs` takes
    what the family of experiments calls its laboratory. `times`: whose times it uses and on what, where they are not
    the laboratory's device and windows."""

    name: str
    what: str
    jobs: Callable[..., Sequence[Job]]
    measure: Callable[[Table], Mapping[str, Floats]]
    panels: Callable[[Table], Sequence[Panel]]
    seeds: int = 20
    small_seeds: int = 5
    tables: Callable[[Table], Sequence[Sequence[Sequence[str]]]] | None = None
    times: str = ""
