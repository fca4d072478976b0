"""gRPC's server reflection: which services there are, and their messages, for clients such as grpcurl.

The library's servicer reads the private pool of oip_messages.py. `v1` has the same messages as `v1alpha`, the one that
the library knows; clients ask for one or the other.
"""

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, json_format
from grpc_reflection.v1alpha import reflection, reflection_pb2

from peekserve.server.oip_messages import POOL

_VERSIONS = ("v1alpha", "v1")
_METHOD = "ServerReflectionInfo"


def reflection_handlers(services: Sequence[str]) -> tuple[Any, ...]:
    """Handlers of both versions, which tell of `services` (full names, in POOL) and of themselves."""
    names = tuple(f"grpc.reflection.{version}.ServerReflection" for version in _VERSIONS)
    servicer = reflection.aio.ReflectionServicer((*services, *names), pool=POOL)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return tuple(grpc.method_handlers_generic_handler(name, {_METHOD: handler}) for name in names)


def _add_own_messages() -> None:
    """Reflection's own services to the pool: a client that lists them wants to read them too."""
    file = descriptor_pb2.FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    written = json_format.MessageToJson(file)
    for version in _VERSIONS:
        renamed = written.replace(file.package, f"grpc.reflection.{version}")
        own = json_format.Parse(renamed, descriptor_pb2.FileDescriptorProto())
        own.name = f"{own.package}.proto"
        POOL.Add(own)


_add_own_messages()
