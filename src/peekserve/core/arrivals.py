"""Requests that come: taken in, turned away at once, or looked at first."""

import numpy as np
import numpy.typing as npt

from peekserve.core.backlog import Backlog
from peekserve.core.catalogue import Catalogue
from peekserve.core.floors import peek_may_reach
from peekserve.core.ledger import Ledger, Open
from peekserve.core.offer import Offer
from peekserve.core.options import Options
from peekserve.core.shedding import Shedding
from peekserve.domain.application import Application, OnMiss
from peekserve.domain.messages import Peek
from peekserve.domain.request import Outcome, Reason, Request
from peekserve.errors import InvariantBroken

INF = float("inf")


class Arrivals:
    """Opens a request for each that is let in."""

    def __init__(
        self, catalogue: Catalogue, backlog: Backlog, ledger: Ledger, offer: Offer, options: Options
    ) -> None:
        self._catalogue = catalogue
        self._backlog = backlog
        self._ledger = ledger
        self._offer = offer
        self._options = options
        self._shedding = Shedding(catalogue, backlog, ledger, offer, options.max_rows, options.max_bytes)

    def take(self, request: Request, now: float) -> bool:
        """True if its rows wait to be planned; false if they are refused or wait for their peek. Where it does not fit
        beside those that are here, whoever is worth least is turned away: it, or others. Raises UnknownApplication,
        UnknownVariant, ConstraintInfeasible, InvalidRequest, and InvariantBroken for an id that is open already."""
        if request.id in self._ledger.open:
            raise InvariantBroken(f"request id {request.id!r} is used twice")
        a = self._catalogue.application(request.application)
        app = self._catalogue.applications[a]
        opts = self._options
        on_miss = opts.on_miss or app.on_miss
        if request.pinned and on_miss is OnMiss.DEGRADE:
            on_miss = OnMiss.REJECT  # who names a variant wants that one or none
        if on_miss is OnMiss.DEGRADE and not peek_may_reach(
            app, self._backlog.belief(a), request.min_accuracy
        ):
            on_miss = OnMiss.REJECT  # and so does who wants more than the peek is worth
        lane = self._catalogue.lane(a, request.bucket)
        offered = self._offer.offered[lane]
        if not _is_offered(app, request, offered):
            detail = (
                f"{request.pinned or 'everything'} of {app.name!r} was unloaded by hand: load it again first"
            )
            self._ledger.refuse(request.id, Outcome.REFUSED, Reason.NOT_READY, detail)
            return False
        too_much = self._shedding.never_fits(request)
        if too_much:
            self._ledger.refuse(request.id, Outcome.REFUSED, Reason.OVERLOADED, too_much)
            return False
        fastest_s = self._offer.offered_s(lane)
        slots = self._backlog.add(
            request, opts.margin_s, fastest_s, offered, on_miss is OnMiss.LATE, on_miss is OnMiss.DEGRADE
        )
        entry = Open(request, a, on_miss, slots, [None] * request.rows, request.rows)
        self._ledger.admit(entry)
        counts = None if request.pinned else request.counts
        look = opts.peek and counts is None and not request.pinned and _can_peek(app, request)
        unserved = float(self._backlog.quickest_s[slots[0]]) == INF
        hopeless = unserved or float(self._backlog.doom_at[slots[0]]) < now
        if hopeless and (on_miss is not OnMiss.DEGRADE or not (look or counts)):
            self._ledger.turn_away(entry, opts.margin_s, now)
            return False
        if not self._shedding.make_room(entry, now):
            return False
        if counts is not None:
            seen = np.array(counts, dtype=np.float64)
            self._ledger.looked(entry, seen)
            self._backlog.observe(slots, seen)
        elif look:
            if hopeless:  # only the peek's own answer can be in time: it may take until the deadline
                for slot in slots:
                    self._backlog.doom(slot, request.due_at - opts.margin_s)
            self._backlog.expect(slots, min(now + opts.patience_s, request.due_at))
            self._ledger.out.append(Peek(request.id))
        return not look


def _is_offered(app: Application, request: Request, offered: npt.NDArray[np.bool_]) -> bool:
    """May a new request use what this one asks for? `offered`: bool [V]."""
    if request.pinned is None:
        return bool(offered[: len(app.variants)].any())
    return bool(offered[app.variants.index(app.variant(request.pinned))])


def _can_peek(app: Application, request: Request) -> bool:
    """Is there a peek, and did everything come that it looks at?"""
    if app.peek is None:
        return False
    return request.inputs is None or all(name in request.inputs for name in app.peek.inputs)
