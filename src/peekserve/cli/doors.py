"""Both doors of a server, opened and closed together. Imported beside the start of the workers: HTTP, gRPC and logging
take a third of a second to import, in which the models load."""

import importlib.util
import sys
from typing import TYPE_CHECKING

from peekserve import __version__
from peekserve.cli.assembly import boot_id
from peekserve.live.confirming import Confirmations
from peekserve.live.driver import LiveDriver
from peekserve.live.registering import Registrar
from peekserve.live.shadowing import Mirror
from peekserve.peeking.stage import Stage
from peekserve.registry.settings import ServerSettings
from peekserve.server.access import Access
from peekserve.server.accounting import Accounts
from peekserve.server.by_hand import ByHand
from peekserve.server.describe import Descriptions
from peekserve.server.feedback import FeedbackDesk
from peekserve.server.frontdesk import FrontDesk, Limits
from peekserve.server.guard import Guard
from peekserve.server.http_api import make_app
from peekserve.server.logs import WorkerLog, make_logger
from peekserve.server.on_demand import OnDemand
from peekserve.server.pacing import Pacing
from peekserve.server.registrations import UploadLimits
from peekserve.server.run import HttpServer
from peekserve.server.statistics import Statistics
from peekserve.server.streams import StreamDesk
from peekserve.server.telemetry import Telemetry

if TYPE_CHECKING:
    from peekserve.server.oip import GrpcServer


class Doors:
    """HTTP, and gRPC where it is wanted and its packages are here."""

    def __init__(
        self,
        settings: ServerSettings,
        driver: LiveDriver,
        stage: Stage,
        telemetry: Telemetry,
        statistics: Statistics,
        confirmations: Confirmations,
        access: Access,
        registrar: Registrar | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        self.log = make_logger(level=settings.log)
        driver.observe(WorkerLog(self.log))
        desk = FrontDesk(
            driver, boot_id(), Limits(settings.limits.body, settings.limits.rows, settings.limits.body_wait_s)
        )
        desk.mirror = mirror
        accounts = Accounts(telemetry, self.log)
        descriptions = Descriptions(desk, statistics, __version__)
        descriptions.by_hand = ByHand(driver, registrar)
        self.streams = StreamDesk(desk, stage, accounts)
        self._on_demand = OnDemand(desk, accounts, settings.policy.short_circuit)
        feedback = FeedbackDesk(confirmations, driver, telemetry)
        uploads = UploadLimits(settings.limits.upload, settings.limits.body_wait_s)
        app = make_app(
            desk, accounts, descriptions, self.streams, self._on_demand, feedback, registrar, uploads
        )
        certificate = (settings.tls.certificate, settings.tls.key) if settings.tls else None
        guarded = app if access.idle else Guard(app, access, accounts.turned_away("http"))
        self._http = HttpServer(
            guarded,
            settings.http.host,
            settings.http.port,
            certificate,
            refused=accounts.turned_away("http"),
        )
        self._grpc = _grpc_server(settings, desk, accounts, descriptions, access)
        driver.observe(Pacing(driver, telemetry, self.log))

    async def open(self) -> dict[str, str]:
        """Take connections; the addresses in use, by door."""
        addresses = {"http": _text(await self._http.start())}
        if self._grpc is not None:
            addresses["grpc"] = _text(await self._grpc.start())
        return addresses

    async def close(self) -> None:
        self.streams.stop()
        await self._http.stop()
        self._on_demand.stop()  # behind the door that they come through: each of them has its outcome
        if self._grpc is not None:
            await self._grpc.stop(1.0)


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _grpc_server(
    settings: ServerSettings,
    desk: FrontDesk,
    accounts: Accounts,
    descriptions: Descriptions,
    access: Access,
) -> "GrpcServer | None":
    if settings.grpc is None:
        return None
    if importlib.util.find_spec("grpc") is None:
        why = "no gRPC: it comes with pip install 'peekserve[grpc]'; --grpc off says that none is wanted"
        print(why, file=sys.stderr)
        return None
    from peekserve.server.oip import GrpcServer
    from peekserve.server.oip_guard import GrpcGuard

    guards = (
        () if access.idle else (GrpcGuard(access, accounts.turned_away("grpc"), settings.limits.body_wait_s),)
    )
    certificate = (settings.tls.certificate, settings.tls.key) if settings.tls else None
    host, port = settings.grpc.host, settings.grpc.port
    return GrpcServer(desk, accounts, descriptions, host, port, guards, certificate)
