"""The key `supernets`: which variants come of it, and what is said of a folder that is not in order."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from peekserve.config import Severity
from peekserve.domain.tensors import InputMap, OutputForm, OutputMap
from peekserve.registry.application import look_into
from peekserve.registry.check import check
from peekserve.registry.repository import read_repository
from peekserve.supernets import packed
from peekserve.supernets.space import Subnet
from peekserve.supernets.storage import Offered
from tests.registry.folders import untouched
from tests.runtimes.nets import SUBNETS, save_supernet
from tests.runtimes.tiny import save_linear

TINY = """\
application: tiny
classes: [a, b, c]
inputs:
  signal: {datatype: FP32, shape: [4]}
deadline: 150ms
supernets:
  wide:
    path: wide
    inputs: {signal: x}
    output: {name: logits, form: logits}
    max_batch: 16
    subnets: pareto
"""


def repository(root: Path, text: str = TINY, **options) -> Path:
    (root / "tiny").mkdir(parents=True)
    save_supernet(root / "tiny" / "wide", **options)
    (root / "tiny" / "application.yaml").write_text(text)
    return root


def variants_of(root: Path, describe=untouched):
    return read_repository(root, describe).sound().applications[0].variants


def problems_of(root: Path) -> list[str]:
    found = read_repository(root, look_into)
    assert found.applications == ()
    return [str(p).removeprefix(f"{root}/tiny/application.yaml:") for p in found.problems]


def test_every_subnet_on_offer_becomes_a_variant(tmp_path):
    variants = variants_of(repository(tmp_path))
    assert [v.name for v in variants] == [f"wide.{name}" for name in SUBNETS]
    assert [v.subnet for v in variants] == list(SUBNETS)
    assert {v.model for v in variants} == {str(tmp_path / "tiny" / "wide")}
    assert {v.together for v in variants} == {SUBNETS}
    assert len({v.weights for v in variants}) == 1, "whoever needs one of them has loaded them all"
    assert len({v.revision for v in variants}) == len(SUBNETS), "and each is worth something else"
    one = variants[0]
    assert one.inputs == (InputMap("signal", "x"),)
    assert one.output == OutputMap("logits", OutputForm.LOGITS)
    assert one.max_batch == 16


@pytest.mark.parametrize(
    "written",
    [
        "wide: wide",
        "wide: {path: wide}",
        "wide: {path: wide, output: logits}",
    ],
)
def test_tensors_that_are_not_named_are_asked_of_a_graph(tmp_path, written):
    text = TINY[: TINY.index("  wide:")] + f"  {written}\n"
    variants = variants_of(repository(tmp_path, text), look_into)
    assert len(variants) == len(SUBNETS)
    assert variants[0].inputs == (InputMap("signal", "x"),)
    assert variants[0].output == OutputMap("logits", OutputForm.LOGITS)


def test_an_input_that_is_not_written_is_made_as_for_the_training(tmp_path):
    trained = {"recipe": "architecture: conv1d\ninput: {signal: {scale: 0.5, offset: 1}}\n"}
    plain = TINY.replace("    inputs: {signal: x}\n", "")
    root = repository(tmp_path / "a", plain, trained=trained)
    assert variants_of(root, look_into)[0].inputs == (InputMap("signal", "x", scale=0.5, offset=1.0),)
    root = repository(tmp_path / "b", TINY, trained=trained)
    assert variants_of(root, look_into)[0].inputs == (InputMap("signal", "x"),), "what is written counts"
    root = repository(tmp_path / "c", plain, trained={"recipe": "input: {sinal: {scale: 0.5}}\n"})
    assert "supernet.json (recipe):1: recipe.input.sinal: the application has no input 'sinal'" in str(
        read_repository(root, look_into).problems[0]
    )


def test_single_subnets_are_served_in_the_order_written_beside_models_of_their_own(tmp_path):
    text = TINY.replace("subnets: pareto", "subnets: [d2.w100, d1.w50]") + "variants: {linear: linear.onnx}\n"
    root = repository(tmp_path, text)
    save_linear(root / "tiny" / "linear.onnx")
    variants = variants_of(root, look_into)
    assert [v.name for v in variants] == ["linear", "wide.d2.w100", "wide.d1.w50"]
    assert [v.subnet for v in variants] == ["", "d2.w100", "d1.w50"]


def test_other_subnets_of_one_folder_are_a_load_of_their_own(tmp_path):
    text = TINY.replace("pareto", "[d1.w50, d2.w50]")
    other = TINY[TINY.index("  wide:") :].replace("  wide:", "  large:").replace("pareto", "[d2.w100]")
    variants = variants_of(repository(tmp_path, text + other))
    assert [v.together for v in variants] == [("d1.w50", "d2.w50")] * 2 + [("d2.w100",)]
    assert variants[0].weights == variants[1].weights != variants[2].weights


def test_a_calibrated_subnet_that_is_not_on_offer_can_be_named(tmp_path):
    offered = (Offered(Subnet.parse("d1.w50"), 9, 10, 1, 1),)
    root = repository(tmp_path, TINY.replace("pareto", "[d2.w50]"), offered=offered)
    assert [v.name for v in variants_of(root)] == ["wide.d2.w50"]


def test_profiles_may_be_stated_of_single_subnets(tmp_path):
    stated = (
        "    profiles: {d1.w50: {recalls: {a: 0.9, b: 0.8, c: 0.7}, devices: {little: {latency: 9ms}}}}\n"
    )
    by_name = {v.subnet: v for v in variants_of(repository(tmp_path, TINY + stated))}
    assert by_name["d1.w50"].quality.recall == (0.9, 0.8, 0.7)
    assert by_name["d1.w50"].timing["little"].curve(0).seconds(1) == 0.009
    assert by_name["d2.w50"].quality is None


def test_other_weights_or_another_graph_are_another_revision(tmp_path):
    first = variants_of(repository(tmp_path / "a"))
    again = variants_of(repository(tmp_path / "b"))
    other = variants_of(repository(tmp_path / "c", seed=6))
    assert [v.revision for v in first] == [v.revision for v in again]
    assert first[0].weights == again[0].weights != other[0].weights
    assert not {v.revision for v in first} & {v.revision for v in other}


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (
            "pareto",
            "[d1.w50, d2.w10]",
            12,
            "wide.subnets[1]: subnet 'd2.w10' is not in the space of wide: d2.w10: ",
        ),
        ("pareto", "[d2.w10]", 12, "stage 0 has no width 0.1, only 0.5, 1.0; did you mean 'd2.w100'?"),
        ("pareto", "[d9.w50]", 12, "d9.w50: stage 0 cannot run 9 blocks, only 1 to 2; did you mean 'd"),
        (
            "pareto",
            "[small]",
            12,
            "wide.subnets[0]: subnet 'small' is not in the space of wide: 'small' names no",
        ),
        ("pareto", "paretto", 12, "unknown choice of subnets 'paretto'; did you mean 'pareto'?"),
        ("pareto", "[]", 12, "wide.subnets: names no subnet"),
        ("path: wide", "path: ../wide", 8, "wide.path: '../wide' is not a path below"),
        ("path: wide", "path: wider", 8, "wide.path: there is no folder 'wider' in "),
        ("path: wide", "path: wider", 8, "; `peekserve supernet train "),
        ("    path: wide\n", "", 7, "wide: needs the key 'path'"),
        ("max_batch", "max_bach", 11, "wide: unknown key 'max_bach'; did you mean 'max_batch'?"),
        ("[a, b, c]", "[a, b]", 8, "the supernet tells 3 classes apart; the application has 2"),
        (
            "[a, b, c]",
            "[c, b, a]",
            8,
            "classes are in the order a, b, c; write output: {name: logits, form: logits, or",
        ),
        ("{signal: x}", "{sinal: x}", 9, "the application has no input 'sinal'; did you mean 'signal'?"),
    ],
)
def test_each_mistake_is_named_with_its_line_and_its_remedy(tmp_path, old, new, line, message):
    assert TINY.count(old) == 1
    found = problems_of(repository(tmp_path, TINY.replace(old, new)))
    assert any(one.startswith(f"{line}: supernets.wide") and message in one for one in found), found


def test_classes_in_another_order_are_served_as_the_order_says(tmp_path):
    text = TINY.replace("classes: [a, b, c]", "classes: [c, b, a]")
    text = text.replace("form: logits}", "form: logits, order: [a, b, c]}")
    assert variants_of(repository(tmp_path, text))[0].output.order == (2, 1, 0)


def sums_of(folder):
    """As an export leaves them in supernet.json."""
    file = folder / "supernet.json"
    told = json.loads(file.read_text())
    for one in (folder / "subnets").iterdir():
        told["files"][f"subnets/{one.name}"] = sha256(one.read_bytes()).hexdigest()
    file.write_text(json.dumps(told))


def spoil_version(folder):
    file = folder / "supernet.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))


def spoil_weights(folder):
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


def spoil_graphs(folder):
    for graph in packed.graphs(folder).values():
        graph.unlink()


def spoil_one_graph(folder):
    packed.graphs(folder)["d2.w50"].unlink()


def spoil_exported(folder):
    file = packed.weights_of(folder)
    file.write_bytes(file.read_bytes()[:-8])


def spoil_training(folder):
    save_supernet(folder.parent / "other", seed=6)
    for name in ("supernet.json", "weights.safetensors"):
        (folder.parent / "other" / name).rename(folder / name)


def spoil_one_number(folder):
    file = packed.weights_of(folder)
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def spoil_by_a_mix_up(folder):
    graphs = packed.graphs(folder)
    graphs["d1.w50"].write_bytes(graphs["d2.w50"].read_bytes())


def lead_out(file, outside):
    file.rename(outside)
    file.symlink_to(outside)


def spoil_link(folder):
    lead_out(packed.weights_of(folder), folder.parents[2] / "outside.bin")


def spoil_description_link(folder):
    lead_out(folder / "supernet.json", folder.parents[2] / "outside.json")


@pytest.mark.parametrize(
    ("spoil", "line", "message"),
    [
        (spoil_version, 8, "is of format 99, and this peekserve reads 1"),
        (spoil_weights, 8, "cut off, or of another training; copy both files again"),
        (spoil_graphs, 8, "has no exported graph; `peekserve supernet export"),
        (spoil_one_graph, 12, "subnet 'd2.w50' has no exported graph; `peekserve supernet export"),
        (spoil_exported, 8, "weights.bin: cut off: of"),
        (spoil_training, 8, "was exported from other weights"),
        (spoil_one_number, 8, "weights.bin is not the file that was exported"),
        (spoil_by_a_mix_up, 8, "d1.w50.onnx is not the file that was exported"),
        (spoil_description_link, 8, "leads out of the repository by a symbolic link"),
        (spoil_link, 8, "leads out of the repository by a symbolic link"),
    ],
)
def test_a_folder_that_is_not_in_order_is_refused_with_the_line_of_its_path(tmp_path, spoil, line, message):
    root = repository(tmp_path / "repository")
    sums_of(root / "tiny" / "wide")
    spoil(root / "tiny" / "wide")
    found = problems_of(root)
    assert len(found) == 1, found
    assert found[0].startswith(f"{line}: supernets.wide")
    assert message in found[0]


def test_subnets_without_statistics_say_how_to_get_them(tmp_path):
    found = problems_of(repository(tmp_path, calibrated=("d1.w50", "d2.w100", "d1.w100")))
    assert found[0].startswith(
        "12: supernets.wide.subnets: subnet 'd2.w50' has no statistics; `peekserve supernet calibrate"
    )


def test_a_supernet_that_offers_nothing_says_so(tmp_path):
    assert "offers no subnet; `peekserve supernet pareto " in problems_of(repository(tmp_path, offered=()))[0]


def test_check_runs_a_row_through_every_subnet(tmp_path):
    root = repository(tmp_path)
    (warning,) = check(root)
    assert str(warning).startswith(
        f"{root}/tiny/application.yaml:7: warning: supernets.wide: d1.w50 and 3 more: has no profile"
    )
    # The first graph reads two weights of the right names; this one has three columns of input where four come.
    (root / "tiny" / "application.yaml").write_text(TINY.replace("shape: [4]", "shape: [3]"))
    (fault,) = [p for p in check(root) if p.severity is Severity.ERROR]
    assert str(fault).startswith(f"{root}/tiny/application.yaml:7: supernets.wide: d1.w50 and 3 more: [ONNX")


def test_check_asks_once_for_all_subnets_of_a_supernet(tmp_path):
    root, asked = repository(tmp_path, TINY + "variants: {linear: linear.onnx}\n"), []
    save_linear(root / "tiny" / "linear.onnx")

    def probe(application, variants):
        asked.append([variant.name for variant in variants])
        return tuple("is odd" if variant.subnet == "d2.w50" else "" for variant in variants)

    faults = [p for p in check(root, None, probe) if p.severity is Severity.ERROR]
    assert asked == [["linear"], [f"wide.{name}" for name in SUBNETS]]
    assert [str(fault).partition(": ")[2] for fault in faults] == ["supernets.wide: d2.w50: is odd"]
