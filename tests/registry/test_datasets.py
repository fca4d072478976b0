"""Where data sets are looked for, and what is said where they are not."""

from pathlib import Path

import pytest

from peekserve.errors import DataUnavailable
from peekserve.registry.datasets import (
    DATASETS,
    VARIABLE,
    dataset_file,
    find,
    homes,
    own_home,
    trained_home,
    trained_models,
)

FILE = "mitbih_beats/beats.npz"


def put(home: Path) -> Path:
    (home / FILE).parent.mkdir(parents=True)
    (home / FILE).touch()
    return home / FILE


@pytest.fixture
def working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty machine: a working directory, a cache of its own, and nothing in the environment."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path


def test_the_folder_that_is_named_is_the_only_one(working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(working / "shared" / "data")
    monkeypatch.setenv(VARIABLE, str(working / "named"))
    assert homes() == [working / "named"] == [own_home()]
    with pytest.raises(
        DataUnavailable, match=rf"there is no {FILE} in {working / 'named'}; `peekserve data fetch"
    ):
        dataset_file(FILE)
    here = put(working / "named")
    assert dataset_file(FILE) == here


def test_beside_the_working_directory_comes_before_the_cache(working: Path) -> None:
    put(working / "cache" / "peekserve" / "data")
    assert homes()[0] == working / "shared" / "data"
    assert own_home() == homes()[-1] == working / "cache" / "peekserve" / "data"
    beside = put(working / "shared" / "data")
    assert find(FILE) == dataset_file(FILE) == beside


def test_trained_models_lie_where_new_data_are_put(working: Path) -> None:
    out = trained_home("falls")
    assert out == working / "cache" / "peekserve" / "data" / "models" / "falls"
    out.mkdir(parents=True)
    (out / "video.onnx").touch()
    assert trained_models("falls") == [out / "video.onnx"]
    with pytest.raises(DataUnavailable, match=r"peekserve\.applications\.watch\.train --out .*models/watch`"):
        trained_models("watch")


def test_every_data_set_states_a_source_a_licence_and_a_checksum() -> None:
    for name, dataset in DATASETS.items():
        assert dataset.name == name == dataset.file.split("/")[0]
        assert dataset.source.url.startswith(("https://", "http://"))
        assert dataset.licence
        assert len(dataset.sha256) == 64
        assert len(dataset.source.checksum) == {"sha256": 64, "md5": 32, "": 0}[dataset.source.algorithm]
