"""The examples of docs/repository.md are read as they stand."""

import re
from pathlib import Path

from peekserve.cli.recipes import parse_recipe
from peekserve.registry.repository import read_repository
from peekserve.registry.settings import ServerSettings, read_settings
from tests.runtimes.nets import SUBNETS, save_supernet

MANUAL = Path(__file__).parents[2] / "docs" / "repository.md"


def test_the_examples_of_the_manual_can_be_read(tmp_path):
    application, supernets, recipe, server = re.findall(
        r"```yaml\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL
    )
    for name in ("cnn/model.onnx", "wide/1/model.onnx", "validation.npz", "reference.npz"):
        file = tmp_path / "ecg" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (tmp_path / "ecg" / "application.yaml").write_text(application + supernets)
    save_supernet(tmp_path / "ecg" / "tall", classes=("normal", "ectopic", "other"))
    (tmp_path / "peekserve.yaml").write_text(server)
    (ecg,) = read_repository(tmp_path).sound().applications
    assert [v.name for v in ecg.variants] == ["cnn", "1", *(f"tall.{name}" for name in SUBNETS)]
    assert ecg.class_weights == (1.0, 2.0, 1.0)
    assert parse_recipe(recipe, "tall.yaml", ecg).space.size == 27 * 4
    settings, _ = read_settings(tmp_path)
    assert settings.limits == ServerSettings().limits
