"""What recorded arrivals may look like, and what is said of those that do not."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.errors import InvalidConfiguration, InvalidData
from peekserve.loadgen.trace_files import PIECE, read_trace
from peekserve.loadgen.traces import Counts, Requests, Trace
from peekserve.registry.datasets import find


def a_trace(folder: Path, content: str | bytes, slot_s: float | None = None) -> Trace:
    path = folder / "trace"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_trace(path, slot_s)


def instants(trace: Trace) -> list[float]:
    assert isinstance(trace, Requests)
    return [round(at, 9) for at in trace.at.tolist()]


def counts(trace: Trace) -> list[int]:
    assert isinstance(trace, Counts)
    return trace.counts.tolist()


def test_a_column_of_seconds_begins_with_the_first_request(tmp_path: Path):
    assert instants(a_trace(tmp_path, "5\n5.25\n7e0\n")) == [0.0, 0.25, 2.0]
    assert instants(a_trace(tmp_path, " 5\r\n5.25 \r\n7")) == [0.0, 0.25, 2.0]
    assert instants(a_trace(tmp_path, "\ufeff5\n5.25\n7\n")) == [0.0, 0.25, 2.0]


def test_a_column_of_counts_says_how_long_a_slot_is(tmp_path: Path):
    read = a_trace(tmp_path, "3\n0\n2\n", slot_s=60.0)
    assert counts(read) == [3, 0, 2]
    assert (read.requests, read.length_s) == (5, 180.0)


def test_a_gzipped_file_needs_no_suffix(tmp_path: Path):
    assert counts(a_trace(tmp_path, gzip.compress(b"1\n0\n4\n"), slot_s=1.0)) == [1, 0, 4]


def test_a_large_column_is_read_over_many_pieces(tmp_path: Path):
    values = np.random.default_rng(0).integers(0, 1000, 200_000)
    text = "\n".join(map(str, values.tolist()))
    assert len(text) > 2 * PIECE
    assert counts(a_trace(tmp_path, text, slot_s=1.0)) == values.tolist()


@pytest.mark.parametrize("name", ["at", "timestamp", "Arrival", " TIME "])
def test_csv_with_a_column_of_seconds(tmp_path: Path, name: str):
    assert instants(a_trace(tmp_path, f"id,{name}\na,10\nb,10.5\n\n")) == [0.0, 0.5]


def test_csv_in_milliseconds_with_applications_and_samples(tmp_path: Path):
    read = a_trace(tmp_path, "\ufeffat_ms,application,sample\n0,ecg,7\n250,keywords,\n1000,ecg,0\n")
    assert instants(read) == [0.0, 0.25, 1.0]
    assert isinstance(read, Requests)
    assert read.applications == ["ecg", "keywords", "ecg"]
    assert list(read.samples or ()) == [7, -1, 0]


def test_csv_with_dates_and_times_such_as_azures_llm_traces(tmp_path: Path):
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    text += "2023-11-16 23:59:59.9799600,374,44\n2023-11-17 00:00:01.2299600,396,109\n"
    assert instants(a_trace(tmp_path, text)) == [0.0, 1.25]
    zones = "at\n2026-03-29T01:00:00+01:00\n2026-03-29T00:30:00Z\n"
    assert instants(a_trace(tmp_path, zones)) == [0.0, 1800.0]


def test_csv_of_ends_and_durations_as_azure_functions_2021(tmp_path: Path):
    """A request came when it began, and files are ordered by other things."""
    text = "app,func,end_timestamp,duration\nx,f,9.5,0.5\nx,g,8.25,8.0\ny,h,3.0,1.0\n"
    assert instants(a_trace(tmp_path, text)) == [0.0, 1.75, 8.75]


def test_csv_of_counts_by_minute_as_azure_functions_2019(tmp_path: Path):
    head = ["HashOwner", "HashApp", "HashFunction", "Trigger", *map(str, range(1, 1441))]
    rows = [["o", "a", f"f{i}", "http", *(str(i * (minute % 2)) for minute in range(1440))] for i in (1, 2)]
    read = a_trace(tmp_path, "\n".join(",".join(row) for row in [head, *rows]))
    assert counts(read) == [0, 3] * 720
    assert read.length_s == 86_400.0


def test_csv_with_a_column_of_counts(tmp_path: Path):
    assert counts(a_trace(tmp_path, "hour,requests\n0,5\n1,0\n", slot_s=3600.0)) == [5, 0]


@pytest.mark.parametrize(
    ("content", "slot_s", "message"),
    [
        ("", None, "is empty"),
        ("1\n3\n2\n", None, "trace:3: 2 comes after 3; instants never fall"),
        ("1\n1\n1\n", None, "a microsecond apart"),
        ("1\nx\n", None, "trace:2: 'x' is not a number"),
        ("1\n\n2\n", None, "trace:2: '' is not a number"),
        ("1\nnan\n2\n", None, "trace:2: 'nan' is not a number"),
        ("1\n2 3\n4\n", None, "trace:2: '2 3' is not a number"),
        ("1\n1_000\n", None, "trace:2: '1_000' is not a number"),
        ("1e-320\n0.0000001\n", None, "a microsecond apart"),
        ("at,AT \n1,2\n2,3\n", None, "trace:1: two columns 'at'"),
        ("at,sample,sample\n1,2,3\n2,3,4\n", None, "trace:1: two columns 'sample'"),
        ("-1e308\n1e308\n", None, "trace:1: -1e+308 s is no instant"),
        ("1\n-2\n", 1.0, "trace:2: -2 is not a count"),
        ("1\n2.5\n", 1.0, "trace:2: 2.5 is not a count"),
        ("0\n0\n", 1.0, "0 requests in all"),
        ("1\n" + "2" * 70_000, None, "trace:2: a line without end"),
        ("at,a\n" + "2" * 70_000, None, "trace:2: a line without end"),
        ("at\n", None, "a microsecond apart"),
        ("at\n1\n3\n2\n", None, "trace:4: '2' is before the line above"),
        ("at\n1\ninf\n", None, "trace:3: 'inf' is not a number"),
        ("at\nsoon\n", None, "trace:2: 'soon' is no instant"),
        ("at\n2023-11-16\n5\n", None, "trace:3: '5' is no instant"),
        ("at,b\n1\n", None, "trace:2: 1 fields; the header has 2"),
        ("timestmp\n1\n", None, "did you mean 'timestamp'"),
        ("at,sample\n1,-1\n2,0\n", None, "trace:2: '-1' is no sample"),
        ("at,sample\n1,1.5\n2,0\n", None, "trace:2: '1.5' is no sample"),
        ("at\n1\n2\n", 1.0, "no column count"),
        ("count\n1\n2\n", None, "--slot"),
        ("count\n1\n\n-2\n", 1.0, "trace:4: -2 is not a count"),
        ("at\n1\n\n1e12\n", None, "trace:4: 1e+12 s is no instant"),
        ("end_timestamp,duration\n2e12,1\n5,1\n", None, "trace:2: 2e+12 s is no instant"),
        ('at,b\n1,"x\n', None, "trace:2: not csv: unexpected end"),
        (b"at\n\xff\n", None, "trace:2: not UTF-8"),
        (b"\x1f\x8bnot gzip", None, "the gzip file is damaged"),
        (gzip.compress(b"1\n2\n3\n" * 999)[:-9], None, "the gzip file is damaged"),
    ],
)
def test_what_is_no_trace_is_named_with_its_line(
    tmp_path: Path, content: str | bytes, slot_s: float | None, message: str
):
    with pytest.raises(InvalidData) as refused:
        a_trace(tmp_path, content, slot_s)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_slot_that_does_not_fit_is_a_wrong_flag(tmp_path: Path):
    minutes = ",".join(map(str, range(1, 1441)))
    for content, slot_s in ((f"{minutes}\n{minutes}\n", 1.0), ("1\n", 0.0), ("1\n", float("nan"))):
        with pytest.raises(InvalidConfiguration):
            a_trace(tmp_path, "x," + content if "," in content else content, slot_s)


LINES = st.one_of(
    st.sampled_from(["at", "at,application", "count", "1", "2.5", "1,a", '"', "-1", "nan", "2026-01-01", ""]),
    st.text(max_size=12),
)


@given(
    lines=st.lists(LINES, max_size=6),
    slot_s=st.sampled_from([None, 1.0]),
    packed=st.booleans(),
    cut=st.integers(0, 8),
)
def test_whatever_is_in_a_file_is_a_trace_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], slot_s: float | None, packed: bool, cut: int
):
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    content = gzip.compress(content) if packed else content
    check_bytes(tmp_path_factory, content[: len(content) - cut], slot_s)


@given(content=st.binary(max_size=60), slot_s=st.sampled_from([None, 1.0]))
def test_any_bytes_are_a_trace_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, slot_s: float | None
):
    check_bytes(tmp_path_factory, content, slot_s)


def check_bytes(factory: pytest.TempPathFactory, content: bytes, slot_s: float | None) -> None:
    path = factory.getbasetemp() / "any"
    path.write_bytes(content)
    try:
        read = read_trace(path, slot_s)
    except (InvalidData, InvalidConfiguration):
        return
    assert read.requests > 0
    assert 0.0 < read.length_s < np.inf
    if isinstance(read, Requests):
        assert read.at[0] == 0.0
        assert (np.diff(read.at) >= 0.0).all()


@pytest.mark.parametrize(
    ("file", "slot_s", "requests", "rate"),
    [
        ("azure_llm_2023_conv.csv", None, 19_366, 5.53),
        ("azure_llm_2023_code.csv", None, 8_819, 2.57),
        ("azure_functions_2021_first200.csv", None, 199, 0.165),
        ("nasa_http_1995_per_second.txt.gz", 1.0, 3_461_610, 0.684),
    ],
)
def test_the_recorded_traces_read_as_their_readme_says(
    file: str, slot_s: float | None, requests: int, rate: float
):
    path = find(f"traces/{file}")
    if path is None:
        pytest.skip(f"there is no traces/{file} in the folders for data")
    read = read_trace(path, slot_s)
    assert read.requests == requests
    assert read.requests / read.length_s == pytest.approx(rate, abs=0.005)
