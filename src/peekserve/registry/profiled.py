"""Profiles, measured or stated, put where the scheduler reads them: in the variants themselves.

What was measured wins over what an owner states: a statement stands in until there is a measurement.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import msgspec

from peekserve.domain.application import CHOSEN, Application, PeekSpec, Variant
from peekserve.domain.profile import Calibration, LatencyCurve, Quality, Timing
from peekserve.registry.confined import digest, revision
from peekserve.registry.stated import DEVICES, STATED


class Profiles(Protocol):
    """What was measured, by the keys below, the digest of the validation data and the device's fingerprint."""

    def quality(self, model_sha: str, validation_sha: str) -> Quality | None: ...

    def timing(self, model_sha: str, fingerprint: str) -> Timing | None: ...

    def timings_elsewhere(self, model_sha: str) -> tuple[str, ...]: ...

    def peek_quality(self, peek_sha: str, validation_sha: str) -> Quality | None: ...

    def peek_latency(self, peek_sha: str, fingerprint: str) -> LatencyCurve | None: ...

    def calibration(self, peek_sha: str, validation_sha: str) -> Calibration | None: ...

    def agreement(self, model_sha: str, votes_sha: str) -> tuple[tuple[float, ...], ...] | None: ...


def validation_sha(application: Application) -> str:
    """The digest of the labelled data that an application's profiles are measured on; empty where it has
    none.
    """
    return digest(Path(application.validation)) if application.validation else ""


def profile_key(application: Application, variant: Variant) -> str:
    """What a variant's profiles are kept under: its revision and all that changes what it is worth or costs
    without changing a byte of the model: the maps into and out of it, the classes, the datatypes, shapes
    and buckets.
    """
    specs = [spec for spec in application.inputs if spec.name in variant.needs]
    return _sha(variant.revision, variant.inputs, variant.output, application.classes, specs)


def peek_key(application: Application, spec: PeekSpec) -> str:
    """What a peek's profile is kept under: its reference data, features, neighbours and their index, or its model,
    and the prior it adds to.
    """
    *votes, specs = _votes_of(application, spec)
    return _sha(*votes, application.prior, specs)


def votes_key(application: Application, spec: PeekSpec, validation_sha: str) -> str:
    """What a variant's recalls by agreement are kept under beside its own key: all that decides how the peek votes on
    the validation data. The prior does only where k is chosen by it.
    """
    prior = application.prior if spec.neighbours == CHOSEN else ()
    return _sha(*_votes_of(application, spec), prior, validation_sha)


def _votes_of(application: Application, spec: PeekSpec) -> tuple[object, ...]:
    models = [revision(Path(step.model)) if step.model else "" for step in spec.features]
    steps = [(s.kind, s.components, s.bins, m) for s, m in zip(spec.features, models, strict=True)]
    specs = [one for one in application.inputs if one.name in spec.inputs]
    decides = spec.decision
    source = (decides.revision, decides.inputs, decides.output) if decides else digest(Path(spec.reference))
    return source, spec.inputs, steps, spec.neighbours, spec.index, application.classes, specs


def _sha(*parts: object) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def with_profiles(
    application: Application, store: Profiles, fingerprint: str, validation_sha: str, device: str = "cpu"
) -> Application:
    """The application with the profiles that hold on the device of this fingerprint, under the key `device`.

    A variant without any stays without: it can be served, and no time or accuracy is promised for it.
    """
    peek, votes = application.peek, ""
    if peek is not None and (peek.decision is not None or Path(peek.reference).is_file()):
        key = peek_key(application, peek)
        votes = votes_key(application, peek, validation_sha)
        peek = replace(
            peek,
            quality=store.peek_quality(key, validation_sha) or peek.quality,
            latency=store.peek_latency(key, fingerprint) or peek.latency,
            calibration=store.calibration(key, validation_sha),
        )
    variants = tuple(
        _profiled(v, profile_key(application, v), store, fingerprint, validation_sha, device, votes)
        for v in application.variants
    )
    return replace(application, variants=variants, peek=peek)


def unprofiled(application: Application, device: str = "cpu") -> tuple[str, ...]:
    """Names of the variants that lack a timing on this device or a quality."""
    return tuple(v.name for v in application.variants if device not in v.timing or v.quality is None)


def why_untimed(application: Application, variant: Variant, store: Profiles, fingerprint: str) -> str:
    """Why a variant has no measured timing here, for a message."""
    elsewhere = [f for f in store.timings_elsewhere(profile_key(application, variant)) if f != fingerprint]
    if not elsewhere:
        return f"variant {variant.name!r} of {application.name!r} was never timed; run peekserve profile"
    return (
        f"variant {variant.name!r} of {application.name!r} was timed on {'; '.join(elsewhere)}, and this device is "
        f"{fingerprint}: run peekserve profile here"
    )


def _profiled(
    variant: Variant,
    key: str,
    store: Profiles,
    fingerprint: str,
    validation_sha: str,
    device: str,
    votes: str,
) -> Variant:
    timing = variant.timing.get(device)
    # What is imitated is stated by its name: measurements here say nothing of it.
    if device.partition(":")[0] in DEVICES:
        timing = store.timing(key, fingerprint) or variant.timing.get(STATED) or timing
    timings: dict[str, Timing] = {**variant.timing, **({device: timing} if timing is not None else {})}
    quality = store.quality(key, validation_sha)
    if quality is not None and votes:
        quality = replace(quality, by_agreement=store.agreement(key, votes) or ())
    return replace(variant, timing=timings, quality=quality or variant.quality)
