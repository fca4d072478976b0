"""The shipped models are as good as their cards say, and worth choosing between."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peekserve.applications.card import PEEK, Measured, Share, measure
from peekserve.applications.direct import answers, class_names, declaration
from peekserve.applications.prepare import NAMES, models
from peekserve.applications.splits import Split
from tests.applications.cards import milliseconds, stated

MIB = 2**20


@dataclass(frozen=True)
class Prepared:
    name: str
    place: Path
    said: dict[str, Any]
    lines: dict[str, Measured]

    def validation(self, name: str) -> float:
        return self.lines[name].overall("validation").value


@pytest.fixture(scope="module", params=NAMES)
def prepared(request: pytest.FixtureRequest, repository: Path) -> Prepared:
    place = repository / request.param
    lines = {line.name: line for line in measure(place)}
    return Prepared(request.param, place, declaration(place / "application.yaml"), lines)


def test_all_models_together_stay_small() -> None:
    assert sum(model.stat().st_size for name in NAMES for model in models(name)) < 8 * MIB


def test_every_declared_variant_is_shipped_and_no_other(prepared: Prepared) -> None:
    assert [model.stem for model in models(prepared.name)] == sorted(prepared.said["variants"])


def test_the_card_states_what_is_measured(prepared: Prepared) -> None:
    for name, line in prepared.lines.items():
        said = stated(prepared.name, name)[3].strip()
        low, high = (float(edge) for edge in said.split("[")[1].rstrip("]").split(","))
        assert low <= line.overall("test").value <= high, f"{name}: the card says {said}"


def test_the_peek_is_clearly_below_the_best_variant(prepared: Prepared) -> None:
    best = max(prepared.validation(name) for name in prepared.said["variants"])
    assert prepared.validation(PEEK) <= best - 0.05


def test_every_variant_is_on_the_front_or_best_at_some_class(prepared: Prepared) -> None:
    variants = list(prepared.said["variants"])  # declared from the cheapest to the dearest
    for i, name in enumerate(variants):
        on_the_front = all(
            prepared.validation(name) > prepared.validation(cheaper) for cheaper in variants[:i]
        )
        recalls = {
            v: [
                prepared.lines[v].of_class("validation", c).value
                for c in range(len(prepared.said["classes"]))
            ]
            for v in variants
        }
        others = np.max([recalls[v] for v in variants if v != name], axis=0)
        assert on_the_front or (np.array(recalls[name]) > others).any(), name


def test_the_dearest_costs_twenty_times_the_cheapest(prepared: Prepared) -> None:
    cheapest, *_, dearest = prepared.said["variants"]
    cheap_ms, dear_ms = (milliseconds(prepared.name, variant) for variant in (cheapest, dearest))
    assert dear_ms >= 20 * cheap_ms
    assert dear_ms >= 1.0


def test_an_answer_does_not_depend_on_its_company(prepared: Prepared) -> None:
    rows = Split.read(prepared.place / "validation.npz")
    rows = rows.rows(np.linspace(0, len(rows) - 1, 24).astype(np.int64))
    for variant in prepared.said["variants"]:
        together = answers(prepared.said, prepared.place, variant, rows)
        alone = answers(prepared.said, prepared.place, variant, rows, batch=1)
        np.testing.assert_allclose(together, alone, atol=1e-4)
        assert together.shape == (24, len(class_names(prepared.said)))


def test_wilson_s_interval() -> None:
    assert Share(8, 10).interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert Share(0, 10).interval == pytest.approx((0.0, 0.2775), abs=1e-4)
