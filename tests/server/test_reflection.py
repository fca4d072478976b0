"""What the gRPC door says of itself: reflection to its own library's client, and health to those who watch it."""

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from tritonclient.grpc import service_pb2

from peekserve.server import oip
from peekserve.server.oip import HEALTH_SERVICE, SERVICE, Door
from peekserve.server.oip_messages import HEALTH_V1, MESSAGES, OIP
from tests.server.scripted import Doors, ScriptedBackend
from tests.server.test_clients import Serving
from tests.server.test_doors import Context, Details, Hung


@pytest.mark.whole
def test_a_client_that_knows_nothing_finds_and_calls_everything():
    with Serving(ScriptedBackend()).running() as serving, grpc.insecure_channel(serving.grpc) as channel:
        found = ProtoReflectionDescriptorDatabase(channel)
        services = set(found.get_services())
        assert {SERVICE, HEALTH_SERVICE} < services
        pool = DescriptorPool(found)
        methods = {
            method.name: method for name in services for method in pool.FindServiceByName(name).methods
        }
        assert methods["Watch"].server_streaming
        asked, answered = (
            message_factory.GetMessageClass(kind)
            for kind in (methods["ModelMetadata"].input_type, methods["ModelMetadata"].output_type)
        )
        call = channel.unary_unary(f"/{SERVICE}/ModelMetadata", asked.SerializeToString, answered.FromString)
        assert list(call(asked(name="plain"), timeout=10).versions) == ["small", "large"]


@pytest.mark.whole
@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_of_reflection_answer(version):
    with Serving(ScriptedBackend()).running() as serving, grpc.insecure_channel(serving.grpc) as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            ServerReflectionRequest.SerializeToString,
            ServerReflectionResponse.FromString,
        )
        questions = [
            ServerReflectionRequest(file_containing_symbol=SERVICE),
            ServerReflectionRequest(file_containing_symbol="no.such.Thing"),
        ]
        file, nothing = ask(iter(questions), timeout=10)
        assert len(file.file_descriptor_response.file_descriptor_proto) == 1
        assert nothing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_every_field_has_the_number_and_type_that_tritonclient_knows():
    theirs = service_pb2.DESCRIPTOR.pool
    for name in MESSAGES:
        ours = OIP[name].DESCRIPTOR
        other = theirs.FindMessageTypeByName(f"inference.{name}")
        for field in ours.fields:
            if (name, field.name) == ("ModelMetadataResponse", "properties"):
                continue  # the protocol's, and not Triton's
            known = other.fields_by_name[field.name]
            assert (known.number, known.type) == (field.number, field.type), f"{name}.{field.name}"
    file = OIP["ModelInferRequest"].DESCRIPTOR.file
    here, there = (
        {method.name for method in told.services_by_name["GRPCInferenceService"].methods}
        for told in (file, service_pb2.DESCRIPTOR)
    )
    assert here <= there


def watching(door: Door, service: str = ""):
    message = HEALTH_V1["HealthCheckRequest"](service=service).SerializeToString()
    context = Context()
    for handler in door.handlers():
        found = handler.service(Details(f"/{HEALTH_SERVICE}/Watch"))
        if found is not None:
            return found.unary_stream(message, context), context
    raise LookupError


async def states(stream, many: int) -> list[int]:
    told = []
    async for content in stream:
        told.append(HEALTH_V1["HealthCheckResponse"].FromString(content).status)
        if len(told) == many:
            break
    return told


def a_door(most_watching: int = 9) -> tuple[Doors, Door]:
    doors = Doors(ScriptedBackend())
    return doors, Door(doors.desk, doors.accounts, doors.descriptions, 0.001, most_watching)


async def test_who_watches_is_told_of_every_change_and_of_the_end():
    doors, door = a_door()
    stream, _ = watching(door, SERVICE)
    assert await states(stream, 1) == [oip.SERVING]
    doors.backend.up = False
    assert await states(stream, 1) == [oip.NOT_SERVING]
    doors.backend.up = True
    assert await states(stream, 1) == [oip.SERVING]
    door.close()
    assert await states(stream, 9) == [oip.NOT_SERVING]


async def test_a_service_that_is_not_here_is_unknown_and_stays_watched():
    _, door = a_door()
    stream, _ = watching(door, "other")
    assert await states(stream, 1) == [oip.SERVICE_UNKNOWN]
    door.close()
    assert await states(stream, 9) == []


async def test_only_so_many_may_watch_and_who_goes_makes_room():
    _, door = a_door(most_watching=1)
    first, _ = watching(door)
    assert await states(first, 1) == [oip.SERVING]
    second, context = watching(door)
    with pytest.raises(Hung):
        await states(second, 1)
    assert context.ended[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    await first.aclose()
    third, _ = watching(door)
    assert await states(third, 1) == [oip.SERVING]


@pytest.mark.whole
def test_a_client_that_watches_holds_up_nobody_who_wants_to_stop():
    asked = HEALTH_V1["HealthCheckRequest"]()
    with Serving(ScriptedBackend()).running() as serving, grpc.insecure_channel(serving.grpc) as channel:
        watch = channel.unary_stream(
            f"/{HEALTH_SERVICE}/Watch",
            HEALTH_V1["HealthCheckRequest"].SerializeToString,
            HEALTH_V1["HealthCheckResponse"].FromString,
        )
        stream = watch(asked, timeout=30)
        assert next(stream).status == oip.SERVING
        serving.stop()
        assert [told.status for told in stream] == [oip.NOT_SERVING]
