"""Applications, their variants and what their owners ask for."""

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum

from peekserve.domain.profile import Calibration, LatencyCurve, Quality, Timing
from peekserve.domain.streams import StreamSpec
from peekserve.domain.tensors import InputMap, OutputMap, TensorSpec
from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidConfiguration, UnknownVariant

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class OnMiss(StrEnum):
    """What happens to a row that nothing can answer in time."""

    DEGRADE = "degrade"  # the peek's own answer, in time
    REJECT = "reject"  # an outcome without an answer, as soon as it is known
    LATE = "late"  # run it all the same: experiments and soft deadlines


class Score(StrEnum):
    """What an application wants much of; what a variant is worth by it: awareness/scores.py."""

    ACCURACY = "accuracy"
    WEIGHTED_F1 = "weighted-f1"
    QUADRATIC = "quadratic"


@dataclass(frozen=True, slots=True)
class QueryType:
    """A kind of question: how soon it wants its answer (seconds after arrival), what lateness costs, and the
    longest deadline that a client may ask of it."""

    deadline_s: float
    penalty: Penalty = field(default_factory=Penalty.step)
    max_deadline_s: float = float("inf")

    def __post_init__(self) -> None:
        if not self.deadline_s > 0.0:
            raise InvalidConfiguration(f"a deadline is a positive time, not {self.deadline_s} s")
        if self.deadline_s > self.max_deadline_s:
            raise InvalidConfiguration(
                f"a deadline of {self.deadline_s:g} s is above its own max_deadline, {self.max_deadline_s:g} s"
            )


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to answer: a model or a subnet.

    Identity is (application, name, revision). `weights` names what must be resident to run it: two subnets of
    one supernet share it. `inputs` are the modalities that it needs. `model` is its file, or the folder of its
    supernet; `subnet` is which one of that supernet it is, empty for a model of its own, and `together` those that are
    served of it, which become resident at once (empty: all that there are). `quality` and `timing` are None until
    profiled or stated; `timing` is by device ("cpu", "cuda", ...: the key a worker announces).
    """

    name: str
    revision: str
    weights: str
    inputs: tuple[InputMap, ...] = ()
    output: OutputMap | None = None
    model: str = ""
    max_batch: int = 32
    quality: Quality | None = None
    timing: dict[str, Timing] = field(default_factory=dict)
    subnet: str = ""
    together: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name, "variant")
        if self.max_batch < 1:
            raise InvalidConfiguration(f"variant {self.name!r}: max_batch is 1 or more, not {self.max_batch}")

    @property
    def profiled(self) -> str:
        """What is known of it: "complete", "partial", "provisional" (a quick timing and nothing else), "none"."""
        timed = [t for t in self.timing.values() if not t.provisional]
        if self.quality is not None:
            return "complete" if timed else "partial"
        return "partial" if timed else "provisional" if self.timing else "none"

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the application inputs that this variant cannot do without."""
        return tuple(dict.fromkeys(m.source for m in self.inputs))

    def literal(self) -> "Variant":
        """The same with batches that save nothing: `LatencyCurve.literal` on every device."""
        return replace(self, timing={device: timing.literal() for device, timing in self.timing.items()})


@dataclass(frozen=True, slots=True)
class FeatureStep:
    """One step of a peek's features: a kind and its whole-number or text options."""

    kind: str
    components: int = 0
    bins: int = 0
    model: str = ""


class IndexKind(StrEnum):
    """How neighbours are looked for."""

    AUTO = "auto"  # by the size of the reference
    FLAT = "flat"  # all distances: exact
    IVF = "ivf"  # the nearest of many cells
    HNSW = "hnsw"  # along the links of a graph
    LSH = "lsh"  # by the bits of random projections


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An index and its own options, 0 where the index chooses. `cells`, `probes`: of `ivf`. `links`, `breadth`:
    of `hnsw`. `bits`: of `lsh`."""

    kind: IndexKind = IndexKind.AUTO
    cells: int = 0
    probes: int = 0
    links: int = 0
    breadth: int = 0
    bits: int = 0

    def __post_init__(self) -> None:
        for kind, names in _OPTIONS.items():
            for name in names:
                if getattr(self, name) and self.kind is not kind:
                    raise InvalidConfiguration(
                        f"{name!r} is an option of the index {kind.value!r}, not of {self.kind.value!r}"
                    )


_OPTIONS = {
    IndexKind.IVF: ("cells", "probes"),
    IndexKind.HNSW: ("links", "breadth"),
    IndexKind.LSH: ("bits",),
}

CHOSEN = 0  # PeekSpec.neighbours: chosen by cross-validation on the reference


@dataclass(frozen=True, slots=True)
class PeekSpec:
    """The cheap look at the data: features, k nearest labelled neighbours, and the peek's own profile.

    `neighbours`: k, or CHOSEN. `decision`: the model whose one answer is the evidence, described like a variant; then
    there are no features, no neighbours and no reference. `calibration`: what its votes are worth, when measured.
    """

    inputs: tuple[str, ...]
    features: tuple[FeatureStep, ...]
    neighbours: int = 5
    reference: str = "reference.npz"
    quality: Quality | None = None
    latency: LatencyCurve | None = None
    index: IndexSpec = IndexSpec()
    decision: Variant | None = None
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class StreamPrior:
    """How often each class comes, learnt while serving (awareness/priors.py). `start`: the frequencies that it begins
    with; empty for those of the application's prior, or else of its validation data. `half_life`: after so many rows
    what was learnt counts for half."""

    start: tuple[float, ...] = ()
    half_life: float = 100.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.half_life < float("inf"):
            raise InvalidConfiguration(f"a half-life is one row or more, not {self.half_life:g}")


@dataclass(frozen=True, slots=True)
class Application:
    """A classification task: classes with weights, inputs, query types, prior, peek, variants.

    `prior` is the Dirichlet's alpha, one entry for each class. `prior_learns`: how calibrated beliefs learn theirs from
    the stream, None where the owner has fixed it. `queries[0]` belongs to the name "default".
    `score`: what its answers are valued by. `root`: the folder it was read from, and `validation`: the file of
    labelled data that its profiles are measured on; both empty for an application that lies in no repository.
    `edition`: which revision of it this is, where it was registered while a server ran; empty for the first. Revisions
    are applications of their own to everything behind the doors, which know them by their `key`.
    """

    name: str
    classes: tuple[str, ...]
    variants: tuple[Variant, ...]
    prior: tuple[float, ...]
    class_weights: tuple[float, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    queries: tuple[tuple[str, QueryType], ...] = (("default", QueryType(1.0)),)
    max_deadline_s: float = float("inf")
    on_miss: OnMiss = OnMiss.REJECT
    peek: PeekSpec | None = None
    validation: str = ""
    root: str = ""
    stream: StreamSpec | None = None
    score: Score = Score.ACCURACY
    prior_learns: StreamPrior | None = StreamPrior()
    edition: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "application")
        if self.edition:
            check_name(self.edition, "edition")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise InvalidConfiguration(
                f"application {self.name!r} needs two or more classes with distinct names"
            )
        if not self.variants:
            raise InvalidConfiguration(f"application {self.name!r} has no variant")
        names = [v.name for v in self.variants]
        if len(set(names)) != len(names):
            raise InvalidConfiguration(f"application {self.name!r} names a variant twice: {sorted(names)}")
        if len(self.prior) != len(self.classes) or any(not a > 0.0 for a in self.prior):
            raise InvalidConfiguration(
                f"application {self.name!r}: a prior has one positive entry for each of {len(self.classes)} "
                f"classes, not {len(self.prior)}: {list(self.prior)}"
            )
        start = self.prior_learns.start if self.prior_learns else ()
        if start and (
            len(start) != len(self.classes) or any(not f > 0.0 for f in start) or abs(sum(start) - 1.0) > 1e-6
        ):
            raise InvalidConfiguration(
                f"application {self.name!r}: a stream prior starts with one positive frequency for each of "
                f"{len(self.classes)} classes, which sum to 1, not {list(start)}"
            )
        if self.class_weights and (
            len(self.class_weights) != len(self.classes) or any(not w > 0.0 for w in self.class_weights)
        ):
            raise InvalidConfiguration(
                f"application {self.name!r}: class weights are positive, one for each class"
            )

    @property
    def key(self) -> str:
        """What it is called behind the doors: its name, or name@edition. No name holds an @, so keys do not collide."""
        return f"{self.name}@{self.edition}" if self.edition else self.name

    @property
    def weights(self) -> tuple[float, ...]:
        """Class weights in the utility; all 1 where the owner named none."""
        return self.class_weights or (1.0,) * len(self.classes)

    @property
    def expected(self) -> tuple[float, ...] | None:
        """How often each class is expected, [C], as far as its owner says; an even prior says nothing."""
        if self.prior_learns is not None and self.prior_learns.start:
            return self.prior_learns.start
        if self.prior_learns is not None and len(set(self.prior)) == 1:
            return None
        return tuple(alpha / sum(self.prior) for alpha in self.prior)

    @property
    def buckets(self) -> int:
        """Number of shape buckets; 1 where no length varies."""
        return max((len(spec.buckets) for spec in self.inputs), default=1) or 1

    def literal(self) -> "Application":
        """Costs as SneakPeek's eq. 1 literally has them: a batch takes as long as its rows one after the other."""
        return replace(self, variants=tuple(v.literal() for v in self.variants))

    def variant(self, name: str) -> Variant:
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(sorted(v.name for v in self.variants))
        raise UnknownVariant(f"application {self.name!r} has no variant {name!r}; it has {known}")

    def query(self, name: str = "default") -> QueryType:
        for known, query in self.queries:
            if known == name:
                return query
        raise InvalidConfiguration(
            f"application {self.name!r} has no query type {name!r}; it has {', '.join(n for n, _ in self.queries)}"
        )


def public(key: str) -> str:
    """The name that clients know, of a key.

    >>> public("ecg"), public("ecg@3f9a61c0")
    ('ecg', 'ecg')
    """
    return key.partition("@")[0]


def check_name(name: str, what: str) -> str:
    """Names go into paths, URLs and metrics: small letters, digits, '.', '_' and '-', at most 64."""
    if not NAME.fullmatch(name):
        raise InvalidConfiguration(
            f"{what} name {name!r}: use 1 to 64 of a-z, 0-9, '.', '_', '-', starting with a letter or digit"
        )
    return name
