"""Archives from elsewhere: what is taken, and what honest clients never send."""

import gzip
import io
import stat
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.errors import InvalidRequest, TooLarge
from peekserve.registry.archives import Bounds, check_path, unpack
from peekserve.state.shelf import files_below

FILES = {"application.yaml": b"classes: [a, b]\n", "cnn/model.onnx": b"onnx" * 1000, "validation.npz": b""}


def a_tar(files, kind="w:gz", top="", **extra):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=kind) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, change in extra.items():
            member = tarfile.TarInfo(name)
            change(member)
            tar.addfile(member)
    return out.getvalue()


def a_zip(files, top=""):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return out.getvalue()


def unpacked(tmp_path, content, bounds=None):
    archive, folder = tmp_path / "archive", tmp_path / "folder"
    archive.write_bytes(content)
    folder.mkdir()
    unpack(archive, folder, bounds)
    return {name: path.read_bytes() for name, path in files_below(folder)}


def test_headers_of_tar_that_only_lead_on_come_to_an_end(tmp_path):
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 1
    one = head.tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")
    with pytest.raises(InvalidRequest, match="damaged"):
        unpacked(tmp_path, gzip.compress(one * 20_000))


def test_bytes_that_were_no_text_are_no_name():
    with pytest.raises(InvalidRequest, match="not a path"):
        check_path(b"\xff\xfe".decode(errors="replace"))


@pytest.mark.parametrize("top", ["", "./", "ecg/", "ecg-1.2/"])
@pytest.mark.parametrize("make", [a_tar, lambda f, top: a_tar(f, "w", top), a_zip], ids=["gz", "tar", "zip"])
def test_an_application_lies_at_the_top_or_in_one_folder(tmp_path, make, top):
    assert unpacked(tmp_path, make(FILES, top=top)) == FILES


def test_what_begins_with_a_dot_is_passed_over(tmp_path):
    files = {**FILES, ".DS_Store": b"x", "cnn/._model.onnx": b"y", ".git/config": b"z"}
    assert unpacked(tmp_path, a_zip(files)) == FILES


def link(to, kind=tarfile.SYMTYPE):
    def change(member):
        member.type, member.linkname = kind, to

    return change


def of_type(kind):
    return lambda member: setattr(member, "type", kind)


BAD_NAMES = [
    "/etc/cron.d/x",
    "../x",
    "a/../../x",
    "a\\..\\x",
    "a\nb",
    "x" * 300,
    "/".join("abcdefghijklmnopq"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("make", [a_tar, a_zip], ids=["tar", "zip"])
def test_paths_stay_below_the_folder(tmp_path, make, name):
    with pytest.raises(InvalidRequest, match="path"):
        unpacked(tmp_path, make({**FILES, name: b"x"}))
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "folder"}


@pytest.mark.parametrize(
    "change",
    [
        link("application.yaml"),
        link("/etc/passwd"),
        link("application.yaml", tarfile.LNKTYPE),
        *(of_type(kind) for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"S", b"Z")),
    ],
)
def test_links_and_devices_are_refused(tmp_path, change):
    with pytest.raises(InvalidRequest):
        unpacked(tmp_path, a_tar(FILES, weights=change))


def test_links_are_refused_in_a_zip(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("weights")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InvalidRequest, match="link"):
        unpacked(tmp_path, out.getvalue())


@pytest.mark.parametrize("name", ["model.pkl", "cnn/model.PT", "train.py", "hook.so"])
def test_files_for_programs_are_refused(tmp_path, name):
    with pytest.raises(InvalidRequest, match="models are data"):
        unpacked(tmp_path, a_zip({**FILES, name: b"\x80\x04."}))


def test_bombs_end_at_the_bounds(tmp_path):
    zeros = {**FILES, "zeros.npz": bytes(5 << 20)}
    bounds = Bounds(free=1 << 20)
    for number, content in enumerate((a_tar(zeros), a_zip(zeros), gzip.compress(bytes(9 << 20)))):
        place = tmp_path / str(number)
        place.mkdir()
        with pytest.raises((TooLarge, InvalidRequest)):
            unpacked(place, content, bounds)
        assert sum(path.stat().st_size for path in place.rglob("*.npz")) <= 1 << 20


def test_a_header_that_says_it_is_huge_is_not_believed(tmp_path):
    huge = tarfile.TarInfo("x")
    huge.type, huge.size = tarfile.XHDTYPE, 1 << 33
    content = gzip.compress(huge.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    with pytest.raises(InvalidRequest, match="header"):
        unpacked(tmp_path, content)


def test_so_many_files_and_no_more(tmp_path):
    many = {**FILES, **{f"f{i}": b"" for i in range(30)}}
    for number, make in enumerate((a_tar, a_zip)):
        place = tmp_path / str(number)
        place.mkdir()
        with pytest.raises(TooLarge, match="20 entries"):
            unpacked(place, make(many), Bounds(files=20))


def test_a_name_comes_once(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"2")
    with pytest.raises(InvalidRequest, match="twice"):
        unpacked(tmp_path, out.getvalue())


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"PK\x05\x06", b"\x1f\x8b", b"\x1f\x8b\x08" + bytes(99), b"hello", bytes(2048)]
)
def test_what_is_no_archive_is_said_to_be_none(tmp_path, content):
    with pytest.raises(InvalidRequest, match=r"archive|zip"):
        unpacked(tmp_path, content)


def test_without_application_yaml_there_is_no_application(tmp_path):
    with pytest.raises(InvalidRequest, match=r"application\.yaml"):
        unpacked(tmp_path, a_zip({"a/model.onnx": b"", "b/model.onnx": b""}))


WHOLE = [a_tar(FILES), a_tar(FILES, "w"), a_zip(FILES)]


@settings(max_examples=150)
@given(
    which=st.integers(0, 2),
    cuts=st.lists(st.tuples(st.integers(0, 1 << 14), st.binary(min_size=1, max_size=8)), max_size=4),
    end=st.integers(0, 1 << 14),
)
def test_damaged_archives_unpack_or_are_refused_and_nothing_else(tmp_path_factory, which, cuts, end):
    content = bytearray(WHOLE[which])
    for at, piece in cuts:
        at %= len(content)
        content[at : at + len(piece)] = piece
    place = tmp_path_factory.mktemp("damaged")
    try:
        found = unpacked(place, bytes(content[: len(content) - end % len(content)]))
    except (InvalidRequest, TooLarge):
        found = {}
    assert all(len(content) <= 1 << 24 for content in found.values())
    assert {path.name for path in place.iterdir()} == {"archive", "folder"}


@given(st.text(max_size=40))
def test_a_path_that_is_taken_leads_below(name):
    try:
        path = check_path(name)
    except InvalidRequest:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts
