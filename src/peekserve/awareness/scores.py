"""What a variant is worth, by class, under the score that its application wants much of.

SneakPeek, section 4.1: "While we use the accuracy metric to illustrate the approach, the same principle applies to
other scoring rules. For example, the weighted F1 score uses theta directly when averaging. The quadratic score can also
be rewritten in terms of theta." So each is brought to the form of eq. 9, value(m | theta) = sum_i theta_i v_i(m), and
whoever reads a value never needs to know which v stands behind it. Z = [z_ij] is the confusion matrix of eq. 7, row =
true class, z_i. = sum_j z_ij its rows, z_.i = sum_j z_ji its columns, N its sum.

**accuracy** (eqs. 7-9).  v_i = recall_i = z_ii / z_i.

**weighted F1.**  F1_i = 2 P_i R_i / (P_i + R_i) with R_i = z_ii / z_i. and P_i = z_ii / z_.i, which is

    F1_i = 2 z_ii / (z_i. + z_.i),          weighted F1 = sum_i (z_i. / N) F1_i = sum_i theta_i F1_i

with theta_i = z_i. / N as in eq. 8: v_i = F1_i. Precision depends on the mix of classes too, and could be rewritten
as theta_i R_i / sum_j theta_j Z_ji / z_j. ; we leave it at the profile's mix, as the paper's words say, because theta
is a belief about one row and precision is a fact about many. Realised, a right answer of class i is worth
2 z_i. / (z_i. + z_.i) over the rows of a run, a wrong one nothing: these sum to N times the weighted F1 (results.py).

**quadratic.**  For class scores p of a row of class i, Q = 2 p_i - sum_j p_j^2, from -1 to 1. Averaged over the
samples of each class, Q(m) = sum_i theta_i q_i by the same steps as eqs. 7-9. We take v_i = (1 + q_i) / 2, from 0 to
1, since a value below 0 would be worth more the later it comes (eq. 2). Of plain decisions
q_i = recall_i - (1 - recall_i), so that v_i is the recall again; so it is where only recalls are stated.
"""

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Score
from peekserve.domain.profile import Quality

Floats = npt.NDArray[np.float64]


def class_values(quality: Quality, score: Score = Score.ACCURACY) -> Floats:
    """float64 [C]: v_i, from 0 to 1.

    >>> quality = Quality.from_confusion(np.array([[6, 2], [0, 2]]))
    >>> class_values(quality).tolist(), class_values(quality, Score.WEIGHTED_F1).round(3).tolist()
    ([0.75, 1.0], [0.857, 0.667])
    """
    if score is Score.WEIGHTED_F1:
        return _f1(quality)
    if score is Score.QUADRATIC and quality.quadratic:
        return np.array(quality.quadratic)
    return np.array(quality.recall)


def _f1(quality: Quality) -> Floats:
    recall, mix = np.array(quality.recall), np.array(quality.frequencies)
    classes = len(recall)
    if quality.confusion:
        counts = np.array(quality.confusion, dtype=np.float64)
        rows = counts.sum(axis=1, keepdims=True)
        said = np.where(rows > 0.0, counts / np.maximum(rows, 1.0), 1.0 / classes)
    else:
        # Recalls alone: errors are taken to spread evenly over the other classes.
        said = np.repeat((1.0 - recall)[:, None] / (classes - 1), classes, axis=1)
        np.fill_diagonal(said, recall)
    columns = (mix[:, None] * said).sum(axis=0)
    whole = mix + columns
    # A class without a sample that is never said either: precision means nothing there, and recall is a guess.
    return np.where(whole > 0.0, 2.0 * mix * recall / np.where(whole > 0.0, whole, 1.0), recall)
