"""application.yaml -> an Application, or all that is wrong with it."""

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from pathlib import Path

from peekserve.config import Entry, Problems, Section, read
from peekserve.domain.application import (
    Application,
    OnMiss,
    QueryType,
    Score,
    StreamPrior,
    Variant,
    check_name,
)
from peekserve.domain.profile import Timing
from peekserve.domain.tensors import TensorSpec
from peekserve.domain.utility import Penalty, PenaltyKind
from peekserve.errors import DataUnavailable, InvalidModel
from peekserve.registry.confined import inside, revision
from peekserve.registry.peeking import peek_spec
from peekserve.registry.stated import prior, variant_profile
from peekserve.registry.streams import stream_spec
from peekserve.registry.supernets import supernet_variants
from peekserve.registry.tensors import Describe, ModelFacts, input_maps, output_map, tensor_specs

PENALTIES = {str(kind.name).lower(): kind for kind in PenaltyKind}


def look_into(path: str) -> ModelFacts:
    """The tensors of an ONNX file, through ONNX Runtime. Imported here, so that a repository that names
    them itself can be read without it.
    """
    try:
        from peekserve.runtimes.onnx import describe
    except ImportError as error:
        raise DataUnavailable(
            f"the names of its tensors are asked of ONNX Runtime, which is not here ({error}): "
            "write 'inputs' and 'output', or pip install 'peekserve[serve]'"
        ) from None
    found = describe(path)
    return ModelFacts(
        tuple((t.name, t.datatype) for t in found.inputs), tuple((t.name, t.datatype) for t in found.outputs)
    )


def read_application(
    file: Path, root: Path, problems: Problems, describe: Describe = look_into
) -> Application | None:
    """The application that `file` declares, with its models' revisions; None where `problems` got an
    error.
    """
    before = len(problems.errors)
    entry = read(file, problems)
    if entry is None:
        return None
    found = list(entry.attempt(lambda e: _application(e, file.parent, root, describe)))
    return found[0] if found and found[0] is not None and len(problems.errors) == before else None


def _application(entry: Entry, folder: Path, root: Path, describe: Describe) -> Application | None:
    top = Section(entry)
    name = top.take("application", lambda e: check_name(e.text(), "application"), folder.name)
    named = top.need("classes", _classes, ())
    classes = tuple(c for c, _ in named)
    inputs = top.need("inputs", tensor_specs, ())
    buckets = max((len(spec.buckets) for spec in inputs), default=1) or 1

    deadline = top.need("deadline", Entry.positive_seconds, 1.0)
    longest = top.take("max_deadline", Entry.positive_seconds, inf)
    penalty = top.take("penalty", _penalty, Penalty.step())
    queries = top.take("queries", lambda e: _queries(e, deadline, penalty, longest), ())
    if deadline > longest:
        entry.note(f"the deadline of {deadline:g} s is above max_deadline, {longest:g} s")

    variant = partial(
        _variant, classes=classes, inputs=inputs, buckets=buckets, folder=folder, root=root, describe=describe
    )
    peek = top.take("peek", lambda e: peek_spec(e, classes, inputs, folder, root, variant), None)
    on_miss = top.take("on_miss", lambda e: e.member(OnMiss), None)
    if on_miss is OnMiss.DEGRADE and "peek" not in top:
        entry.note(
            "on_miss: degrade answers with the peek, and there is none", "add a peek, or write reject or late"
        )
    prior_entry = top.get("prior")
    alpha: tuple[float, ...] = ()
    learns: StreamPrior | None = None
    if len(classes) >= 2:
        # The prior may be absent, and then it is uninformative: hence no `take`.
        alpha, learns = next(
            (prior_entry or entry).attempt(lambda _: prior(prior_entry, classes)), (alpha, learns)
        )

    subnets = top.take(
        "supernets", lambda e: supernet_variants(e, classes, inputs, buckets, folder, root, describe), ()
    )
    own = top.take if "supernets" in top else top.need
    variants = (*own("variants", lambda e: _variants(e, variant), ()), *subnets)
    validation = top.take("validation", lambda e: str(inside(e, folder, root)), "")
    stream = top.take("stream", lambda e: stream_spec(e, inputs, queries), None)
    score = top.take("score", lambda e: e.member(Score), Score.ACCURACY)
    top.done()
    if entry.problems.errors:
        return None
    weights = tuple(w for _, w in named)
    return Application(
        name=name,
        classes=classes,
        variants=variants,
        prior=alpha,
        class_weights=weights if any(w != 1.0 for w in weights) else (),
        inputs=inputs,
        queries=(("default", QueryType(deadline, penalty)), *queries),
        max_deadline_s=longest,
        on_miss=on_miss or (OnMiss.DEGRADE if peek is not None else OnMiss.REJECT),
        peek=peek,
        validation=validation,
        root=str(folder.resolve()),
        stream=stream,
        score=score,
        prior_learns=learns,
    )


def _classes(entry: Entry) -> tuple[tuple[str, float], ...]:
    """Names and weights. What is wrong is noted and the rest kept, so that no other key is blamed for it."""
    named: dict[str, float] = {}
    for item in entry.items():
        for name, weight in item.attempt(_class):
            if name in named:
                item.note(f"the class {name!r} is named twice")
            named[name] = weight
    if len(entry.items()) < 2:
        entry.note(f"an application needs two classes or more, not {len(entry.items())}")
    return tuple(named.items())


def _class(entry: Entry) -> tuple[str, float]:
    if entry.is_text:
        return entry.text(), 1.0
    section = Section(entry)
    name = section.need("name", Entry.text, "")
    weight = section.take("weight", lambda e: e.number(0.0), 1.0)
    section.done()
    if not weight > 0.0:
        entry.note(f"a class weight is above zero, not {weight:g}", "leave the class out if it never matters")
    return name, weight


def _queries(
    entry: Entry, deadline_s: float, penalty: Penalty, longest_s: float
) -> tuple[tuple[str, QueryType], ...]:
    queries = []
    for name, one in entry.pairs().items():
        if name == "default":
            one.note("the default query is written at the top of the file", "choose another name")
        for query in one.attempt(lambda e: _query(e, deadline_s, penalty)):
            queries.append((check_name(name, "query"), query))
            if inf > query.max_deadline_s > longest_s:
                one.note(
                    f"its max_deadline of {query.max_deadline_s:g} s is above that of the application, {longest_s:g} s"
                )
            if query.deadline_s > longest_s:
                one.note(f"the deadline of {query.deadline_s:g} s is above max_deadline, {longest_s:g} s")
    return tuple(queries)


def _query(entry: Entry, deadline_s: float, penalty: Penalty) -> QueryType:
    section = Section(entry)
    own_s = section.take("deadline", Entry.positive_seconds, deadline_s)
    kind = section.take("penalty", _penalty, penalty)
    most_s = section.take("max_deadline", Entry.positive_seconds, inf)
    section.done()
    return QueryType(own_s, kind, most_s)


def _penalty(entry: Entry) -> Penalty:
    """A kind alone, or a kind with the one option that it has."""
    if entry.is_text:
        kind = entry.one_of(PENALTIES, "penalty")
        if kind == "table":
            raise entry.wrong(
                "a table needs its points", "write {kind: table, points: [[0ms, 0], [50ms, 1]]}"
            )
        return Penalty(PENALTIES[kind])
    section = Section(entry)
    kind = section.need("kind", lambda e: e.one_of(PENALTIES, "penalty"), "")
    if not kind:
        return Penalty.step()  # noted already; its other keys cannot be judged
    if kind in ("linear", "sigmoid"):
        width = section.take("width", Entry.positive_seconds, None)
        made = Penalty.linear(width) if kind == "linear" else Penalty.sigmoid(width)
    elif kind == "constant":
        made = Penalty.constant(section.take("level", lambda e: e.number(0.0, 1.0), 0.0))
    elif kind == "table":
        points = section.need("points", _points, ())
        made = Penalty.table(points) if points else Penalty.step()
    else:
        made = Penalty.step()
    section.done()
    return made


def _points(entry: Entry) -> tuple[tuple[float, float], ...]:
    points = []
    for item in entry.items():
        pair = item.items()
        if len(pair) != 2:
            raise item.wrong("a point is [lateness, penalty]", "for example [50ms, 0.5]")
        points.append((pair[0].seconds(), pair[1].number(0.0, 1.0)))
    Penalty.table(points)
    return tuple(points)


def _variants(entry: Entry, variant: Callable[[str, Entry], Variant | None]) -> tuple[Variant, ...]:
    """A mapping by name, or a list of model files that name themselves after their folders."""
    if entry.is_list:
        named = [(_name_of(item), item) for item in entry.items()]
    else:
        named = list(entry.pairs().items())
    if not named:
        raise entry.wrong("an application needs one variant or more")
    names = [name for name, _ in named]
    for name, item in named:
        if names.count(name) > 1:
            raise item.wrong(f"two variants would be named {name!r}", "write a mapping, with a name for each")
    made = [v for name, item in named for v in item.attempt(partial(variant, name))]
    return tuple(v for v in made if v is not None)


def _name_of(entry: Entry) -> str:
    path = Path(entry.text())
    plain = path.stem == "model" or path.suffix != ".onnx"
    return path.parent.name if plain and path.suffix == ".onnx" else path.stem


def _variant(
    name: str,
    entry: Entry,
    *,
    classes: Sequence[str],
    inputs: Sequence[TensorSpec],
    buckets: int,
    folder: Path,
    root: Path,
    describe: Describe,
) -> Variant | None:
    check_name(name, "variant")
    before = len(entry.problems.errors)
    section = None if entry.is_text else Section(entry)
    if section is None:
        place, path = entry, next(entry.attempt(lambda e: inside(e, folder, root)), None)
    else:
        place = section.get("model") or entry
        path = section.need("model", lambda e: inside(e, folder, root), None)

    def tensors_of_model() -> ModelFacts | None:
        if path is None:
            return None
        try:
            return describe(str(path))
        except (InvalidModel, DataUnavailable) as error:
            place.note(str(error))
            return None

    known = [spec.name for spec in inputs]
    maps_entry, out_entry = (section.get("inputs"), section.get("output")) if section else (None, None)
    maps = next((maps_entry or place).attempt(lambda _: input_maps(maps_entry, known, tensors_of_model)), ())
    out = next((out_entry or place).attempt(lambda _: output_map(out_entry, classes, tensors_of_model)), None)
    max_batch, quality = 32, None
    timing: dict[str, Timing] = {}
    if section is not None:
        max_batch = section.take("max_batch", lambda e: e.integer(1, 65536), 32)
        stated = section.take("profile", lambda e: variant_profile(e, classes, buckets), (None, {}))
        quality, timing = stated
        section.done()
    if len(entry.problems.errors) > before or path is None:
        return None
    sha = revision(path)
    return Variant(
        name=name,
        revision=sha,
        weights=sha,
        inputs=maps,
        output=out,
        model=str(path),
        max_batch=max_batch,
        quality=quality,
        timing=timing,
    )
