"""One line in the log and one count in the metrics for each call, however it ended: both doors tell it
here."""

from collections.abc import Callable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from peekserve.server.calls import InferReply
from peekserve.server.telemetry import Telemetry, outcome_label
from peekserve.server.wire import Status


@dataclass(frozen=True, slots=True)
class Accounts:
    """Where both doors report each call, once. `sampled` says whether a good call is logged; bad ones always
    are."""

    telemetry: Telemetry
    log: FilteringBoundLogger
    sampled: Callable[[], bool] = lambda: True

    def served(self, reply: InferReply, status: Status, protocol: str) -> None:
        """A call that became a request, whatever its outcome."""
        request, answer = reply.request, reply.answer
        seconds = reply.finished_at - request.arrived_at
        self.telemetry.request(
            reply.application.name, reply.version, protocol, outcome_label(status.word, reply), seconds
        )
        if status.http == 200 and not self.sampled():
            return
        self.log.info(
            "request",
            request_id=request.id,
            protocol=protocol,
            model=reply.application.name,
            variant=reply.version,
            outcome=answer.outcome.value,
            reason=answer.reason.value,
            status=status.http,
            rows=request.rows,
            duration_ms=_ms(seconds),
            queue_ms=_ms(reply.queue_s),
            compute_ms=_ms(reply.compute_s),
            slack_ms=_ms(min(request.due_at - reply.finished_at, 1e9)),
            **({"detail": answer.detail} if answer.detail else {}),
        )

    def turned_away(self, protocol: str) -> Callable[[Status, str], None]:
        """What a doorkeeper tells of whom it did not let in."""
        return lambda status, sentence: self.refused("", status, sentence, protocol, 0.0)

    def refused(self, model: str, status: Status, sentence: str, protocol: str, seconds: float) -> None:
        """A call that never became a request. `model`: empty when there is none of that name."""
        self.telemetry.request(model, "", protocol, outcome_label(status.word), seconds)
        self.log.info(
            "request",
            protocol=protocol,
            model=model,
            outcome="failed" if status.http >= 500 else "cancelled" if status.http == 499 else "invalid",
            reason=status.word,
            status=status.http,
            duration_ms=_ms(seconds),
            detail=sentence[:400],
        )


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
