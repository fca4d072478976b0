"""How much a vote is worth: votes and a prior make a belief that can be taken at its word.

The theory. SneakPeek adds votes to a Dirichlet (posterior.py), as if each neighbour were a draw from the row's own
class probabilities. That knows nothing of which classes the peek mixes up, and takes five neighbours of one row for
five independent witnesses. We ask Bayes instead what the votes y would be if the row were of class c:

    log P(c | y)  =  log pi_c  +  tau sum_v y_v log Z[c, v]  +  a constant

`Z[c, v]` is the chance that a vote on a row of class c names class v: the *vote confusion*, counted on labelled data.
`pi` is how often each class is expected (priors.py). Were the votes independent given the class, tau would be 1 and
this would be Bayes' rule. They are not: neighbours of one row lie near each other and err together. One number, the
*temperature* tau, says what share of a vote counts as a new one; five neighbours are commonly worth two or three. With
tau = 0 the votes say nothing and the belief is the prior. (Measured on a prototype; the form is that of temperature
scaling, Guo et al. 2017, with the likelihood scaled and the prior left alone, so that the prior may move later.)

**Vote confusion.** Each sample counts once, its votes as shares. Rows are smoothed: C times `pseudo` samples are added
to each, which behave as the average class does: a share `a` of their votes is right, the rest spread evenly, and `a` is
the pooled share of right votes, itself smoothed by (right + 1) / (n + C). So no entry is 0, each row sums to 1, and a
class with few samples, or none, is taken to be confused like the others. How many are added is chosen among `PSEUDO` by
the loss below, of equals the fewest: samples of one group repeat each other, and the fewer groups there are the less a
tally of them says of the next one.

**Temperature.** Fitted by log loss, the mean of -log P(true class | y): a proper score, best at the beliefs nearest the
truth. The loss is convex in tau, so that halving an interval on its derivative finds the minimum, the same on every
run. A sample's own group (its subject, its recording) is left out of the Z that it is judged by: else votes look as
sharp as they never will in service. With one group alone, or none named, every sample is a group. Few samples say
little of tau: a penalty of (tau k - 1)^2 / 2 nats, k being the votes of a sample, draws it towards 1 / k, where all
votes together count as one. That is less than a nat for what is commonly found, and does not matter from a hundred
samples on. A peek that is one model's decision (k = 1) is drawn to tau = 1, Bayes' rule.

**Evidence from elsewhere.** A client's counts need not be whole, and their sum need not be k: the rule is linear in y.
More votes than any sample had when tau was fitted are scaled down to that many: of how sharply more of them agree,
nothing was measured.

**Doubt settled.** How much votes tell at all: the variance of theta over the samples, summed over the classes, over
sum pi (1 - pi), which it would be if they told all. It is 0 for votes that say nothing. Whoever learns pi from beliefs
wants to know it (priors.py).

**Pull.** A mix that is learnt from beliefs feeds on itself: where Z is a little wrong the mean of theta differs from
pi, pi follows, and theta with it. Groups that Z was not counted on tell how far. So the samples are taken for a stream,
the evidence of each without its own group as above. Its classes come as asked for, or MOVED of its rows are of one
class, which is each in turn. In each such stream pi goes where learning would end,

    pi  =  (mean of theta under pi  +  pull start) / (1 + pull),        start = what was asked for

and `pull` is the one among `PULLS` with the least log loss, the stream as asked for and those that moved counting
alike; of equals the largest. A small one lets pi follow a change of mix, a large one holds it where evidence does not.
(On validation data it is 0.05 to 0.1 for falls, digits, spoken keywords and an ECG, 0.8 for eleven kinds of appliance
and 1.6 for a watch that two people wore.)

**Whose votes.** Validation data may be of two or three people, and how two people hold a watch is not how all do. The
reference that the neighbours come from is labelled, too, and often of more groups: its own rows are looked up among
those of other groups, and what votes say is counted on both (`peeking.peek.calibrate`). Models may not be judged on
rows that they have learnt from; votes of other groups may. (Chosen on validation data: halves of its groups profiled
alone or with the reference, the other half answered, 20 halves of each. Decisions gained 0.024 of accuracy for
a watch, 5 people beside 1, 0.007 for appliances, and lost 0.002 for digits.)

pi in the fit is the mix that is asked for, or else the mix of the samples; samples are weighted so that each class
counts by it. The sums over votes run in order and not through BLAS, as in estimate.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.awareness.agreement import edges_for
from peekserve.awareness.posterior import check_counts, posterior_mean
from peekserve.awareness.priors import FLOOR
from peekserve.domain.profile import Calibration
from peekserve.errors import InvalidData

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer]

PSEUDO = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
HOTTEST = 8.0
LEAST_SETTLED = 0.01
_GROUPS_AT_ONCE = 512  # what is left out of them is held in memory together
HALVINGS = 50
PULLS = (6.4, 3.2, 1.6, 0.8, 0.4, 0.2, 0.1, 0.05, 0.025, 0.0125)
MOVED = 0.8
_SETTLES = 1e-4  # a step of the mix that moves no class by more is the last
_STEPS = 200


@dataclass(frozen=True, slots=True)
class Sampled:
    """Votes on labelled samples by neighbours of other groups. `counts`: float64 [n, C]. `labels`: int [n]. `groups`:
    [n], or None."""

    counts: Floats
    labels: Labels
    groups: npt.NDArray[np.generic] | None

    def beside(self, other: "Sampled | None") -> "Sampled":
        """These, then the others. Both name groups, or the others are not counted: nobody knows then whose witnesses
        they are."""
        if other is None or self.groups is None or other.groups is None:
            return self
        return Sampled(
            np.concatenate((self.counts, other.counts)),
            np.concatenate((self.labels, other.labels)),
            np.concatenate((self.groups, other.groups)),
        )


def fit(
    counts: npt.ArrayLike,
    labels: Labels,
    groups: npt.NDArray[np.generic] | None,
    alpha: Sequence[float],
    mix: Sequence[float] | None = None,
) -> Calibration:
    """The calibration of a peek from its votes on labelled data that it has no neighbours in.

    `counts`: float64 [n, C]. `labels`: int [n]. `groups`: [n], or None. `alpha`: the Dirichlet that the loss before
    is told of. `mix`: [C], how often each class is expected, or None for as often as it is here. Samples without any
    vote teach nothing and are left out. Raises InvalidTensor for counts and InvalidData for labels that cannot be, or
    where no sample has a vote.
    """
    classes = len(alpha)
    votes, labels = check_counts(counts, classes), np.asarray(labels)
    if len(labels) != len(votes) or (len(labels) and not 0 <= labels.min() <= labels.max() < classes):
        raise InvalidData(f"{len(votes)} rows of votes need as many labels, in 0 .. {classes - 1}")
    voted = np.flatnonzero(votes.sum(axis=1) > 0.0)
    if not len(voted):
        raise InvalidData("no labelled sample got a vote: there is nothing to calibrate")
    votes, labels = votes[voted], labels[voted]
    own = _groups(None if groups is None else np.asarray(groups)[voted], len(labels))
    present = np.bincount(labels, minlength=classes)
    frequencies = present / present.sum()
    pi = frequencies if mix is None else np.where(present > 0, np.asarray(mix, dtype=np.float64), 0.0)
    weight = np.where(present > 0, pi / np.maximum(frequencies, 1e-300), 0.0)[labels]
    weight = weight / weight.sum() * len(labels)
    with np.errstate(divide="ignore"):
        # A class that no sample is of cannot be asked for: -inf leaves it out of the fit.
        prior = np.log(pi)
    most, k = float(votes.sum(axis=1).max()), float(votes.sum(axis=1).mean())
    loss, pseudo, tau, settled = min(
        _fitted(_left_out(votes, labels, own, classes, pseudo), labels, prior, weight, k, pseudo)
        for pseudo in PSEUDO
    )
    evidence = tau * _left_out(votes, labels, own, classes, pseudo)
    before = -np.log(posterior_mean(alpha, votes)[np.arange(len(labels)), labels])
    return Calibration(
        votes=tuple(tuple(float(z) for z in row) for row in vote_confusion(votes, labels, classes, pseudo)),
        temperature=tau,
        most=most,
        edges=edges_for(most),
        frequencies=tuple(smoothed(labels, classes).tolist()),
        fitted_on=len(labels),
        loss_before=float(np.average(before, weights=weight)),
        loss=loss - _penalty(tau, k) / len(labels),
        settled=settled,
        pull=_pull(evidence, labels, pi / pi.sum()),
    )


def smoothed(labels: Labels, classes: int) -> Floats:
    """float64 [C]: how often each class is among labels int [n], one half added to each.

    >>> smoothed(np.array([0, 0, 1]), 2).tolist()
    [0.625, 0.375]
    """
    present = np.bincount(labels, minlength=classes)
    return np.asarray((present + 0.5) / (present.sum() + 0.5 * classes))


def vote_confusion(counts: Floats, labels: Labels, classes: int, pseudo: float) -> Floats:
    """float64 [C, C]: Z, row = true class, column = the class that a vote names; positive, every row sums to 1.

    >>> vote_confusion(np.array([[3.0, 1.0], [0.0, 4.0]]), np.array([0, 1]), 2, 0.5).round(4).tolist()
    [[0.7188, 0.2812], [0.1562, 0.8438]]
    """
    table: Floats = _smoothed(_tally(_shares(counts), labels, classes)[None], pseudo)[0]
    return table


def calibrated(pi: Floats, counts: Floats, log_votes: Floats, temperature: float, most: float) -> Floats:
    """theta: float64 [n, C], every row sums to 1.

    `pi`: [C], positive. `counts`: float64 [n, C], checked. `log_votes`: float64 [C, C], log Z. `most`: no row's votes
    count for more than so many.

    >>> log_z = np.log(np.array([[0.8, 0.2], [0.2, 0.8]]))
    >>> calibrated(np.array([0.5, 0.5]), np.array([[2.0, 1.0], [0.0, 0.0]]), log_z, 1.0, 5.0).round(3).tolist()
    [[0.8, 0.2], [0.5, 0.5]]
    """
    total = np.add.reduce(counts, axis=1, keepdims=True)
    kept = counts * (most / np.maximum(total, most))
    return from_logs(np.log(pi) + temperature * _evidence(kept, log_votes))


def held_out(
    calibration: Calibration,
    counts: Floats,
    labels: Labels,
    groups: npt.NDArray[np.generic] | None,
    pi: Floats,
) -> Floats:
    """theta: float64 [n, C] of the samples that this calibration was fitted on, as `calibrated`, but each with a vote
    confusion that its own group took no part in. `pi`: [C], positive. Arguments otherwise as in `fit`."""
    known, classes = np.array(calibration.votes), len(pi)
    # A calibration does not say how much was added to its tally; only one of these made its table.
    pseudo = min(
        PSEUDO, key=lambda p: float(np.abs(vote_confusion(counts, labels, classes, p) - known).max())
    )
    evidence = _left_out(counts, labels, _groups(groups, len(labels)), classes, pseudo)
    return from_logs(np.log(pi) + calibration.temperature * evidence)


def _groups(groups: npt.NDArray[np.generic] | None, rows: int) -> npt.NDArray[np.int64]:
    """int64 [n]: the number of each row's group; each row its own where they are all of one."""
    if groups is None or len(groups) != rows:
        return np.arange(rows, dtype=np.int64)
    names, own = np.unique(groups, return_inverse=True)
    return np.arange(rows, dtype=np.int64) if len(names) < 2 else own.reshape(-1).astype(np.int64)


def _shares(counts: Floats) -> Floats:
    shares: Floats = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-300)
    return shares


def _tally(shares: Floats, labels: Labels, classes: int) -> Floats:
    """float64 [C, C]: the votes on the samples of each class."""
    table = np.zeros((classes, classes))
    np.add.at(table, labels, shares)
    return table


def _smoothed(tables: Floats, pseudo: float) -> Floats:
    """float64 [G, C, C]: vote confusions of tallies of that shape."""
    classes = tables.shape[1]
    right = (np.trace(tables, axis1=1, axis2=2) + 1.0) / (tables.sum(axis=(1, 2)) + classes)
    typical = np.repeat(((1.0 - right) / (classes - 1))[:, None, None], classes, axis=1).repeat(
        classes, axis=2
    )
    typical[:, np.arange(classes), np.arange(classes)] = right[:, None]
    added = pseudo * classes
    return np.asarray((tables + added * typical) / (tables.sum(axis=2, keepdims=True) + added))


def _left_out(
    votes: Floats, labels: Labels, own: npt.NDArray[np.int64], classes: int, pseudo: float
) -> Floats:
    """float64 [n, C]: sum_v y_v log Z[c, v], each row with a Z that its own group took no part in."""
    shares = _shares(votes)
    whole = _tally(shares, labels, classes)
    evidence = np.empty_like(votes)
    order = np.argsort(own, kind="stable")
    firsts = np.searchsorted(own[order], np.arange(0, int(own.max()) + 1, _GROUPS_AT_ONCE))
    for rows in np.split(order, firsts[1:]):
        some = own[rows] - own[rows[0]]
        tables = np.zeros((int(some.max()) + 1, classes, classes))
        np.add.at(tables, (some, labels[rows]), shares[rows])
        # Differences of sums of shares may end a rounding below zero.
        logs = np.log(_smoothed(np.maximum(whole - tables, 0.0), pseudo))
        evidence[rows] = _evidence(votes[rows], logs[some])
    return evidence


def _evidence(counts: Floats, log_votes: Floats) -> Floats:
    return np.asarray(np.cumsum(counts[:, None, :] * log_votes, axis=2)[:, :, -1])


def from_logs(logs: Floats) -> Floats:
    """float64 [n, C]: beliefs from logs float64 [n, C] that are known up to a constant in each row."""
    theta = np.exp(logs - np.maximum.reduce(logs, axis=1, keepdims=True))
    return np.asarray(theta / np.add.reduce(theta, axis=1, keepdims=True))


def _losses(tau: float, evidence: Floats, labels: Labels, prior: Floats) -> Floats:
    logs = prior + tau * evidence
    top = logs.max(axis=1)
    total = top + np.log(np.exp(logs - top[:, None]).sum(axis=1))
    return np.asarray(total - logs[np.arange(len(labels)), labels])


def _fitted(
    evidence: Floats, labels: Labels, prior: Floats, weight: Floats, k: float, pseudo: float
) -> tuple[float, float, float, float]:
    """(loss with its penalty, pseudo, tau, settled) at the best tau, losses in nats for each sample."""
    tau = _temperature(evidence, labels, prior, weight, k)
    loss = float(np.average(_losses(tau, evidence, labels, prior), weights=weight))
    pi, theta = np.exp(prior), from_logs(prior + tau * evidence)
    apart = np.average((theta - np.average(theta, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
    doubt = float((pi * (1.0 - pi)).sum())
    settled = min(max(float(apart.sum()) / doubt, LEAST_SETTLED), 1.0) if doubt > 0.0 else 1.0
    return loss + _penalty(tau, k) / len(labels), pseudo, tau, settled


def _pull(evidence: Floats, labels: Labels, start: Floats) -> float:
    """The pull of the least log loss. `evidence`: float64 [n, C], in nats, each row's own group left out. `start`:
    float64 [C], 0 for a class that no sample is of."""
    many = np.bincount(labels, minlength=len(start))
    there = np.flatnonzero(start > 0.0)

    def loss(mix: Floats) -> Floats:
        return _streamed(evidence, labels, (mix / np.maximum(many, 1))[labels], start)

    moved = [loss((1.0 - MOVED) * start + MOVED * (np.arange(len(start)) == top)) for top in there]
    return PULLS[int(np.argmin(np.round(loss(start) + np.mean(moved, axis=0), 9)))]


def _streamed(evidence: Floats, labels: Labels, weight: Floats, start: Floats) -> Floats:
    """float64 [len(PULLS)]: log loss where the learnt mix ends. `weight`: float64 [n], sums to 1."""
    least = FLOOR / len(start)
    likelihood = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    at = np.arange(len(labels))
    pi, found = np.maximum(start, least), np.empty(len(PULLS))
    for i, pull in enumerate(PULLS):
        for _ in range(_STEPS):
            theta = likelihood * pi
            theta *= (weight / theta.sum(axis=1))[:, None]
            then = np.maximum((np.add.reduce(theta, axis=0) + pull * start) / (1.0 + pull), least)
            moved = float(np.abs(then - pi).max())
            pi = then / then.sum()
            if moved < _SETTLES:
                break
        theta = likelihood * pi
        true = np.maximum(theta[at, labels] / theta.sum(axis=1), 1e-300)
        found[i] = -float((weight * np.log(true)).sum())
    return found


def _penalty(tau: float, k: float) -> float:
    return (tau * k - 1.0) ** 2 / 2.0


def _temperature(evidence: Floats, labels: Labels, prior: Floats, weight: Floats, k: float) -> float:
    """The tau of the least loss with its penalty, by halving on the sign of the slope."""
    true = evidence[np.arange(len(labels)), labels]

    def slope(tau: float) -> float:
        theta = from_logs(prior + tau * evidence)
        return float((weight * ((theta * evidence).sum(axis=1) - true)).sum() + k * (tau * k - 1.0))

    low, high = 0.0, HOTTEST
    if slope(low) >= 0.0:
        return 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if slope(middle) < 0.0 else (low, middle)
    return (low + high) / 2.0
