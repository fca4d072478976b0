"""Made-up recordings: samples of every difficulty, models of every skill, and what each says of each sample."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from peekserve.cascades.cascade import Answers
from peekserve.domain.application import Application, QueryType, Variant
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.planner.problem import Device, Loads, Problem, Slo, devices, models
from peekserve.sim.world import Recorded

# Skill, and milliseconds for a batch of one and of sixteen.
FAMILY = {"tiny": (1.6, 2.0, 8.0), "small": (2.4, 5.0, 30.0), "large": (4.0, 20.0, 160.0)}
CLASSES = 4


def recordings(
    skills: Mapping[str, float], samples: int, seed: int = 0, groups: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]:
    """Class scores [N, C] by model, labels [N] and groups [N]. A model is less sure, and more often wrong, of what is
    difficult beyond its skill; samples of a group are alike in difficulty."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, samples)
    of = rng.integers(0, groups, samples) if groups else None
    difficulty = rng.exponential(1.0, samples)
    if of is not None:
        difficulty = 0.3 * difficulty + rng.exponential(1.0, groups)[of]
    scores = {}
    for name, skill in skills.items():
        logits = rng.normal(0.0, 1.0, (samples, CLASSES))
        logits[np.arange(samples), labels] += skill + 2.0 - 1.5 * difficulty
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores[name] = raised / raised.sum(axis=1, keepdims=True)
    return scores, labels, of


def skills() -> dict[str, float]:
    return {name: skill for name, (skill, _, _) in FAMILY.items()}


@cache
def some_answers(samples: int = 2000, seed: int = 0, groups: int = 0, measure: str = "margin") -> Answers:
    return Answers.recorded(*recordings(skills(), samples, seed, groups), measure=measure)


def seconds() -> dict[str, float]:
    """For a sample in a batch of sixteen."""
    return {name: sixteen / 16e3 for name, (_, _, sixteen) in FAMILY.items()}


def an_application(
    mebibytes: int = 1, deadline_s: float = 0.2, kinds: Sequence[str] = ("cpu",)
) -> Application:
    """The family, `mebibytes` each."""
    variants = []
    for name, (_, one, sixteen) in FAMILY.items():
        curve = LatencyCurve((1, 16), (one / 1e3, sixteen / 1e3))
        timing = Timing((curve,), load_s=0.01, bytes=mebibytes * 2**20)
        quality = Quality((0.9,) * CLASSES, (1 / CLASSES,) * CLASSES)
        timings = dict.fromkeys(kinds, timing)
        variants.append(
            Variant(name, f"sha-{name}", f"sha-{name}", max_batch=16, quality=quality, timing=timings)
        )
    return Application(
        "app", tuple("abcd"), tuple(variants), (0.5,) * CLASSES, queries=(("default", QueryType(deadline_s)),)
    )


@cache
def a_recording(samples: int = 2000, seed: int = 0) -> Recorded:
    scores, labels, _ = recordings(skills(), samples, seed)
    return Recorded(labels.astype(np.int64), scores)


def a_problem(
    slo: str = "p95=200ms",
    highest: float = 400.0,
    ranges: int = 4,
    on: str | Sequence[Device] = "cpu",
    mebibytes: int = 1,
    **more,
) -> Problem:
    app = an_application(mebibytes)
    on = devices(on) if isinstance(on, str) else tuple(on)
    return Problem(
        "app",
        models(app, [d.kind for d in on]),
        more.pop("answers", None) or some_answers(),
        on,
        Slo.parse(slo),
        more.pop("loads", None) or Loads.zipf(highest, ranges),
        "this-device",
        **more,
    )
