"""Several applications on the same devices: each is planned for a share of their time and memory.

A plan made by itself believes that its devices do nothing else. With a share s it is made for devices that are 1/s
times as slow and hold s times as much: what it then expects holds if the others, together, keep to what is left. So a
share is careful about queues, and says nothing of one long batch of another application that stands in the way.
"""

from dataclasses import replace

from peekserve.domain.application import Application
from peekserve.domain.profile import LatencyCurve, Timing
from peekserve.errors import InvalidConfiguration
from peekserve.planner.problem import Device


def part_of(app: Application, share: float) -> Application:
    """The application as it is timed on this share of its devices' time. Raises InvalidConfiguration unless the share
    is above 0 and up to 1."""
    _check(share)
    return replace(
        app,
        variants=tuple(
            replace(v, timing={kind: _stretched(timing, 1.0 / share) for kind, timing in v.timing.items()})
            for v in app.variants
        ),
    )


def part_of_device(device: Device, share: float) -> Device:
    """With that share of its memory. Raises InvalidConfiguration as `part_of`."""
    _check(share)
    return replace(device, budget_bytes=int(device.budget_bytes * share))


def _check(share: float) -> None:
    if not 0.0 < share <= 1.0:
        raise InvalidConfiguration(f"a share of the devices' time is above 0 and up to 1, not {share:g}")


def _stretched(timing: Timing, times: float) -> Timing:
    return replace(
        timing,
        curves=tuple(
            LatencyCurve(
                c.batch_sizes, *(tuple(s * times for s in part) for part in (c.median_s, c.p95_s, c.p99_s))
            )
            for c in timing.curves
        ),
    )
