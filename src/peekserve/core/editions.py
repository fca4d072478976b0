"""Applications that join while requests run, and variants that an owner stops or begins to offer.

Nothing that was accepted suffers from either. An application that joins is put behind all others: no index that a row,
a batch or a belief holds on to changes its meaning. A revision of an application is one that joins under a key of its
own, so that both are served, side by side, for as long as requests name both. A variant that is no longer offered is
still there for the rows that were let in while it was; when the last of them is settled, its weights go, unless
another variant that somebody may use needs them: that is all the counting of references there is.
"""

from collections.abc import Callable

import numpy as np

from peekserve.core.backlog import Backlog
from peekserve.core.beliefs import Belief, make_one
from peekserve.core.catalogue import Catalogue
from peekserve.core.columns import FREE
from peekserve.core.escalation import Escalation
from peekserve.core.feedback import Feedback
from peekserve.core.fleet import Fleet
from peekserve.core.offer import Offer
from peekserve.domain.application import Application
from peekserve.domain.messages import Command
from peekserve.errors import InvariantBroken


class Editions:
    """`beliefs`: shared with the backlog and the feedback; those of new applications are put behind the others.
    `believe`: a name in core.beliefs, for these. `draining`: rows or batches still use variants that new requests may
    not."""

    def __init__(
        self,
        catalogue: Catalogue,
        backlog: Backlog,
        fleet: Fleet,
        offer: Offer,
        feedback: Feedback,
        beliefs: list[Belief],
        believe: str | Callable[[Catalogue, int], Belief],
        escalation: Escalation | None,
    ) -> None:
        self._catalogue = catalogue
        self._backlog = backlog
        self._fleet = fleet
        self._offer = offer
        self._feedback = feedback
        self._beliefs = beliefs
        self._believe = believe
        self._escalation = escalation
        self.draining = False

    def register(self, application: Application) -> None:
        """Raises InvalidConfiguration where its key is taken; nothing has changed then."""
        a = self._catalogue.add(application)
        self._beliefs.append(make_one(self._believe, self._catalogue, a))
        self._backlog.widen()
        self._feedback.widen()
        self._fleet.grow()
        self._offer.grow()
        if self._escalation is not None:
            self._escalation.grow()

    def offer(self, key: str, variants: tuple[str, ...], now: float, warm: bool) -> list[Command]:
        """`warm`: nothing waits for the workers, so that they may take their time with what is loaded.

        Raises UnknownApplication and UnknownVariant; nothing has changed then.
        """
        a = self._catalogue.application(key)
        app = self._catalogue.applications[a]
        wanted = {app.variant(name).name for name in variants}
        chosen = [v for v, variant in enumerate(app.variants) if variant.name in wanted]
        lanes = [i for i, lane in enumerate(self._catalogue.lanes) if lane.application == a]
        before = np.flatnonzero(self._offer.offered[lanes[0], : len(app.variants)]).tolist()
        self._offer.offer(lanes, chosen)
        self.draining = True
        # Who takes some away does not ask for the others to be loaded.
        asked = chosen if set(chosen) >= set(before) else [v for v in chosen if v not in before]
        return [*self.close(), *self._fleet.load(a, asked, warm, now)]

    def close(self) -> list[Command]:
        """Unload what nobody may use any more. To be asked after every event."""
        if not self.draining:
            return []
        needed, used = self._needed()
        out = self._fleet.drop(needed)
        self.draining = used or self._fleet.holds_other_than(needed)
        return out

    def _needed(self) -> tuple[set[int], bool]:
        """Weights that new requests, or rows that are here, may use; and whether the latter's are among them that no
        new request may."""
        offer, backlog = self._offer, self._backlog
        needed: set[int] = set()
        draining = False
        busy = np.flatnonzero(backlog.state != FREE)
        for i, lane in enumerate(self._catalogue.lanes):
            own = offer.offered[i, : len(lane.variants)]
            used = backlog.allowed[busy[backlog.lane[busy] == i], : len(lane.variants)].any(axis=0)
            draining |= bool((used & ~own).any())
            needed.update(lane.weights[own | used].tolist())
        return needed, draining

    def check(self) -> None:
        """Raises InvariantBroken where a worker holds what nobody may use."""
        if not self.draining and self._fleet.holds_other_than(self._needed()[0]):
            raise InvariantBroken("a worker holds weights that no variant which may be used needs")
