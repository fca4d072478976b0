"""A gear plan as a file, and whether it still holds for what is here."""

from pathlib import Path

import msgspec

from peekserve.domain.application import Application
from peekserve.domain.gears import VERSION, GearPlan
from peekserve.errors import InvalidConfiguration, ProfileMissing

FILE = "plan.json"


class _File(msgspec.Struct):
    """One plan for each application."""

    version: int
    plans: list[GearPlan]


class _Version(msgspec.Struct):
    version: int = -1


def encode(plans: dict[str, GearPlan]) -> bytes:
    """JSON, two spaces deep, plans in the order of their applications."""
    file = _File(VERSION, [plans[name] for name in sorted(plans)])
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def decode(text: bytes, where: str = FILE) -> dict[str, GearPlan]:
    """Plans by application. Raises InvalidConfiguration, with the place of what is wrong."""
    try:
        version = msgspec.json.decode(text, type=_Version).version
        if version != VERSION:
            raise InvalidConfiguration(
                f"has version {version}, and this peekserve reads {VERSION}: plan again"
            )
        file = msgspec.json.decode(text, type=_File)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"{where}: {error}") from None
    except msgspec.MsgspecError as error:
        raise InvalidConfiguration(f"{where}: no gear plan: {error}") from None
    plans = {plan.application: plan for plan in file.plans}
    if len(plans) < len(file.plans):
        raise InvalidConfiguration(f"{where}: an application has two plans")
    return plans


def read(path: Path) -> dict[str, GearPlan]:
    """The plans of a file; none where there is no file."""
    return decode(path.read_bytes(), str(path)) if path.is_file() else {}


def write(path: Path, plans: dict[str, GearPlan]) -> None:
    """All at once: a reader sees the old file or the new one."""
    part = path.with_suffix(".part")
    part.write_bytes(encode(plans))
    part.replace(path)


def check(plan: GearPlan, app: Application, fingerprint: str) -> None:
    """Does a plan hold for this application on the device of this fingerprint?

    Raises ProfileMissing where its timings are of another device, and InvalidConfiguration where the models are not
    those that it was made for; each says what to do.
    """
    again = f"run peekserve plan for {app.name} again"
    if plan.application != app.name:
        raise InvalidConfiguration(f"a gear plan for {plan.application!r} is none for {app.name!r}")
    if plan.fingerprint != fingerprint:
        raise ProfileMissing(
            f"the gear plan of {app.name!r} was made with timings of {plan.fingerprint or 'an unnamed device'}, and "
            f"this device is {fingerprint}: run peekserve profile here, then {again}"
        )
    here = {variant.name: variant for variant in app.variants}
    gone = [model.name for model in plan.models if model.name not in here]
    if gone:
        raise InvalidConfiguration(
            f"the gear plan of {app.name!r} uses {', '.join(gone)}, and it has {', '.join(sorted(here))}: {again}"
        )
    changed = [m.name for m in plan.models if here[m.name].revision != m.revision]
    if changed:
        raise InvalidConfiguration(
            f"the gear plan of {app.name!r} was made for other revisions of {', '.join(changed)}: {again}"
        )
