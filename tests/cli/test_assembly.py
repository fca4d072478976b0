"""What a repository and its settings become, before anything is started."""

from dataclasses import replace

import pytest

from peekserve.cli.assembly import as_sneakpeek, scheduler_spec
from peekserve.domain.application import Application, PeekSpec, Variant
from peekserve.domain.profile import Calibration
from peekserve.registry.settings import PolicySettings, ServerSettings

CALIBRATION = Calibration(((0.7, 0.3), (0.2, 0.8)), 0.5, 5.0, (0.1, 0.5, 0.9), (0.5, 0.5), 90, 0.7, 0.5)
BLIND = Application("blind", ("a", "b"), (Variant("net", "1", "net"),), (0.5, 0.5))
PEEKING = replace(BLIND, name="peeking", peek=PeekSpec((), ()))
MEASURED = replace(BLIND, name="measured", peek=PeekSpec((), (), calibration=CALIBRATION))


@pytest.mark.parametrize(
    ("policy", "beliefs", "told"),
    [
        ("horizon", "", 1),
        ("horizon", "dirichlet", 0),
        ("sneakpeek", "", 0),
        ("sneakpeek", "calibrated", 1),
    ],
)
def test_who_is_not_believed_as_the_scheduler_believes_is_named(policy, beliefs, told):
    spec = scheduler_spec(ServerSettings(policy=PolicySettings(policy), beliefs=beliefs))
    sentences = list(as_sneakpeek(spec, [BLIND, PEEKING, MEASURED]))
    assert len(sentences) == told
    assert all(one.startswith("peeking: ") and "peekserve profile" in one for one in sentences)
