"""What a model said is evidence too: beliefs of everything that has spoken, and what one more voice would be worth.

The theory. A row has one true class c. Before anything spoke the belief is the prior pi. The peek makes theta of it
(calibrate.py). When variant m then says class o, Bayes' rule asks how likely it is to say that of a row of each class:

    P(o | c, m),     row c of its confusion matrix on validation data, with one sample spread evenly over the classes

added to each row, so that nothing is impossible and a class that was never seen says nothing.

**Errors are not independent.** Given the class, the votes of neighbours and the answers of models err on the same rows:
those that lie far from all others of their class. Bayes' rule taken at its word would count the same doubt, or the same
confidence, twice. A product of experts with exponents does not. We ask for two things: the answer of a good model must
not be spoilt by a peek that is wrong and sure of itself, and the order in which things spoke must not matter. So the
strongest voice, by profiled accuracy, counts in full, and each of the others with one share s of what it says, 0 to 1:

    belief(c)  ~  pi_c  (theta_c / pi_c)^e_0  prod_m P(o_m | c, m)^e_m,        e = 1 for the strongest, s for the others

With nothing but the peek this is theta; with s = 1 and independent errors it is Bayes' rule. `fit_fusion` finds s by
log loss, one number for each application; where it was never fitted, voices count as half: `SHARE`.

**Is it worth it at all?** A model has learnt from far more data than its confusions are counted on, and knows its row
better than they do. So what everything says together takes the place of what a model says by itself only where that is
shown to be right more often: on validation data, each sample judged by counts that its own group took no part in, by a
gain above 0 with 95% confidence. Samples of one group are one witness, so the gain is as uncertain as its mean over
groups is. Where groups are named, they may still be alike: two neighbouring ones of a class may come from one house, or
one device. Then a class may be no more than one witness, and the gain must be above 0 as a mean over the classes too.
(On eleven kinds of appliance, six neighbouring measurements being a group, fused answers gained 0.13 over models of
0.57, four times its uncertainty over groups. Nearly all of it came from two classes, and to the others it did nothing.
Of other appliances it did not hold.) Few groups or classes say little, as Student's t knows: of two groups a gain must
be 6.3 times its standard error. But t takes the gains of groups for normal, which nobody can look at in two or three
people: two that gain alike by chance have a small standard error and seem to prove anything. Without that belief there
is the sign test, and chance alone lets all of n groups gain in 1 of 2^n cases. So below FEWEST = 5 groups (1 of 32, the
first below 0.05) nothing is shown to hold of others, whatever t says. Rows that name no group each stand for
themselves. Where nothing is shown the share is 0, which means: a model's answer is its own, and no row is asked twice.

**Is a second model worth asking?** The same question again, of the same samples: each is answered by one model and the
peek, and where the best of the others promises WORTH_A_RUN or more, by that one too. What this changes in right answers
must be above 0 by the same measure, over groups and classes, each part of the groups being judged by counts of the
others. What is promised is not asked; a belief always promises itself something.

**What an answer is worth.** Answering c is worth w_c times its probability (weights as in estimate.py), so a row is
answered by the c with the largest w_c belief_c, and that is what it is worth: its *value*.

**What one more voice would be worth.** Not that the belief becomes surer, which it always expects of itself, but that
the answer becomes another, better one. If v says o the answer will be d(o), the best under the belief that this makes.
Of a row of class c it says o with chance K(o | c): P(o | c, v) if it would be the strongest voice, and else
P(o | c, v)^s, scaled to sum to 1 over o, since of what a weaker voice says only that share is news. So

    expected(v)  =  sum_o w_d belief_d K(o | d),   d = d(o),        and never less than the value now

With s = 1 that is sum_o max_c w_c belief_c P(o | c, v), Bayes' own, which never falls below the value now. With
exponents d(o) may forget more than it learns; but an answer in hand can be kept. If nothing is known yet and the models
are better than chance at every class, it is the weighted recall . pi of eq. 9.

Sums run over the classes in order, and what comes out is rounded to DECIMALS, since the last bits of exp and log differ
between processors and plans may not hang on them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import sqrt

import numpy as np
import numpy.typing as npt

from peekserve.awareness.calibrate import Sampled, from_logs, held_out
from peekserve.domain.profile import Calibration
from peekserve.errors import InvalidData

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]
Bools = npt.NDArray[np.bool_]

SHARE = 0.5
# Groups below which no gain is shown to hold of others.
FEWEST = 5
# What another answer must promise, in accuracy, before anybody is asked for it (escalate_gain, where none is written).
WORTH_A_RUN = 0.02
DECIMALS = 12
UNASKED = -1
_LEAST = 1e-12
_HALVINGS = 40
# Groups are left out in so many parts where second answers are judged.
_PARTS = 20
# Student's t, 95% of it below, of 1, 2, ... degrees of freedom; above these it is about 1.645 + 1.52 / degrees.
_T95 = (
    6.314,
    2.920,
    2.353,
    2.132,
    2.015,
    1.943,
    1.895,
    1.860,
    1.833,
    1.812,
    1.796,
    1.782,
    1.771,
    1.761,
    1.753,
)


def likelihoods(confusions: npt.ArrayLike) -> Floats:
    """float64 [V, C, C]: P(o | c, m), row = true class, from counts [V, C, C]; positive, every row sums to 1.

    >>> likelihoods([[[8, 1], [0, 0]]]).tolist()
    [[[0.85, 0.15], [0.5, 0.5]]]
    """
    counts = np.asarray(confusions, dtype=np.float64)
    if counts.ndim != 3 or counts.shape[1] != counts.shape[2] or (counts < 0.0).any():
        raise InvalidData(f"confusions are counts [V, C, C], not of shape {counts.shape}")
    chances: Floats = (counts + 1.0 / counts.shape[2]) / (counts.sum(axis=2, keepdims=True) + 1.0)
    return chances


@dataclass(frozen=True, slots=True)
class Fusion:
    """One application's voices: V variants and the peek, C classes.

    `chances`: float64 [V, C, C], from `likelihoods`. `rank`: of each variant and, last, of the peek, all different, the
    strongest has the largest. `weights`: float64 [C], what a right answer of each class is worth. `share`: s.
    """

    chances: Floats
    rank: tuple[int, ...]
    weights: Floats
    share: float = SHARE

    @classmethod
    def of(
        cls, confusions: npt.ArrayLike, strengths: Sequence[float], weights: Floats, share: float = SHARE
    ) -> "Fusion":
        """`strengths`: the profiled accuracy of each variant and, last, of the peek. Of equals the earlier one is the
        stronger. Raises InvalidData."""
        chances = likelihoods(confusions)
        if len(strengths) != len(chances) + 1 or not 0.0 <= share <= 1.0:
            raise InvalidData(
                f"{len(chances)} variants need {len(chances) + 1} strengths and a share from 0 to 1, not "
                f"{len(strengths)} and {share}"
            )
        order = sorted(range(len(strengths)), key=lambda i: (strengths[i], -i))
        rank = [0] * len(strengths)
        for place, who in enumerate(order):
            rank[who] = place
        return cls(chances, tuple(rank), np.asarray(weights, dtype=np.float64), share)

    def belief(self, theta: Floats, prior: Floats, looked: Bools, said: Ints) -> Floats:
        """float64 [n, C]: what is believed when all of it is taken together; every row sums to 1.

        `theta`: float64 [n, C], after the peek. `prior`: float64 [C], before it. `looked`: bool [n], did the peek say
        anything? `said`: int [n, V], the class that each variant named, UNASKED where it has not been asked.
        """
        return from_logs(_logs(self, theta, prior, looked, said)[0])

    def value(self, belief: Floats) -> Floats:
        """float64 [n]: what the best answer under such beliefs, float64 [n, C], is worth."""
        return np.asarray(np.round((belief * self.weights).max(axis=1), DECIMALS))

    def labels(self, belief: Floats) -> npt.NDArray[np.int64]:
        """int64 [n]: that answer; of equals the first class."""
        return np.asarray(np.round(belief * self.weights, DECIMALS).argmax(axis=1))

    def expected(self, theta: Floats, prior: Floats, looked: Bools, said: Ints) -> Floats:
        """float64 [n, V]: the value to expect if this variant is asked next; the value now for one that was.

        >>> two = Fusion.of([[[9, 1], [1, 9]]], [0.9, 0.6], np.ones(2))
        >>> flat, unasked = np.full((1, 2), 0.5), np.full((1, 1), UNASKED)
        >>> two.expected(flat, flat[0], np.zeros(1, np.bool_), unasked).round(4).tolist()
        [[0.8636]]
        """
        logs, quiet, top = _logs(self, theta, prior, looked, said)
        now = from_logs(logs)
        least = self.value(now)
        wins = np.array(self.rank[:-1]) > top[:, None]
        ground = np.where(wins[:, :, None], quiet[:, None, :], logs[:, None, :])
        exponent = np.where(wins, 1.0, self.share)
        voices = np.log(self.chances)
        # [n, V, o, c]: the log of the belief after each thing that it could say, up to a constant.
        then = ground[:, :, None, :] + exponent[:, :, None, None] * voices.transpose(0, 2, 1)
        answer = np.round(then + np.log(self.weights), DECIMALS).argmax(axis=3)
        tempered = np.exp(self.share * voices)
        tempered = tempered / np.cumsum(tempered, axis=2)[:, :, -1:]
        chance = np.where(wins[:, :, None, None], self.chances, tempered)  # [n, V, c, o]
        said_then = np.take_along_axis(chance.transpose(0, 1, 3, 2), answer[..., None], axis=3)[..., 0]
        worth = np.take_along_axis((now * self.weights)[:, None, :], answer, axis=2)
        expected = np.round(np.cumsum(worth * said_then, axis=2)[:, :, -1], DECIMALS)
        return np.asarray(np.where(said == UNASKED, np.maximum(expected, least[:, None]), least[:, None]))


def with_share(
    calibration: Calibration,
    counts: Floats,
    said: Ints,
    labels: Ints,
    groups: npt.NDArray[np.generic] | None = None,
    prior: Sequence[float] | None = None,
    beside: Sampled | None = None,
) -> Calibration:
    """The same calibration with `fusion` and `escalates` found, by `fit_fusion` and `worth_asking`, for a peek's votes
    float64 [n, C] and what the variants said, int [V, n], of the samples with these labels that it was fitted on.
    `prior`: the mix that is asked for, None for that of the samples. `beside`: what else it was fitted on. Raises
    InvalidData."""
    pi = np.array(calibration.frequencies if prior is None else prior)
    # A peek that is judged on samples which its table was counted on seems to know more than it does.
    fitted = Sampled(counts, labels, groups).beside(beside)
    theta = held_out(calibration, fitted.counts, fitted.labels, fitted.groups, pi)[: len(labels)]
    confusions = np.zeros((len(said), len(pi), len(pi)), dtype=np.int64)
    for table, answers in zip(confusions, said, strict=True):
        np.add.at(table, (labels, answers), 1)
    share = fit_fusion(theta, said, confusions, labels, groups, pi)
    again = share > 0.0 and worth_asking(theta, said, confusions, labels, groups, pi, share)
    return replace(calibration, fusion=share, escalates=again)


def fit_fusion(
    theta: Floats,
    said: Ints,
    confusions: Ints,
    labels: Ints,
    groups: npt.NDArray[np.generic] | None = None,
    prior: Floats | None = None,
) -> float:
    """The share s, 0 to 1, of the least log loss on validation data, over every variant alone and every pair of them;
    0 where fused answers with that share are not shown to be right more often than the variants' own.

    `theta`: float64 [n, C], the beliefs after the peek, and `prior`: float64 [C], before it (the mix of the samples
    where it is None); samples are weighted so that each class counts by it. `said`: int [V, n]. `confusions`: int
    [V, C, C], counts on these samples: those of a sample's own group, or its own where there are no groups, are left
    out for it. `labels`: int [n]. A penalty of 2 (s - SHARE)^2 nats in all keeps a few samples from deciding much.
    Raises InvalidData.
    """
    table, labels = np.asarray(confusions, dtype=np.float64), np.asarray(labels)
    many, classes = theta.shape
    if said.shape != (len(table), many) or len(labels) != many or not many:
        raise InvalidData(
            f"{many} beliefs, {len(labels)} labels and answers {said.shape} of {len(table)} variants do not fit"
        )
    pi, weight = _mix(labels, classes, prior)
    heard = np.log(_held_out(table, said, labels, groups))
    voices = np.concatenate((heard, (np.log(np.maximum(theta, _LEAST)) - np.log(pi))[None]))
    strengths = [float((weight * (one == labels)).sum()) for one in (*said, theta.argmax(axis=1))]
    # Linear in s, so the loss is convex in it: where its slope changes sign is its minimum.
    cases, own = [], []
    for size in (1, 2):
        for chosen in combinations(range(len(table)), size):
            who = [*chosen, len(table)]
            strongest = max(who, key=lambda i: (strengths[i], -i))
            base = np.log(pi) + voices[strongest]
            cases.append((base, np.sum([voices[i] for i in who if i != strongest], axis=0)))
            own.append(said[max(chosen, key=lambda i: (strengths[i], -i))] == labels)
    at = np.arange(many)

    def slope(share: float) -> float:
        total = 4.0 * (share - SHARE)
        for base, rest in cases:
            belief = from_logs(base + share * rest)
            excess = (belief * rest).sum(axis=1) - rest[at, labels]
            total += float((weight * excess).sum()) / len(cases)
        return total

    share = _least(slope)
    gain = np.zeros(many)
    for (base, rest), alone in zip(cases, own, strict=True):
        fused = np.round(base + share * rest, DECIMALS).argmax(axis=1) == labels
        gain += (fused.astype(np.float64) - alone) / len(cases)
    return share if _shown(gain, weight, labels, groups) else 0.0


def worth_asking(
    theta: Floats,
    said: Ints,
    confusions: Ints,
    labels: Ints,
    groups: npt.NDArray[np.generic] | None,
    prior: Floats | None,
    share: float,
) -> bool:
    """Are rows that one model and the peek have answered, and that are asked of a second one where that promises
    WORTH_A_RUN, shown to be right more often for it? Every variant is the first one in turn, and the second is the one
    that promises most. Arguments as in `fit_fusion`; `share`: its result."""
    many, classes = theta.shape
    pi, weight = _mix(labels, classes, prior)
    table = np.asarray(confusions, dtype=np.int64)
    strengths = [float((weight * (one == labels)).sum()) for one in (*said, theta.argmax(axis=1))]
    part = _own_groups(labels, groups) % _PARTS
    gain, looked = np.zeros(many), np.ones(many, np.bool_)
    for one in range(int(part.max()) + 1):
        rows = np.flatnonzero(part == one)
        rest = table.copy()
        for v in range(len(table)):
            np.subtract.at(rest[v], (labels[rows], said[v, rows]), 1)
        fusion = Fusion.of(np.maximum(rest, 0), strengths, np.ones(classes), share)
        for first in range(len(said)):
            heard = np.full((len(rows), len(said)), UNASKED)
            heard[:, first] = said[first, rows]
            before = fusion.belief(theta[rows], pi, looked[rows], heard)
            promised = fusion.expected(theta[rows], pi, looked[rows], heard) - fusion.value(before)[:, None]
            second = promised.argmax(axis=1)
            asked = np.flatnonzero(promised.max(axis=1) > WORTH_A_RUN)
            heard[asked, second[asked]] = said[second[asked], rows[asked]]
            after = fusion.belief(theta[rows], pi, looked[rows], heard)
            right = [(fusion.labels(belief) == labels[rows]).astype(np.float64) for belief in (before, after)]
            gain[rows] += (right[1] - right[0]) / len(said)
    return _shown(gain, weight, labels, groups)


def _mix(labels: Ints, classes: int, prior: Floats | None) -> tuple[Floats, Floats]:
    """(float64 [C], the mix that is asked for, of the samples where it is None; float64 [n], what each sample counts
    for it, n in all)."""
    present = np.bincount(labels, minlength=classes)
    pi = (present + 0.5) if prior is None else np.asarray(prior, dtype=np.float64)
    pi = pi / pi.sum()
    weight = (pi / np.maximum(present, 1))[labels]
    return pi, weight / weight.sum() * len(labels)


def _shown(gain: Floats, weight: Floats, labels: Ints, groups: npt.NDArray[np.generic] | None) -> bool:
    """Is a mean gain above 0 with 95% confidence, over rows that name no group, or over groups and over classes?"""
    if groups is None:
        return _surely(gain, weight, np.arange(len(gain))) > 0.0
    if len(np.unique(groups)) < FEWEST:
        return False
    return all(_surely(gain, weight, who) > 0.0 for who in (np.asarray(groups), labels))


def _least(slope: Callable[[float], float]) -> float:
    """Where a convex function with this slope is least, between 0 and 1."""
    low, high = 0.0, 1.0
    if slope(low) >= 0.0 or slope(high) <= 0.0:
        return low if slope(low) >= 0.0 else high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if slope(middle) < 0.0 else (low, middle)
    return (low + high) / 2.0


def _surely(gain: Floats, weight: Floats, witness: npt.NDArray[np.generic]) -> float:
    """What the mean gain is above with 95% confidence, 0 if there is one witness alone. `witness`: [n]; rows of one are
    not independent."""
    names, of = np.unique(witness, return_inverse=True)
    many, total = len(names), float(weight.sum())
    if many < 2:
        return 0.0
    mean = float((weight * gain).sum()) / total
    apart = np.bincount(of.reshape(-1), weights=weight * (gain - mean), minlength=many)
    error = sqrt(float((apart**2).sum()) * many / (many - 1)) / total
    t = _T95[many - 2] if many - 2 < len(_T95) else 1.645 + 1.52 / (many - 1)
    return mean - t * error


def _own_groups(labels: Ints, groups: npt.NDArray[np.generic] | None) -> npt.NDArray[np.int64]:
    """int64 [n]: the group of each sample; each its own where they are all of one."""
    own = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    return own if len(np.unique(own)) > 1 else np.arange(len(labels))


def _logs(
    fusion: Fusion, theta: Floats, prior: Floats, looked: Bools, said: Ints
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Logs of the belief, float64 [n, C], up to a constant; the same with every voice at its share only; and the rank
    of the strongest voice, int64 [n], -1 where none has spoken."""
    ground = np.log(prior)
    evidence = np.where(looked[:, None], np.log(np.maximum(theta, _LEAST)) - ground, 0.0)
    top = np.where(looked, fusion.rank[-1], -1)
    loudest = evidence
    quiet = ground + fusion.share * evidence
    logs = np.log(fusion.chances)
    for v, rank in enumerate(fusion.rank[:-1]):
        asked = said[:, v] != UNASKED
        if not asked.any():
            continue
        heard = np.where(asked[:, None], logs[v].T[np.where(asked, said[:, v], 0)], 0.0)
        quiet = quiet + fusion.share * heard
        stronger = asked & (rank > top)
        loudest = np.where(stronger[:, None], heard, loudest)
        top = np.where(stronger, rank, top)
    return quiet + (1.0 - fusion.share) * loudest, quiet, top


def _held_out(table: Floats, said: Ints, labels: Ints, groups: npt.NDArray[np.generic] | None) -> Floats:
    """float64 [V, n, C]: P(what it said | c) by counts that the sample's own group took no part in."""
    many = len(labels)
    own = _own_groups(labels, groups)
    heard = np.empty((len(table), many, table.shape[1]))
    order = np.argsort(own, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(own[order])) + 1):
        rest = table.copy()
        for v in range(len(table)):
            np.subtract.at(rest[v], (labels[rows], said[v, rows]), 1.0)
        chances = likelihoods(np.maximum(rest, 0.0))
        for v in range(len(table)):
            heard[v, rows] = chances[v].T[said[v, rows]]
    return heard
