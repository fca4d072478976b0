"""True classes in, and how each application's stream stands against what is believed of it (docs/feedback.md)."""

import asyncio
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from peekserve.awareness.drift import Drift
from peekserve.domain.application import Application, public
from peekserve.domain.feedback import Verdict
from peekserve.domain.messages import Acknowledge
from peekserve.errors import (
    AlreadyConfirmed,
    InvalidRequest,
    NotAnswered,
    PeekserveError,
    TooFast,
    TooLarge,
    UnknownApplication,
    UnknownRequest,
)
from peekserve.live.confirming import MOST_WAITING, Told
from peekserve.server.bodies import PATIENCE_S, Gone, Unsupported, check_content, read_body
from peekserve.server.telemetry import Telemetry
from peekserve.server.wire import UNSUPPORTED, error_body, status_of_error

PATH = "/api/v1/feedback"
DRIFT_PATH = "/api/v1/drift"
BODY_BYTES = 1 << 20
MOST_LISTED = 1024

Label = str | int

REFUSED: Mapping[Verdict, type[PeekserveError]] = {
    Verdict.UNKNOWN: UnknownRequest,
    Verdict.UNANSWERED: NotAnswered,
    Verdict.REPEATED: AlreadyConfirmed,
    Verdict.INVALID: InvalidRequest,
}


class Confirms(Protocol):
    """Takes true classes (live/confirming.py, or a scripted twin). Raises TooFast."""

    def submit(self, told: Sequence[Told]) -> asyncio.Future[list[Acknowledge]]: ...


class Drifts(Protocol):
    """Knows how streams stand: the live driver, or a scripted twin."""

    @property
    def applications(self) -> Mapping[str, Application]: ...

    def drift(self, application: str) -> Drift: ...


class FeedbackDesk:
    """What the doors say about feedback."""

    def __init__(self, confirms: Confirms, drifts: Drifts, telemetry: Telemetry) -> None:
        self._confirms = confirms
        self._drifts = drifts
        self._telemetry = telemetry
        telemetry.follow_drifts(lambda: {name: drifts.drift(name) for name in drifts.applications})

    async def confirm(self, told: Sequence[Told]) -> list[Acknowledge]:
        """What became of each, in order. Raises TooFast or TooLarge: then none was taken."""
        try:
            rows = sum(len(one.labels) for one in told)
            if rows > MOST_WAITING:
                raise TooLarge(f"feedback on {rows} rows at once; the limit is {MOST_WAITING}")
            acknowledged = await self._confirms.submit(told)
        except (TooFast, TooLarge) as error:
            self.refused(error)
            raise
        for one in acknowledged:
            self._telemetry.feedback(public(one.application), one.verdict.value)
        return acknowledged

    def refused(self, error: PeekserveError) -> None:
        """Feedback that never came as far as the scheduler."""
        self._telemetry.feedback("", "too_fast" if isinstance(error, TooFast) else "invalid")

    def drift(self, application: str = "") -> dict[str, Any]:
        """Of one application, or of all. Raises UnknownApplication."""
        known = self._drifts.applications
        if not application:
            return {"applications": [self.drift(name) for name in known]}
        if application not in known:
            names = ", ".join(sorted(known)) or "none"
            raise UnknownApplication(f"there is no application {application[:80]!r}; there are: {names}")
        found = self._drifts.drift(application)
        return {
            "application": application,
            "score": found.score,
            "scores": {"trust": found.trust, "votes": found.votes, "labels": found.labels},
            "confirmed": found.confirmed,
            "believed_accuracy": None if isnan(found.believed) else found.believed,
            "confirmed_accuracy": None if isnan(found.right) else found.right,
            "confirmed_interval": list(found.interval),
            "prior": dict(zip(known[application].classes, found.prior, strict=True)),
        }


class OneJson(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The true classes of one request: `label` of one row, or `labels` of all."""

    request_id: str
    label: Label | msgspec.UnsetType = msgspec.UNSET
    labels: list[Label | None] | msgspec.UnsetType = msgspec.UNSET


class ManyJson(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Those of many requests."""

    feedback: list[OneJson]


_ONE = msgspec.json.Decoder(OneJson)
_MANY = msgspec.json.Decoder(ManyJson)
_EITHER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIKE = '{"request_id": "...", "label": "fall"}, with "labels" and a list for several rows'


def read_feedback(body: bytes) -> tuple[list[Told], bool]:
    """What was told, and whether it came as a list. Raises InvalidRequest or TooLarge."""
    try:
        many = "feedback" in _EITHER.decode(body)
        told = _MANY.decode(body).feedback if many else [_ONE.decode(body)]
    except RecursionError:
        raise InvalidRequest("the feedback is JSON nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is no feedback: {error}; it is like {_LIKE}") from None
    if len(told) > MOST_LISTED:
        raise TooLarge(f"feedback on {len(told)} requests at once; the limit is {MOST_LISTED}")
    return [_told(one) for one in told], many


def _told(one: OneJson) -> Told:
    if len(one.request_id) > 128:
        raise InvalidRequest(f"no request has an id of {len(one.request_id)} characters")
    if (one.label is msgspec.UNSET) == (one.labels is msgspec.UNSET):
        raise InvalidRequest(f"request {one.request_id!r} needs either label or labels: {_LIKE}")
    if isinstance(one.labels, list):
        return Told(one.request_id, tuple(one.labels))
    assert not isinstance(one.label, msgspec.UnsetType)
    return Told(one.request_id, (one.label,))


def feedback_routes(desk: FeedbackDesk | None, body_wait_s: float = PATIENCE_S) -> list[Route]:
    """The paths of feedback; of a server without it, too, so that it can say so."""
    pages = _Pages(desk, body_wait_s)
    return [
        Route(PATH, pages.feedback, methods=["POST"]),
        Route(DRIFT_PATH, pages.drift),
        Route(DRIFT_PATH + "/{application}", pages.drift),
    ]


class _Pages:
    def __init__(self, desk: FeedbackDesk | None, body_wait_s: float) -> None:
        self._desk = desk
        self._body_wait_s = body_wait_s

    @property
    def desk(self) -> FeedbackDesk:
        if self._desk is None:
            raise UnknownRequest("this server takes no feedback")
        return self._desk

    async def feedback(self, request: Request) -> Response:
        desk = self.desk
        headers: dict[bytes, bytes] = dict(request.scope["headers"])
        try:
            check_content(headers)
            told, many = read_feedback(
                await read_body(headers, request.receive, BODY_BYTES, self._body_wait_s)
            )
        except Gone:
            return Response(status_code=400)
        except Unsupported as error:
            desk.refused(InvalidRequest(str(error)))
            return Response(
                error_body(str(error), UNSUPPORTED), UNSUPPORTED.http, media_type="application/json"
            )
        except PeekserveError as error:
            desk.refused(error)
            raise
        acknowledged = await desk.confirm(told)
        accepted = sum(len(one.lessons) for one in acknowledged)
        refused = [
            (one.request_id, REFUSED[one.verdict](one.detail))
            for one in acknowledged
            if one.verdict is not Verdict.ACCEPTED
        ]
        if many:
            listed = [
                {"request_id": request_id, "error": str(why), "code": status_of_error(why).word}
                for request_id, why in refused
            ]
            return _json({"accepted": accepted, "refused": listed})
        if refused:
            raise refused[0][1]
        return _json({"accepted": accepted})

    async def drift(self, request: Request) -> Response:
        return _json(self.desk.drift(request.path_params.get("application", "")))


def _json(told: Any) -> Response:
    return Response(msgspec.json.encode(told), media_type="application/json")
