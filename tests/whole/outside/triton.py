"""tritonclient at both doors: `python -m outside.triton http|grpc TARGET.json`, in an environment that has it."""

import asyncio
import re
import threading
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as http_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

# Relative: elsewhere this folder is a package of its own, without its parents.
from .checks import AMPLE_US, Check, Target, main, same
from .doors import Grpc, Http, refusal, refused


def both(door: type[Http]) -> list[Check]:
    """The checks that mean the same over HTTP and over gRPC."""

    def health(target: Target) -> str:
        """server live, server ready, model ready with and without a version"""
        client = door(target).client
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(target.model)
        for variant in target.variants:
            assert client.is_model_ready(target.model, variant), variant
        return f"live, ready, {target.model} ready, {len(target.variants)} versions ready"

    def metadata(target: Target) -> str:
        """metadata of the server, of a model, of each of its versions; an unknown model is 404"""
        speak = door(target)
        server = speak.asked("get_server_metadata")
        model = speak.asked("get_model_metadata", target.model)
        assert sorted(model["versions"]) == sorted(target.variants), model["versions"]
        assert target.input in [tensor["name"] for tensor in model["inputs"]], model["inputs"]
        for variant in target.variants:
            assert speak.asked("get_model_metadata", target.model, variant)["versions"] == [variant]
        unknown = refused(lambda: speak.asked("get_model_metadata", "no-such-model"), "404", "NOT_FOUND")
        return f"{server['name']} {server['version']}, {', '.join(server['extensions'])}; unknown: {unknown}"

    def configuration(target: Target) -> str:
        """the model's configuration, as Triton's"""
        told = door(target).asked("get_model_config", target.model)
        told = told.get("config", told)
        assert told["max_batch_size"] > 0, told
        assert told["input"][0]["data_type"] == f"TYPE_{target.datatype}", told["input"]
        return f"max_batch_size {told['max_batch_size']}, {told['input'][0]['data_type']} {told['input'][0]['dims']}"

    def repository_index(target: Target) -> str:
        """every version, with its state"""
        told = door(target).index()
        states = {entry["version"]: entry["state"] for entry in told if entry["name"] == target.model}
        assert sorted(states) == sorted(target.variants), states
        assert set(states.values()) == {"READY"}, states
        return f"{len(told)} entries; {target.model}: all READY"

    def inference(target: Target) -> str:
        """a batch of rows, by the variant that the server chooses; label, scores and class"""
        rows, speak = target.rows(), door(target)
        result = speak.infer(rows, outputs=speak.outputs("label", "scores", "class"))
        labels, scores, names = (result.as_numpy(name) for name in ("label", "scores", "class"))
        assert labels.shape == (len(rows),), labels.shape
        assert scores.shape == (len(rows), len(target.classes)), scores.shape
        assert np.allclose(scores.sum(axis=1), 1, atol=1e-5), scores.sum(axis=1)
        assert [name.decode() for name in names] == [target.classes[label] for label in labels]
        return f"{len(rows)} rows answered by {speak.response(result)['model_version']}"

    def a_pinned_version(target: Target) -> str:
        """each version by name; it answers and no other; rows together as rows alone"""
        speak, rows = door(target), target.rows(4)
        for variant in target.variants:
            result = speak.infer(rows, model_version=variant)
            assert speak.response(result)["model_version"] == variant, variant
            alone = [speak.infer(rows[i : i + 1], model_version=variant).as_numpy("scores") for i in range(4)]
            same(result.as_numpy("scores"), np.concatenate(alone), variant)
        return f"{', '.join(target.variants)}: each answered, the same for rows alone and together"

    def request_id(target: Target) -> str:
        """the id that was sent comes back"""
        speak = door(target)
        told = speak.response(speak.infer(target.rows(1), request_id="outside-7"))
        assert told["id"] == "outside-7", told
        return f"id {told['id']}"

    def classification(target: Target) -> str:
        """class_count 3: the three best classes in words, the best first, as the scores say"""
        speak, rows = door(target), target.rows()
        options = {"model_version": target.pinned}
        words = speak.infer(rows, outputs=speak.outputs("scores", top=3), **options).as_numpy("scores")
        scores = speak.infer(rows, outputs=speak.outputs("scores"), **options).as_numpy("scores")
        assert words.shape == (len(rows), 3), words.shape
        for told, row in zip(words, scores, strict=True):
            for text, index in zip(told, np.argsort(-row, kind="stable"), strict=False):
                value, number, name = text.decode().split(":", 2)
                assert abs(float(value) - row[int(number)]) < 1e-5, (text, row)
                assert abs(row[int(number)] - row[index]) < 1e-6, (text, row)
                assert name == target.classes[int(number)], text
        return f"first row: {', '.join(text.decode() for text in words[0])}"

    def parameters(target: Target) -> str:
        """timeout, priority 1 and 2, parameters of one's own; answered"""
        speak, rows = door(target), target.rows(1)
        for more in ({"priority": 1}, {"priority": 2}, {"parameters": {"mine": "x", "deadline_ms": 4000.0}}):
            speak.infer(rows, **more)
        told = speak.response(speak.infer(rows, priority=1, timeout=2_000_000))["parameters"]
        assert "slack_us" in told, told
        return f"answer's parameters: {', '.join(sorted(told))}"

    def a_deadline_that_nothing_meets(target: Target) -> str:
        """timeout of 1 µs, dearest version: refused as 503 or 504, and the server goes on"""
        speak, rows = door(target), target.rows(1)
        told = refused(
            lambda: speak.infer(rows, timeout=1, model_version=target.dearest),
            *("503", "504", "UNAVAILABLE", "DEADLINE_EXCEEDED"),
        )
        speak.infer(rows)
        return told

    def bad_requests(target: Target) -> str:
        """a wrong name, shape, datatype, output, model: told as the client's fault"""
        speak, rows = door(target), target.rows(2)
        flat = rows.reshape(len(rows), -1)[:, 1:]
        module = over_http if speak.name == "http" else over_grpc
        misnamed = module.InferInput("no-such-input", list(rows.shape), target.datatype)
        misnamed.set_data_from_numpy(rows)
        wide = module.InferInput(target.input, list(rows.shape), "FP64")
        wide.set_data_from_numpy(rows.astype(np.float64))
        fault = ("400", "INVALID_ARGUMENT")
        told = [
            refused(lambda: speak.infer(flat), *fault),
            refused(lambda: speak.client.infer(target.model, [misnamed]), *fault),
            refused(lambda: speak.infer(rows, outputs=speak.outputs("no-such-output")), *fault),
            refused(lambda: speak.client.infer("no-such-model", [misnamed]), "404", "NOT_FOUND"),
            refused(lambda: speak.infer(rows, model_version="99"), "404", "NOT_FOUND"),
        ]
        # Doubles for a float input: narrowing them is as good as refusing them.
        refusal(lambda: speak.client.infer(target.model, [wide], timeout=AMPLE_US), *fault)
        return told[0]

    def statistics(target: Target) -> str:
        """seven requests more: seven successes more"""
        speak = door(target)

        def successes() -> int:
            (told,) = speak.asked("get_inference_statistics", target.model)["model_stats"]
            return int(told["inference_stats"]["success"].get("count", 0))

        before = successes()
        for _ in range(7):
            speak.infer(target.rows(1))
        after = successes()
        assert after - before == 7, f"{before} before, {after} after"
        return f"{after} successes, 7 more than before"

    def load_and_unload(target: Target) -> str:
        """unload: gone from the ready ones, infer is refused; load: ready and answering again"""
        speak, rows = door(target), target.rows(1)
        try:
            speak.client.unload_model(target.model)
            states = {e.get("state", "") for e in speak.index() if e["name"] == target.model}
            assert "READY" not in states, f"the index after unload: {sorted(states)}"
            assert not speak.client.is_model_ready(target.model), "still ready after unload"
            told = refused(lambda: speak.infer(rows), "400", "404", "503", "UNAVAILABLE", "NOT_FOUND")
        finally:
            speak.client.load_model(target.model)
        states = {e.get("state", "") for e in speak.index() if e["name"] == target.model}
        assert states == {"READY"}, f"the index after load: {sorted(states)}"
        assert speak.client.is_model_ready(target.model)
        speak.infer(rows)
        refused(
            lambda: speak.client.load_model("no-such-model"), "400", "404", "NOT_FOUND", "INVALID_ARGUMENT"
        )
        return f"unloaded: {told}; loaded again: READY, answers"

    def load_with_files(target: Target) -> str:
        """load with another application.yaml and a model: checked, profiled, swapped in; then the old one again"""
        text = (Path(target.folder) / "application.yaml").read_text()
        model = re.search(r"model: (\S+\.onnx)", text)
        deadline = re.search(r"^deadline: (\d+)ms", text, re.M)
        assert model is not None, "no ONNX model in application.yaml"
        assert deadline is not None, "no deadline in ms in application.yaml"
        files = {f"file:{model[1]}": (Path(target.folder) / model[1]).read_bytes()}
        speak, seen = door(target, patience_s=300), []
        for ms in (int(deadline[1]) + 5, int(deadline[1])):
            config = text.replace(deadline[0], f"deadline: {ms}ms", 1)
            speak.client.load_model(target.model, config=config, files=files)
            told = Http(target).asked("get_model_metadata", target.model)["properties"]
            assert f"{ms}" in {v for k, v in told.items() if k.startswith("deadline_ms")}, told
            speak.infer(target.rows(1))
            seen.append(f"{ms} ms")
        return f"deadlines {', '.join(seen)}"

    return [
        health, metadata, configuration, repository_index, inference, a_pinned_version, request_id, classification,
        parameters, a_deadline_that_nothing_meets, bad_requests, statistics, load_and_unload, load_with_files,
    ]  # fmt: skip


def json_and_binary(target: Target) -> str:
    """inputs and outputs as JSON and as bytes, in all four pairs: the same scores"""
    speak, rows, told = Http(target), target.rows(), []
    for sent in (False, True):
        for back in (False, True):
            result = speak.infer(
                rows, sent, model_version=target.pinned, outputs=speak.outputs("scores", "class", binary=back)
            )
            told.append(result.as_numpy("scores"))
    for scores in told[1:]:
        same(told[0], scores, "JSON and binary")
    return f"4 x {told[0].shape}, equal to 1e-5"


def a_body_of_its_own(target: Target) -> str:
    """generate_request_body sent by urllib, the answer read by parse_response_body"""
    speak = Http(target)
    client = over_http.InferenceServerClient
    body, header = client.generate_request_body(speak.inputs(target.rows(2)), timeout=AMPLE_US)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(header)}
    asked = urllib.request.Request(f"http://{target.http}/v2/models/{target.model}/infer", body, headers)
    with urllib.request.urlopen(asked, timeout=20) as answer:
        length = answer.headers["Inference-Header-Content-Length"]
        result = client.parse_response_body(answer.read(), header_length=int(length))
    assert result.as_numpy("label").shape == (2,)
    return f"{header} bytes of JSON, {len(body) - header} of tensors; back {length} bytes of JSON"


def async_infer(target: Target) -> str:
    """sixteen at once by async_infer"""
    speak, rows = Http(target), target.rows(16)
    asked = [
        speak.client.async_infer(target.model, speak.inputs(rows[i : i + 1]), timeout=AMPLE_US)
        for i in range(len(rows))
    ]
    labels = [result.get_result().as_numpy("label") for result in asked]
    assert all(label.shape == (1,) for label in labels)
    return f"{len(labels)} answered"


def awaited(target: Target) -> str:
    """tritonclient.http.aio: sixteen at once"""
    return asyncio.run(_gathered(http_aio, Http(target), target.http))


def grpc_awaited(target: Target) -> str:
    """tritonclient.grpc.aio: sixteen at once"""
    return asyncio.run(_gathered(grpc_aio, Grpc(target), target.grpc))


async def _gathered(module: Any, speak: Http, address: str) -> str:
    model, rows = speak.target.model, speak.target.rows(16)
    async with module.InferenceServerClient(address) as client:
        assert await client.is_model_ready(model)
        told = await asyncio.gather(
            *(client.infer(model, speak.inputs(rows[i : i + 1]), timeout=AMPLE_US) for i in range(16))
        )
    assert all(result.as_numpy("label").shape == (1,) for result in told)
    return f"{len(told)} answered"


def compression(target: Target) -> str:
    """asks for a compressed answer: may come plain; a compressed request: read, or refused as 415"""
    speak, rows = Http(target), target.rows(2)
    speak.infer(rows, response_compression_algorithm="gzip")
    return refusal(lambda: speak.infer(rows, request_compression_algorithm="gzip"), "415") or "read"


def typed_contents(target: Target) -> str:
    """the stub of tritonclient with typed contents, and with raw ones: each gets back its own kind, the same"""
    import grpc

    rows, told = target.rows(3), []
    with grpc.insecure_channel(target.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for raw in (False, True):
            asked = service_pb2.ModelInferRequest(model_name=target.model, model_version=target.pinned)
            asked.parameters["timeout"].int64_param = AMPLE_US
            tensor = asked.inputs.add(name=target.input, datatype=target.datatype, shape=rows.shape)
            asked.outputs.add(name="scores")
            if raw:
                asked.raw_input_contents.append(rows.tobytes())
            else:
                assert target.datatype == "FP32", target.datatype
                tensor.contents.fp32_contents.extend(rows.ravel().tolist())
            answer = stub.ModelInfer(asked, timeout=20)
            assert bool(answer.raw_output_contents) == raw
            flat = (
                np.frombuffer(answer.raw_output_contents[0], np.float32)
                if raw
                else np.array(answer.outputs[0].contents.fp32_contents, np.float32)
            )
            told.append(flat.reshape(tuple(answer.outputs[0].shape)))
    same(told[0], told[1], "typed and raw")
    return f"{told[0].shape} typed, {told[1].shape} raw, equal"


def async_infer_with_callbacks(target: Target) -> str:
    """sixteen at once by async_infer with callbacks"""
    speak, rows = Grpc(target), target.rows(16)
    done, told = threading.Event(), []

    def heard(result: Any, error: Any) -> None:
        told.append(error or result)
        if len(told) == len(rows):
            done.set()

    for i in range(len(rows)):
        speak.client.async_infer(target.model, speak.inputs(rows[i : i + 1]), heard, timeout=AMPLE_US)
    assert done.wait(30), f"{len(told)} of {len(rows)} answered"
    wrong = [str(answer) for answer in told if isinstance(answer, Exception)]
    assert not wrong, wrong[:1]
    return f"{len(told)} answered"


def client_timeout(target: Target) -> str:
    """client_timeout is the call's deadline: 20 s answered, 1 ms ended by either side, and the server goes on"""
    speak, rows = Grpc(target), target.rows(12)
    speak.infer(rows, client_timeout=20)
    told = refused(
        lambda: speak.infer(rows, client_timeout=0.001, model_version=target.dearest),
        *("DEADLINE_EXCEEDED", "UNAVAILABLE"),
    )
    speak.infer(rows)
    return told


def what_is_not_offered(target: Target) -> str:
    """shared memory, log settings, a stream of inferences: refused in words, not by silence"""
    client = Grpc(target).client
    told = [
        refused(lambda: client.get_system_shared_memory_status(), "UNIMPLEMENTED"),
        refused(lambda: client.get_log_settings(), "UNIMPLEMENTED"),
    ]
    over = Http(target).client
    told.append(refused(lambda: over.get_system_shared_memory_status(), "404", "501"))
    return "; ".join(dict.fromkeys(told))


HTTP = both(Http)
GRPC = both(Grpc)
# What loads and unloads comes last: what would follow a failure of it would fail, too.
CHECKS = {
    "http": [*HTTP[:-2], json_and_binary, a_body_of_its_own, async_infer, awaited, compression, *HTTP[-2:]],
    "grpc": [
        *GRPC[:-2],
        typed_contents,
        async_infer_with_callbacks,
        grpc_awaited,
        client_timeout,
        what_is_not_offered,
        *GRPC[-2:],
    ],
}

if __name__ == "__main__":
    main(CHECKS)
