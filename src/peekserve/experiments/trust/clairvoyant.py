"""What a server could have answered in time that knew everything beforehand.

It is told the whole burst at the moment that its first request is sent, when each is due, and how long the worker takes
for a batch of each size. Nothing else costs it anything: no door, no way to the worker or back, no thought. It chooses
whom to serve, in which order and in which batches, and is searched exactly; no server can do better.

Theory. All rows cost alike, so of two rows that are both served the one due earlier may go first: swapping them keeps
every batch as it is, and both in time. With rows sorted by their deadline, batches are then runs of neighbours. Within
a run nobody is passed over: taking who was passed over in place of the run's last row leaves that one, which is due
later, for later. So a plan is a sequence of runs with gaps between them, and the least time in which c of the first i
rows can be done is found by dynamic programming.
"""

from collections.abc import Sequence
from math import inf


def most_in_time(due_s: Sequence[float], takes_s: Sequence[float]) -> int:
    """How many rows one worker can answer in time at the most, from 0 on.

    `due_s`: of each row, seconds after the burst began. `takes_s`: seconds of a batch of 1, 2, ... rows; its length is
    the largest batch.

    >>> most_in_time([0.06, 0.06, 0.12], [0.05])
    2
    >>> most_in_time([0.06, 0.06, 0.12], [0.05, 0.055])
    3
    """
    due = sorted(due_s)
    many = len(due)
    # done[i][c]: the least time at which c of the first i rows are done, and nobody else is begun.
    done = [[inf] * (many + 1) for _ in range(many + 1)]
    done[0][0] = 0.0
    for i in range(many + 1):
        for c, at in enumerate(done[i]):
            if at == inf:
                continue
            for first in range(i, many):
                for size in range(1, min(len(takes_s), many - first) + 1):
                    end = at + takes_s[size - 1]
                    if end <= due[first]:
                        done[first + size][c + size] = min(done[first + size][c + size], end)
    return max(c for row in done for c, at in enumerate(row) if at < inf)
