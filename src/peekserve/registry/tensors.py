"""The parts of application.yaml that speak of tensors: inputs, the maps into a model, and the map out of
it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from peekserve.config import Entry, Section, nearest
from peekserve.domain.application import check_name
from peekserve.domain.tensors import (
    DATATYPES,
    InputMap,
    LogMel,
    Missing,
    OutputForm,
    OutputMap,
    Padding,
    TensorSpec,
)
from peekserve.errors import InvalidConfiguration

Tensor = tuple[str, str]  # name and datatype


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model file itself says of its tensors, in its own order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


Describe = Callable[[str], ModelFacts]


def datatype(entry: Entry) -> str:
    return entry.one_of(DATATYPES, "datatype")


def whole_numbers(low: int) -> Callable[[Entry], tuple[int, ...]]:
    return lambda entry: tuple(item.integer(low) for item in entry.items())


def tensor_spec(name: str, entry: Entry) -> TensorSpec:
    """One input of an application: its datatype, its shape per row, and what holds where a length varies."""
    section = Section(entry)
    kind = section.need("datatype", datatype, "FP32")
    shape = section.need("shape", whole_numbers(-1), ())
    buckets = section.take("buckets", whole_numbers(1), ())
    pad = section.take("pad", lambda e: e.member(Padding), Padding.ZERO)
    missing = section.take("missing", lambda e: e.member(Missing), Missing.REJECT)
    section.done()
    if 0 in shape or shape.count(-1) > 1:
        entry.note(
            f"the shape {list(shape)} needs sizes of 1 or more, and -1 at most once, for a length that varies"
        )
    elif -1 in shape and not buckets:
        entry.note("a length varies (-1) but there are no buckets", "write for example buckets: [256, 512]")
    elif buckets and -1 not in shape:
        entry.note(f"buckets are for a length that varies, and the shape {list(shape)} has no -1")
    if any(b <= a for a, b in pairwise(buckets)):
        entry.note(f"buckets rise, unlike {list(buckets)}")
    return TensorSpec(check_name(name, "input"), kind, shape, buckets, pad, missing)


def tensor_specs(entry: Entry) -> tuple[TensorSpec, ...]:
    specs = [spec for name, e in entry.pairs().items() for spec in e.attempt(partial(tensor_spec, name))]
    varying = [spec for spec in specs if spec.buckets]
    if len({len(spec.buckets) for spec in varying}) > 1:
        counts = ", ".join(f"{spec.name} has {len(spec.buckets)}" for spec in varying)
        entry.note(f"inputs whose lengths vary need equally many buckets: {counts}")
    return tuple(specs)


def input_maps(
    entry: Entry | None, known: Sequence[str], describe: Callable[[], ModelFacts | None]
) -> tuple[InputMap, ...]:
    """How a variant's tensors are made: as written, and where a tensor's name is not written, as the model
    has it.

    `describe` is called only if a name is missing; None means that the model could not be looked into (and
    that this was noted).
    """
    if entry is None:
        return _maps_of_model(known, describe)
    maps: list[InputMap] = []
    for source, one in entry.pairs().items():
        if source not in known:
            one.problems.note(
                one.wrong(f"the application has no input {source!r}", nearest(source, known)).problem
            )
            continue
        maps.extend(one.attempt(partial(_input_map, source, describe)))
    if not entry.pairs():
        entry.note("names no input", f"known: {', '.join(known)}")
    return tuple(maps)


def _maps_of_model(known: Sequence[str], describe: Callable[[], ModelFacts | None]) -> tuple[InputMap, ...]:
    facts = describe()
    if facts is None:
        return ()
    names = [name for name, _ in facts.inputs]
    if all(name in known for name in names):
        return tuple(InputMap(name, name) for name in names)
    if len(names) == 1 and len(known) == 1:
        return (InputMap(known[0], names[0]),)
    raise InvalidConfiguration(
        f"the model takes the tensors {', '.join(names)}; say under 'inputs' which input each is made of"
    )


def _input_map(source: str, describe: Callable[[], ModelFacts | None], entry: Entry) -> InputMap:
    if entry.is_text:
        return InputMap(source, entry.text())
    section = Section(entry)
    name = section.take("name", Entry.text, "")
    mel = section.take("logmel", _logmel, None)
    size = section.take("resize", _height_width, None)
    reshape = section.take("reshape", whole_numbers(-1), None)
    axes = section.take("transpose", _permutation, None)
    scale = section.take("scale", Entry.number, 1.0)
    offset = section.take("offset", Entry.number, 0.0)
    cast = section.take("cast", datatype, None)
    section.done()
    if not name:
        facts = describe()
        names = [source] if facts is None else [n for n, _ in facts.inputs]
        if len(names) > 1 and source not in names:
            raise entry.wrong("needs the key 'name'", f"the model takes {', '.join(names)}")
        name = source if source in names else names[0]
    return InputMap(source, name, mel, size, reshape, axes, scale, offset, cast)


def _logmel(entry: Entry) -> LogMel | None:
    section = Section(entry)
    rate = section.need("rate", lambda e: e.integer(1), 1)
    window = section.need("window", Entry.positive_seconds, 1.0)
    hop = section.need("hop", Entry.positive_seconds, 1.0)
    bands = section.need("bands", lambda e: e.integer(1, 1024), 1)
    section.done()
    return LogMel(rate, window, hop, bands)


def _height_width(entry: Entry) -> tuple[int, int] | None:
    sizes = whole_numbers(1)(entry)
    if len(sizes) != 2:
        raise entry.wrong(f"is [height, width], not {list(sizes)}")
    return sizes[0], sizes[1]


def _permutation(entry: Entry) -> tuple[int, ...] | None:
    axes = whole_numbers(0)(entry)
    if sorted(axes) != list(range(len(axes))):
        raise entry.wrong(f"{list(axes)} is no order of the axes 0 to {len(axes) - 1} of one row")
    return axes


def output_map(
    entry: Entry | None, classes: Sequence[str], describe: Callable[[], ModelFacts | None]
) -> OutputMap | None:
    """How a variant's output becomes class scores; what is not written is taken from the model. None if
    that fails.
    """
    if entry is None:
        return _output_of_model("", None, describe)
    if entry.is_text:
        return _output_of_model(entry.text(), None, describe)
    section = Section(entry)
    name = section.take("name", Entry.text, "")
    form = section.take("form", lambda e: e.member(OutputForm), None)
    order = section.take("order", lambda e: tuple(class_index(i, classes) for i in e.items()), ())
    labels = section.take("labels", lambda e: _labels(e, classes), ())
    section.done()
    if labels and form is None:
        form = OutputForm.LABEL
    if labels and form is not OutputForm.LABEL:
        entry.note(f"labels are for the form 'label', not {form!s}")
    if order and form is OutputForm.LABEL:
        entry.note("an order is for logits and probabilities; labels have their own map")
    if order and len(order) < len(classes):
        entry.note(f"the order names {len(order)} of {len(classes)} classes")
    if name and form is not None:
        return OutputMap(name, form, order, labels)
    found = _output_of_model(name, form, describe)
    return None if found is None else OutputMap(found.name, found.form, order, labels)


def _output_of_model(
    name: str, form: OutputForm | None, describe: Callable[[], ModelFacts | None]
) -> OutputMap | None:
    if not name:
        facts = describe()
        if facts is None:
            return None
        # Exporters of trees give a label first and the probabilities after it.
        floats = [n for n, kind in facts.outputs if kind.startswith("FP")]
        names = [n for n, _ in facts.outputs]
        name = names[0] if form is OutputForm.LABEL or not floats else floats[0]
    guess = OutputForm.PROBABILITIES if name.lower().startswith("prob") else OutputForm.LOGITS
    return OutputMap(name, form or guess)


def class_index(entry: Entry, classes: Sequence[str]) -> int:
    return list(classes).index(entry.one_of(classes, "class"))


def _labels(entry: Entry, classes: Sequence[str]) -> tuple[tuple[int, int], ...]:
    pairs = []
    for value, name in entry.pairs().items():
        if not value.removeprefix("-").isdecimal() or len(value) > 18:
            raise name.wrong(f"the label {value!r} is not a whole number")
        pairs.append((int(value), class_index(name, classes)))
    return tuple(pairs)
