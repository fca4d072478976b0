from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.config import MAX_BYTES, Entry, Problems, Section, parse, read
from peekserve.errors import InvalidConfiguration


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


def value(text: str) -> Entry:
    return parse(f"key: {text}", "f.yaml", Problems()).pairs()["key"]


def test_values_are_what_is_written():
    root = Section(parse("a: yes\nb: [1, 2]\nc: {d: 1.5, e: true}\nf: red\n", "f.yaml", Problems()))
    inner = Section(root.need("c", lambda e: e, None))
    assert root.take("a", Entry.text, "") == "yes"
    assert root.take("b", lambda e: e.each(Entry.integer), []) == [1, 2]
    assert inner.take("d", Entry.number, 0.0) == 1.5
    assert inner.take("e", Entry.boolean, False) is True
    assert root.take("f", lambda e: e.member(Colour), None) is Colour.RED
    assert root.take("absent", Entry.text, "default") == "default"


@pytest.mark.parametrize(
    ("text", "seconds"), [("150ms", 0.15), ("2s", 2.0), ("300 us", 3e-4), ("0ms", 0.0), ("1.5min", 90.0)]
)
def test_a_time_has_its_unit(text, seconds):
    assert value(text).seconds() == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"), [("512MiB", 512 << 20), ("64KiB", 65536), ("1kB", 1000), ("7B", 7)]
)
def test_a_size_has_its_unit(text, size):
    assert value(text).size() == size


@pytest.mark.parametrize(
    ("text", "decode", "message"),
    [
        ("150", Entry.seconds, "f.yaml:1: key: 150 has no unit; write 150ms or 150s"),
        ("512", Entry.size, "f.yaml:1: key: 512 has no unit; write 512MiB or 512GiB"),
        ("5 msec", Entry.seconds, "f.yaml:1: key: unknown unit 'msec' in '5 msec'; did you mean 'ms'?"),
        ("-5ms", Entry.seconds, "f.yaml:1: key: -5ms is below zero"),
        ("0ms", Entry.positive_seconds, "f.yaml:1: key: 0ms is not above zero"),
        ("0MiB", Entry.size, "f.yaml:1: key: 0MiB is not above zero"),
        ("soon", Entry.seconds, "f.yaml:1: key: 'soon' is not a time; write it like 150ms or 2s"),
        ("1e3", Entry.integer, "f.yaml:1: key: '1e3' is not a whole number"),
        (".nan", Entry.number, "f.yaml:1: key: '.nan' is not a number"),
        ("1e999", Entry.number, "f.yaml:1: key: '1e999' is not a number"),
        ("yes", Entry.boolean, "f.yaml:1: key: unknown value 'yes'; known: true, false"),
        ("[1]", Entry.text, "f.yaml:1: key: must be one value, not a list"),
        ("x", Entry.items, "f.yaml:1: key: must be a list, not one value"),
        ("[]", Entry.pairs, "f.yaml:1: key: must be a mapping, not a list"),
        ("", Entry.text, "f.yaml:1: key: has no value; write one or leave the key out"),
        (
            "greeen",
            lambda e: e.member(Colour),
            "f.yaml:1: key: unknown value 'greeen'; did you mean 'green'?",
        ),
    ],
)
def test_a_wrong_value_names_place_and_remedy(text, decode, message):
    with pytest.raises(InvalidConfiguration) as raised:
        decode(value(text))
    assert str(raised.value) == message


def test_an_unknown_key_names_the_nearest_one():
    problems = Problems()
    root = Section(parse("deadlin: 2s\ncolour: red\n", "f.yaml", problems))
    root.take("deadline", Entry.seconds, 1.0)
    root.take("colour", Entry.text, "")
    root.done()
    assert [str(p) for p in problems.found] == [
        "f.yaml:1: unknown key 'deadlin'; did you mean 'deadline'?",
    ]


def test_all_problems_of_a_file_are_collected():
    problems = Problems()
    root = Section(parse("a: x\n\nb:\n  - 1\n  - two\n  - 3\n", "f.yaml", problems))
    root.take("a", Entry.integer, 0)
    assert root.take("b", lambda e: e.each(Entry.integer), []) == [1, 3]
    root.need("c", Entry.text, "")
    assert [str(p) for p in problems.found] == [
        "f.yaml:1: a: 'x' is not a whole number",
        "f.yaml:5: b[1]: 'two' is not a whole number",
        "f.yaml:1: needs the key 'c'",
    ]
    with pytest.raises(InvalidConfiguration, match=r"a: 'x'.*\n.*two.*\n.*needs"):
        problems.raise_errors()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml:3: key 'a' stands here twice; first on line 1"),
        ("a: &x 1\nb: *x", "f.yaml:2: aliases like *x are not taken; write the value out again"),
        ("a: &x [*x]", "f.yaml:1: aliases like *x are not taken; write the value out again"),
        (
            "a: !!python/name:os.system",
            "f.yaml:1: tags like 'tag:yaml.org,2002:python/name:os.system' are not",
        ),
        ("a\n---\nb", "f.yaml:2: a second document begins here; a file holds one"),
        ("a: [1\nb: 2", "f.yaml:2: not YAML: "),
        ("[" * 5000, "f.yaml:1: nested more than 32 deep"),
        ("- " * 5000, "f.yaml:1: nested more than 32 deep"),
        ("{[a]: b}", "f.yaml:1: a key must be one word"),
        ("a: \x00", "f.yaml:1: not YAML: "),
    ],
)
def test_what_is_no_plain_tree_is_refused(text, message):
    with pytest.raises(InvalidConfiguration) as raised:
        parse(text, "f.yaml", Problems())
    assert str(raised.value).startswith(message)


def test_a_file_that_cannot_be_read_is_a_problem_and_not_a_crash(tmp_path: Path):
    big, latin, folder = tmp_path / "big.yaml", tmp_path / "latin.yaml", tmp_path / "folder.yaml"
    big.write_bytes(b"#" * (MAX_BYTES + 1))
    latin.write_bytes(b"a: 1\nb: \xe9\n")
    folder.mkdir()
    problems = Problems()
    assert [read(p, problems) for p in (big, latin, folder, tmp_path / "absent.yaml")] == [None] * 4
    assert [str(p).removeprefix(f"{tmp_path}/") for p in problems.found] == [
        "big.yaml: a configuration file has at most 1048576 bytes",
        "latin.yaml:2: is not UTF-8 text",
        "folder.yaml: cannot be read: Is a directory",
        "absent.yaml: cannot be read: No such file or directory",
    ]


@given(st.text() | st.text(alphabet="ab:-[]{},&*!'\"\n #?|>%@`0.~"))
def test_no_text_raises_anything_else(text):
    problems = Problems()
    try:
        root = Section(parse(text, "f.yaml", problems))
    except InvalidConfiguration:
        return
    for decode in (Entry.text, Entry.integer, Entry.number, Entry.seconds, Entry.size, Entry.items):
        root.take("a", decode, None)
    root.done()
