"""What the models and the peek of one application said of its samples, once and for all: experiments without models.

A file NAME.npz holds

- `classes`, `variants`: names [C], [V];
- `labels`, `groups`: int64 [N], the test samples; `scores`: float16 [V, N, C]; `nearest`: int16 [N, K], the labels of
  the K reference rows nearest to each, the nearest first, so that any k up to K can be tried;
- `validation_labels`, `validation_groups`, `validation_nearest`: the same of the validation samples;
- `validation_said`: int8 [V, n], what each variant answered to the validation samples; not in every old file;
- `confusion`: int64 [V, C, C], counts on the validation samples, row = true class.

Profiles come from validation and answers from test, so that what is believed of a variant and what it then does are
different data, as they are in service.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from peekserve.awareness.agreement import by_agreement, edges_for
from peekserve.awareness.calibrate import fit
from peekserve.awareness.estimate import leading
from peekserve.awareness.fusion import with_share
from peekserve.awareness.posterior import posterior_mean
from peekserve.domain.profile import Calibration, Quality
from peekserve.errors import DataUnavailable, InvalidConfiguration, InvalidData

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_OF_VALIDATION = ("validation_labels", "validation_groups", "validation_nearest")
RECORDED = Path(__file__).parents[1] / "recorded"


@dataclass(frozen=True, slots=True)
class Recording:
    """One application's recording: see the module. `scores`: variant -> float64 [N, C]. `validation_said`: variant ->
    int64 [n], empty where it was not recorded."""

    name: str
    classes: tuple[str, ...]
    labels: Ints
    groups: Ints
    scores: Mapping[str, Floats]
    nearest: Ints
    validation_labels: Ints
    validation_groups: Ints
    validation_nearest: Ints
    confusion: Mapping[str, Ints]
    validation_said: Mapping[str, Ints] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for which, labels in (("test", self.labels), ("validation", self.validation_labels)):
            missing = [name for i, name in enumerate(self.classes) if not (labels == i).any()]
            if missing:
                raise InvalidData(f"{self.name}: no {which} sample of {', '.join(missing)}")

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(self.scores)

    def quality(self, variant: str) -> Quality:
        """Recalls as measured on validation data, believed of a stream of equally frequent classes: the profile of a
        uniform sample, and never of the streamed mix."""
        return _uniform(self.confusion[variant])

    def counts(self, k: int) -> Floats:
        """float64 [N, C]: the votes of the k nearest for each test sample. Raises InvalidConfiguration for a k that
        was not recorded."""
        return votes(self.nearest, k, len(self.classes))

    def peek_quality(self, counts: Floats, labels: Ints, alpha: Sequence[float]) -> Quality:
        """What answering by the posterior's most probable class is worth, from counts float64 [n, C] and labels [n]."""
        confusion = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(confusion, (labels, leading(posterior_mean(alpha, counts))), 1)
        return _uniform(confusion)

    def validation_counts(self, k: int) -> Floats:
        """As `counts`, of the validation samples."""
        return votes(self.validation_nearest, k, len(self.classes))

    def calibration(self, k: int, alpha: Sequence[float]) -> Calibration:
        """What the votes of the k nearest are worth, from the validation samples alone, for a stream of equally
        frequent classes. `alpha`: of the Dirichlet that its loss is compared with. Raises InvalidConfiguration for a k
        that was not recorded."""
        even = (1.0 / len(self.classes),) * len(self.classes)
        counts = self.validation_counts(k)
        labels, groups = self.validation_labels, self.validation_groups
        worth = replace(fit(counts, labels, groups, alpha, even), frequencies=even)
        if not self.validation_said:
            return worth
        said = np.stack([self.validation_said[v] for v in self.variants])
        return with_share(worth, counts, said, labels, groups)

    def quality_by_agreement(self, variant: str, k: int) -> Quality:
        """As `quality`, with its recalls apart by how far the votes of the k nearest agree, where the recording says
        what the variant answered."""
        quality = self.quality(variant)
        if variant not in self.validation_said:
            return quality
        said = np.stack([self.validation_said[v] for v in self.variants])
        labels, groups, counts = self.validation_labels, self.validation_groups, self.validation_counts(k)
        apart = by_agreement(said, labels, groups, counts, edges_for(k))
        return replace(quality, by_agreement=apart[self.variants.index(variant)])

    def save(self, path: Path) -> None:
        said: dict[str, Any] = {}
        if self.validation_said:
            answers = [self.validation_said[v] for v in self.variants]
            said["validation_said"] = np.stack(answers).astype(np.int8)
        np.savez_compressed(
            path,
            classes=np.array(self.classes),
            variants=np.array(self.variants),
            labels=self.labels.astype(np.int16),
            groups=self.groups.astype(np.int32),
            scores=np.stack([self.scores[v] for v in self.variants]).astype(np.float16),
            nearest=self.nearest.astype(np.int16),
            validation_labels=self.validation_labels.astype(np.int16),
            validation_groups=self.validation_groups.astype(np.int32),
            validation_nearest=self.validation_nearest.astype(np.int16),
            confusion=np.stack([self.confusion[v] for v in self.variants]),
            **said,
        )


def load(name: str, folder: Path = RECORDED) -> Recording:
    """The recording of an application. Raises DataUnavailable where there is none, and says how to make it."""
    path = folder / f"{name}.npz"
    if not path.is_file():
        raise DataUnavailable(
            f"there is no recording of {name!r} in {folder}: prepare and profile a repository with it, then run "
            f"python -m peekserve.experiments.sneakpeek.record REPO/{name}"
        )
    with np.load(path) as arrays:
        variants = [str(v) for v in arrays["variants"]]
        scores, confusion = arrays["scores"].astype(np.float64), arrays["confusion"].astype(np.int64)
        said = arrays["validation_said"].astype(np.int64) if "validation_said" in arrays else None
        whole = {
            key: arrays[key].astype(np.int64) for key in ("labels", "groups", "nearest", *_OF_VALIDATION)
        }
        return Recording(
            name=name,
            classes=tuple(str(c) for c in arrays["classes"]),
            scores=dict(zip(variants, scores, strict=True)),
            confusion=dict(zip(variants, confusion, strict=True)),
            validation_said=dict(zip(variants, said, strict=True)) if said is not None else {},
            **whole,
        )


def votes(nearest: Ints, k: int, classes: int) -> Floats:
    """float64 [n, classes] from the labels of the nearest, int [n, K].

    >>> votes(np.array([[1, 0, 1]]), 2, 2).tolist()
    [[1.0, 1.0]]
    """
    if not 1 <= k <= nearest.shape[1]:
        raise InvalidConfiguration(f"k is 1 to {nearest.shape[1]}, as many as were recorded, not {k}")
    return np.stack([(nearest[:, :k] == c).sum(axis=1) for c in range(classes)], axis=1).astype(np.float64)


def _uniform(confusion: Ints) -> Quality:
    measured = Quality.from_confusion(confusion)
    classes = len(measured.recall)
    return Quality(measured.recall, (1.0 / classes,) * classes, measured.confusion, measured.guessed)
