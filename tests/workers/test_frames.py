import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.domain.tensors import InputMap, LogMel, OutputForm, OutputMap, TensorSpec
from peekserve.workers import frames
from tests.runtimes.tiny import a_variant, right, takes

MESSAGES = [
    frames.Describe(
        "tiny",
        a_variant(
            timing=takes(0.01),
            quality=right(0.5, 1.0),
            inputs=(
                InputMap("sound", "x", logmel=LogMel(16000, 0.025, 0.01, 40), transpose=(1, 0), cast="FP16"),
            ),
            output=OutputMap("y", OutputForm.LABEL, labels=((1, 0), (7, 1))),
        ),
        2,
        (TensorSpec("sound", "INT16", (-1,), buckets=(100, 200)),),
    ),
    frames.LoadModel("tiny", "linear"),
    frames.UnloadModel("linear"),
    frames.RunModel(7, "tiny", "linear", (frames.Tensor("x", "<f4", (3, 4), data=bytes(48)),)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_what_is_sent_is_what_arrives(message):
    (body,) = frames.Unpacker().feed(frames.pack(message))
    assert frames.to_worker(body) == message


@given(st.lists(st.integers(1, 400), max_size=40))
def test_a_stream_may_come_in_any_pieces(cuts):
    replies = [frames.RanModel(i, 2, bytes(48 * i), 1.0 + i, 2.0 + i) for i in range(5)]
    stream, unpacker, got = b"".join(map(frames.pack, replies)), frames.Unpacker(), []
    for cut in (*cuts, len(stream)):
        got += unpacker.feed(stream[:cut])
        stream = stream[cut:]
    assert [frames.to_front(body) for body in got] == replies
