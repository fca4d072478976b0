"""What was registered while a server ran, served again by the next one; and the parts that let more come."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from peekserve.cli.assembly import Layout, Tell, own_slot, state_folder
from peekserve.domain.application import Application
from peekserve.errors import InvalidConfiguration, PeekserveError
from peekserve.live.onboarding import OnboardingProcess
from peekserve.live.registering import Registrar
from peekserve.live.serving import Desk, Drives, Joins, Serving
from peekserve.live.shadowing import Mirror
from peekserve.policies import PLANNED
from peekserve.profiling.device import fingerprint_of
from peekserve.registry.archives import Bounds, unpack
from peekserve.registry.profiled import validation_sha, with_profiles
from peekserve.registry.repository import read_repository
from peekserve.registry.settings import ServerSettings
from peekserve.state.registrations import NOTHING, OWN, Registrations
from peekserve.state.shelf import Shelf
from peekserve.state.store import FILE, Store

# An upload may unpack to so many times its limit: archives of weights hardly shrink, labelled data do.
UNPACKS_TO = 4


@dataclass(frozen=True, slots=True)
class Served:
    """`own`: what the repository itself holds, by name. `applications`: what is served, registered revisions in the
    place of their own ones, and without those that were withdrawn."""

    own: Mapping[str, Application]
    applications: tuple[Application, ...]


def with_registered(
    own: Sequence[Application],
    root: Path,
    settings: ServerSettings,
    devices: Sequence[str],
    tell: Tell,
) -> Served:
    """What clients got before this server stopped, however it stopped. Tells of a revision that cannot be read any
    more: then the repository's own is served, as under a policy whose plans were made for it.

    `own`: as `read_profiled` gives them. Raises InvalidConfiguration where nothing is left to serve.
    """
    by_name = {app.name: app for app in own}
    served = dict(by_name)
    state = state_folder(root, settings)
    with Registrations(state / FILE) as registrations, Store(state / FILE) as store:
        for name, revision in registrations.serving().items():
            if revision == NOTHING:
                served.pop(name, None)
            elif settings.policy.name in PLANNED and revision != OWN:
                own_one = f"the repository's own {name}, for which its plan was made"
                tell(
                    f"under the policy {settings.policy.name!r} {own_one}, is served, and not revision {revision}"
                )
            elif revision != OWN:
                try:
                    place = Shelf(state).root(name, revision)
                    (application,) = read_repository(place).sound().applications
                except (PeekserveError, ValueError) as error:
                    tell(f"revision {revision} of {name}, which was served, cannot be read any more: {error}")
                    continue
                for device in dict.fromkeys(devices):
                    where = fingerprint_of(device)
                    application = with_profiles(
                        application, store, where, validation_sha(application), device
                    )
                served[name] = replace(application, edition=revision)
    if not served:
        raise InvalidConfiguration(f"{root}: every application was withdrawn; nothing is left to serve")
    return Served(by_name, tuple(served[name] for name in sorted(served)))


def make_registrar(
    root: Path,
    settings: ServerSettings,
    layout: Layout,
    driver: Drives,
    core: Joins,
    own: Mapping[str, Application],
) -> tuple[Registrar, Mirror]:
    """On the event loop. The mirror is for the front desk, and an observer of the driver; `tidy` the registrar before
    the doors open, `resume` it once the server is ready, and `stop` it before the driver drains."""
    from peekserve.server.logs import make_logger  # slow to load, and loaded by now

    state = state_folder(root, settings)
    bounds = Bounds(unpacked=UNPACKS_TO * settings.limits.upload)
    logger = make_logger(level=settings.log)

    def log(name: str, revision: str, now: str, why: str) -> None:
        logger.info("revision", model=name, revision=revision, state=now, why=why)

    onboard = OnboardingProcess(state / FILE, own_slot(layout), [slot.device for slot in layout.slots])
    desk = Desk(
        Registrations(state / FILE),
        Shelf(state),
        lambda archive, folder: unpack(archive, folder, bounds),
        onboard,
        time.time,
        ThreadPoolExecutor(1, "registrar"),
        log,
    )
    policy, refused = settings.policy.name, ""
    if policy in PLANNED:
        refused = (
            f"under the policy {policy!r} nothing is registered while the server runs: its plan is made before, "
            "by peekserve plan"
        )
    mirror = Mirror()
    return Registrar(Serving(driver, core, desk, own), mirror, desk, refused), mirror
