"""What a run recorded, replayed, gives the same commands."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from peekserve.cli.replay import replay as replay_command
from peekserve.core.spec import SchedulerSpec
from peekserve.errors import JournalDamaged
from peekserve.live.journalling import replay
from peekserve.sim.faults import Faults
from peekserve.state.journal import JournalReader, JournalWriter
from tests.sim.runs import a_trace, applications, run


@pytest.fixture
def journal(tmp_path):
    spec = SchedulerSpec(lead_s=0.002)
    path = tmp_path / "run.journal"
    with JournalWriter(path, spec, applications()) as writer:
        trace = a_trace(applications(), rate=300, seconds=0.5, rows=2)
        faults = Faults.drawn(["w0"], 0.5, kills=2, rng=np.random.default_rng(1))
        run(
            spec, trace, faults=faults, observe=lambda event, now, commands: writer.step(event, now, commands)
        )
    return path


def test_a_journal_replays_to_the_same_commands(journal):
    replayed = replay(JournalReader(journal))
    assert replayed.difference is None
    assert replayed.steps > 300
    assert replayed.commands > 300


def test_it_does_so_in_another_process_with_another_hash_seed(journal):
    code = (
        "import sys; from pathlib import Path; from peekserve.live.journalling import replay;"
        "from peekserve.state.journal import JournalReader;"
        "r = replay(JournalReader(Path(sys.argv[1]))); print(r.difference, r.steps)"
    )
    for hash_seed in ("1", "4242"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        out = subprocess.run(
            [sys.executable, "-c", code, journal], env=env, capture_output=True, text=True, check=True
        )
        assert out.stdout.startswith("None ")


def test_another_scheduler_is_noticed(journal):
    reader = JournalReader(journal)
    reader.header.spec["policy"] = "maxacc-edf"
    difference = replay(reader).difference
    assert difference is not None
    assert "step" in difference


def test_a_journal_cut_off_anywhere_is_read_to_its_last_whole_frame(journal, tmp_path):
    data = journal.read_bytes()
    whole = sum(1 for _ in JournalReader(journal))
    cut = tmp_path / "cut.journal"
    for at in np.random.default_rng(0).integers(len(data) // 2, len(data) - 1, 20):
        cut.write_bytes(data[:at])
        read = 0
        try:
            for _ in JournalReader(cut):
                read += 1
        except JournalDamaged as error:
            assert "everything before it is good" in str(error)  # noqa: PT017
        assert 0 < read < whole


def test_a_flipped_bit_is_noticed(journal, tmp_path):
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 4
    bad = tmp_path / "bad.journal"
    bad.write_bytes(data)
    with pytest.raises(JournalDamaged, match="is broken"):
        list(JournalReader(bad))


def test_a_file_that_is_no_journal_says_so(tmp_path):
    path = tmp_path / "x"
    for content in (b"hello", b"a picture, say" * 100):
        path.write_bytes(content)
        with pytest.raises(JournalDamaged, match="is no journal of peekserve"):
            JournalReader(path)


def test_what_a_power_cut_left_of_a_journal_is_replayed_and_the_cut_is_told(journal, capsys):
    whole = sum(1 for _ in JournalReader(journal))
    journal.write_bytes(journal.read_bytes()[:-3])
    assert replay_command(journal, as_json=False) == 1
    said = capsys.readouterr().out
    assert f"{whole - 1} events led to the same" in said
    assert "is broken" in said
    assert replay_command(journal, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["same"], told["steps"]) == (True, whole - 1)
    assert "is broken" in told["damaged"]


def test_a_whole_journal_is_not_called_damaged(journal, capsys):
    assert replay_command(journal, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["same"], told["damaged"]) == (True, None)
