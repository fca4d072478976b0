"""Who is turned away when not all fit: whoever loses least by it, among the newcomer and those that wait.

The queue is bounded in rows and in bytes of inputs, whatever waits or runs. A newcomer that does not fit beside the
others is compared with every request of which nothing was begun yet: none of its rows has run, has an answer in hand or
was answered. Who goes first, by what decides first:

1. the lowest priority;
2. an application that holds more of the queue than half of an equal share, before one that does not: the larger of its
   shares in rows and in bytes counts (dominant resource fairness: Ghodsi et al., NSDI 2011, section 4), and a share is
   equal among the applications that hold anything. So nobody's flood, however valuable, takes all places of another:
   at one priority a modest application always finds room, and beyond that half the values decide;
3. the least expected utility per second of work;
4. the newest.

The utility of a row is that of its variant which brings most for its time: its believed accuracy, times what lateness
leaves of it if it were started now, over the cautious time of a batch of one. Where the application degrades and the
peek has answered already, only what the variant adds to that counts, and the row is not refused but answered with it.
A request is worth the sum of its rows over the sum of their times, and goes as a whole.

What a row is worth changes with evidence and with the pace of workers, not with time, but for its lateness: it is kept
in columns and reckoned anew only for rows that are new or changed. So each newcomer of a flood costs a few passes over
the columns and nothing for each row.
"""

from dataclasses import dataclass
from operator import is_

import numpy as np
import numpy.typing as npt

from peekserve.core.backlog import Backlog, Slots
from peekserve.core.catalogue import Catalogue
from peekserve.core.columns import PENDING, WAITING
from peekserve.core.ledger import Ledger, Open
from peekserve.core.offer import Offer
from peekserve.domain.application import OnMiss
from peekserve.domain.request import Outcome, Reason, Request
from peekserve.domain.utility import PenaltyKind
from peekserve.policies.base import Floats
from peekserve.policies.worth import worth_at

# Without a worker nothing is known to take any time.
_SHORTEST_S = 1e-6


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Requests that may go, by the slot of their first row; one entry for each in every array."""

    slots: Slots
    level: npt.NDArray[np.int32]
    over: npt.NDArray[np.bool_]
    value: Floats
    newest: npt.NDArray[np.int64]

    def first(self) -> int:
        """Which of them goes first."""
        value, newest, left = self.value, self.newest, None
        for key in (self.level, self.over):
            own = key if left is None else key[left]
            top = own.max()
            if own.min() != top:
                left = np.flatnonzero(own == top) if left is None else left[own == top]
        if left is not None:
            value, newest = value[left], newest[left]
        least = np.flatnonzero(value == value.min())
        found = int(least[newest[least].argmax()])
        return found if left is None else int(left[found])

    def order(self) -> Slots:
        """All of them, who goes first before who goes last."""
        return np.lexsort((-self.newest, self.value, ~self.over, -self.level))


class Shedding:
    """`max_rows`, `max_bytes`: of all that waits or runs."""

    def __init__(
        self,
        catalogue: Catalogue,
        backlog: Backlog,
        ledger: Ledger,
        offer: Offer,
        max_rows: int,
        max_bytes: int,
    ) -> None:
        self._catalogue = catalogue
        self._backlog = backlog
        self._ledger = ledger
        self._offer = offer
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._told: list[Floats] = []
        self._times = np.zeros((0, 0))

    def never_fits(self, request: Request) -> str:
        """Why it could not be taken even if nothing else were here; empty if it could."""
        if request.rows > self._max_rows:
            return f"{request.rows} rows came at once; the limit is {self._max_rows}"
        if request.bytes > self._max_bytes:
            return f"{request.bytes} bytes of inputs came at once; the limit is {self._max_bytes}"
        return ""

    def make_room(self, entry: Open, now: float) -> bool:
        """The newcomer, which the backlog and the ledger hold already, and all others fit, or somebody goes. False if
        that is the newcomer."""
        rows, size = self._backlog.rows - self._max_rows, self._ledger.bytes - self._max_bytes
        if rows <= 0 and size <= 0:
            return True
        found = self._candidates(entry, now, size if rows <= 0 else 0)
        going = self._going(found, entry.slots[0], rows, size)
        if not going:
            self._refuse(entry)
            return False
        for slot in found.slots[going].tolist():
            self._let_go(self._ledger.open[self._backlog.request[slot]], entry, now)
        return True

    def _going(self, found: _Candidates, own: int, rows: int, size: int) -> list[int]:
        """Places of those that go so that `rows` and `size` bytes come free, no more than must; none if the newcomer,
        whose slot is `own`, is the one to go."""
        backlog, first = self._backlog, found.first()
        slot = int(found.slots[first])
        if slot == own:
            return []
        if backlog.size[slot] >= rows and backlog.bytes[slot] >= size:
            return [first]
        order = found.order()
        worse = order[: int(np.flatnonzero(found.slots[order] == own)[0])]
        freed, bytes_ = backlog.size[found.slots[worse]], backlog.bytes[found.slots[worse]]
        enough = np.flatnonzero((np.cumsum(freed) >= rows) & (np.cumsum(bytes_) >= size))
        if not len(enough):
            return []
        many = int(enough[0]) + 1
        spare_rows, spare_bytes = int(freed[:many].sum()) - rows, float(bytes_[:many].sum()) - size
        going: list[int] = []
        for i in range(
            many - 1, -1, -1
        ):  # the last ones may have been large enough to spare some of the others
            if freed[i] <= spare_rows and bytes_[i] <= spare_bytes:
                spare_rows, spare_bytes = spare_rows - int(freed[i]), spare_bytes - float(bytes_[i])
            else:
                going.append(int(worse[i]))
        return going[::-1]

    # ---- who may go, and what that loses ----

    def _candidates(self, entry: Open, now: float, size: int) -> _Candidates:
        """`size`: bytes that must come free, if only bytes must: then those without any stay."""
        backlog = self._backlog
        held = (backlog.state == WAITING) | (backlog.state == PENDING)
        slots = np.flatnonzero(held & ~backlog.begun)
        value, work_s = self._values(slots, now)
        many = backlog.size[slots]
        if many.max() > 1:
            heads, firsts = backlog.head[slots], backlog.head[slots] == slots
            value = np.bincount(heads, value, len(backlog.state))[slots[firsts]]
            work_s = np.bincount(heads, work_s, len(backlog.state))[slots[firsts]]
            slots = slots[firsts]
        if size > 0:
            some = (backlog.bytes[slots] > 0.0) | (slots == entry.slots[0])
            slots, value, work_s = slots[some], value[some], work_s[some]
        over = self._hold_much()[backlog.application[slots]]
        return _Candidates(slots, backlog.level[slots], over, value / work_s, backlog.sequence[slots])

    def _hold_much(self) -> npt.NDArray[np.bool_]:
        """bool [applications]: which hold more than half of an equal share."""
        rows, size = self._ledger.rows_of, self._ledger.bytes_of
        half = 0.5 / sum(1 for many in rows.values() if many)
        over = np.zeros(len(self._catalogue.applications), dtype=np.bool_)
        for a, many in rows.items():
            over[a] = max(many / self._max_rows, size[a] / self._max_bytes) > half
        return over

    def _values(self, slots: Slots, now: float) -> tuple[Floats, Floats]:
        """(utility, seconds of work), float64 [n] each."""
        backlog = self._backlog
        self._look(slots)
        work_s, value = backlog.work_s[slots], backlog.gain[slots]
        # In time, an answer loses nothing: most are, and of the others most are settled already.
        late = np.flatnonzero(now + work_s > backlog.due_at[slots])
        late = late[backlog.penalty[slots[late]] != PenaltyKind.CONSTANT]
        if len(late):
            rows = slots[late]
            value[late] = worth_at(
                value[late], now + work_s[late], backlog.due_at[rows], backlog.penalty[rows],
                backlog.width_s[rows], self._catalogue.tables,
            )  # fmt: skip
        return value, work_s

    def _look(self, slots: Slots) -> None:
        """Reckon `gain` and `work_s` of the rows that are new, or of all when times have changed."""
        backlog, lanes = self._backlog, self._catalogue.lanes
        told = [self._offer.fastest_s(i) for i in range(len(lanes))]
        if len(told) == len(self._told) and all(map(is_, told, self._told)):
            fresh = slots[np.isnan(backlog.gain[slots])]
            if not len(fresh):
                return
        else:  # workers came, or their pace is another
            fresh, self._told = slots, told
            self._times = np.full((len(lanes), self._catalogue.variants), np.inf)
            for i, times_s in enumerate(told):
                self._times[i, : len(times_s)] = np.maximum(times_s, _SHORTEST_S)
        times = self._times
        instant = backlog.instant[fresh]
        anyway = np.where((backlog.degrades[fresh] == 1) & ~np.isnan(instant), instant, 0.0)
        more = np.maximum(backlog.accuracy[fresh] - anyway[:, None], 0.0)
        # A constant penalty takes its part in time as well as late.
        constant = backlog.penalty[fresh] == PenaltyKind.CONSTANT
        more[constant] *= 1.0 - backlog.width_s[fresh][constant, None]
        rate = np.where(backlog.allowed[fresh], more / times[backlog.lane[fresh]], 0.0)
        best = rate.argmax(axis=1)
        at = np.arange(len(fresh))
        work_s = times[backlog.lane[fresh], best]
        can = np.isfinite(work_s) & (rate[at, best] > 0.0)
        backlog.gain[fresh] = np.where(can, more[at, best], 0.0)
        backlog.work_s[fresh] = np.where(np.isfinite(work_s), work_s, 1.0)

    # ---- what they are told ----

    def _refuse(self, entry: Open) -> None:
        request, ledger, rows = entry.request, self._ledger, self._backlog.rows
        if rows > self._max_rows:
            before = rows - request.rows
            detail = f"{before} rows wait or run and {request.rows} came; the limit is {self._max_rows}"
        else:
            before = ledger.bytes - request.bytes
            detail = f"{before} bytes of inputs wait or run and {request.bytes} came; the limit is {self._max_bytes}"
        ledger.close(entry, Outcome.REFUSED, Reason.OVERLOADED, detail)

    def _let_go(self, entry: Open, newcomer: Open, now: float) -> None:
        backlog, slots = self._backlog, list(entry.slots)
        may = entry.on_miss is OnMiss.DEGRADE or bool(backlog.granted[slots].all())
        if may and not np.isnan(backlog.instant[slots]).any():
            for slot in slots:
                self._ledger.answer_by_peek(slot, now)
            return
        rows, size = backlog.rows, self._ledger.bytes
        what = f"{rows} rows wait or run; the limit is {self._max_rows}"
        if rows <= self._max_rows:
            what = f"{size} bytes of inputs wait or run; the limit is {self._max_bytes}"
        detail = (
            f"{what}: of those of which nothing has begun, this one of priority {entry.request.level} was worth least; "
            f"the one that came has priority {newcomer.request.level}"
        )
        self._ledger.close(entry, Outcome.REFUSED, Reason.OVERLOADED, detail)
