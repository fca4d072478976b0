"""The `peek` of application.yaml: what it looks at, and what its evidence is."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from peekserve.config import Entry, Section
from peekserve.domain.application import CHOSEN, FeatureStep, IndexKind, IndexSpec, PeekSpec, Variant
from peekserve.domain.tensors import TensorSpec
from peekserve.peeking.features import KINDS
from peekserve.registry.confined import inside
from peekserve.registry.stated import peek_profile

MOST_NEIGHBOURS = 1000


def peek_spec(
    entry: Entry,
    classes: Sequence[str],
    inputs: Sequence[TensorSpec],
    folder: Path,
    root: Path,
    variant: Callable[[str, Entry], Variant | None],
) -> PeekSpec | None:
    """The peek that `entry` declares. `variant` reads a model with its maps, as those of the application are read."""
    section = Section(entry)
    known = [spec.name for spec in inputs]
    quality, latency = section.take("profile", lambda e: peek_profile(e, classes), (None, None))
    by_model, decision = section.take("evidence", lambda e: _evidence(e, inputs, variant), (False, None))
    if by_model:
        for key in ("features", "neighbours", "inputs", "reference"):
            section.take(
                key, lambda e: e.note("has no meaning beside a model's decision", "leave it out"), None
            )
        section.done()
        sees = decision.needs if decision is not None else ()
        return PeekSpec(sees, (), 1, "", quality, latency, decision=decision)
    sees = section.take(
        "inputs", lambda e: tuple(i.one_of(known, "input") for i in e.items()), tuple(known[:1])
    )
    steps = section.need("features", lambda e: tuple(e.each(lambda s: _step(s, folder, root))), ())
    k, index = section.take("neighbours", _neighbours, (5, IndexSpec()))
    reference = section.need("reference", lambda e: str(inside(e, folder, root)), "")
    section.done()
    if not sees:
        entry.note("needs one input or more", f"known: {', '.join(known)}")
    return PeekSpec(sees, steps, k, reference, quality, latency, index)


def _evidence(
    entry: Entry, inputs: Sequence[TensorSpec], variant: Callable[[str, Entry], Variant | None]
) -> tuple[bool, Variant | None]:
    """Whether a model's decision is the evidence, and that model."""
    if entry.is_text:
        if entry.text() == "model":
            raise entry.wrong(
                "does not say which model", "write for example {kind: model, model: tiny/model.onnx}"
            )
        entry.one_of(("neighbours", "model"), "evidence")
        return False, None
    section = Section(entry)
    kind = section.need("kind", lambda e: e.one_of(("neighbours", "model", "stated"), "evidence"), "")
    if kind == "stated":
        raise entry.wrong(
            "evidence at a stated accuracy is drawn from the true labels, which no request brings",
            "it is for experiments: peekserve.peeking.stated",
        )
    if kind != "model":
        if kind:
            section.done()
        return False, None
    for key in ("max_batch", "profile"):
        section.take(
            key,
            lambda e: e.note("belongs to a variant", "write the peek's own profile beside evidence"),
            None,
        )
    rest = {key: one for key, one in entry.pairs().items() if key not in ("kind", "max_batch", "profile")}
    decision = variant("evidence", replace(entry, value=rest))
    varying = [spec.name for spec in inputs if decision and spec.name in decision.needs and spec.buckets]
    if varying:
        entry.note(
            f"a model's decision would depend on the padding of {', '.join(varying)}",
            "let neighbours be the evidence of inputs whose length varies",
        )
    return True, decision


def _neighbours(entry: Entry) -> tuple[int, IndexSpec]:
    """How many, and how they are looked for: a number, `auto`, or a mapping."""
    if entry.is_text:
        return _k(entry), IndexSpec()
    section = Section(entry)
    k = section.take("k", _k, 5)
    kind = section.take("index", lambda e: e.member(IndexKind), IndexKind.AUTO)
    numbers = {
        name: section.take(name, lambda e: e.integer(1, 1 << 20), 0)
        for name in ("cells", "probes", "links", "breadth", "bits")
    }
    section.done()
    return k, IndexSpec(kind, **numbers)


def _k(entry: Entry) -> int:
    text = entry.text()
    if text == "auto":
        return CHOSEN
    if text[:1].isalpha():
        raise entry.wrong(f"{text[:100]!r} is neither a number nor auto")
    return entry.integer(1, MOST_NEIGHBOURS)


def _step(entry: Entry, folder: Path, root: Path) -> FeatureStep:
    if entry.is_text:
        kind = entry.one_of(KINDS, "feature")
        if kind in ("pca", "onnx"):
            key = "components: 16" if kind == "pca" else "model: embed.onnx"
            raise entry.wrong(f"{kind} needs an option", f"write {{kind: {kind}, {key}}}")
        return FeatureStep(kind)
    section = Section(entry)
    kind = section.need("kind", lambda e: e.one_of(KINDS, "feature"), "")
    if not kind:
        return FeatureStep(kind)  # noted already; its other keys cannot be judged
    components = section.need("components", lambda e: e.integer(1), 0) if kind == "pca" else 0
    bins = section.take("bins", lambda e: e.integer(1), 0) if kind in ("raw", "spectrum") else 0
    model = section.need("model", lambda e: str(inside(e, folder, root)), "") if kind == "onnx" else ""
    section.done()
    return FeatureStep(kind, components, bins, model)
