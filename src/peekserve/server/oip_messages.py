"""The protocol's gRPC messages, in a descriptor pool of our own.

The names are those of the Open Inference Protocol (package `inference`), with Triton's numbers for
configuration, statistics and repository, which the official file lacks. A private pool lets clients that
register the same names in the default one (tritonclient, kserve) live in the same process.

Each message is a line of fields, `name:type=number`. A type ending in `*` is repeated, in `{}` a map from
strings, and fields written with `|` before the name share the message's one choice.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"

_PARAMETERS = "parameters:InferParameter{}"
_NAMED = "name:string=1 version:string=2"
_CONTROL = "repository_name:string=1 model_name:string=2 parameters:ModelRepositoryParameter{}=3"

MESSAGES: dict[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool=1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool=1",
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": "ready:bool=1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string=1 version:string=2 extensions:string*=3",
    "ModelMetadataRequest": _NAMED,
    "ModelMetadataResponse": "name:string=1 versions:string*=2 platform:string=3 "
    "inputs:ModelMetadataResponse.TensorMetadata*=4 outputs:ModelMetadataResponse.TensorMetadata*=5 "
    "properties:string{}=6",
    "ModelMetadataResponse.TensorMetadata": "name:string=1 datatype:string=2 shape:int64*=3",
    "InferParameter": "|bool_param:bool=1 |int64_param:int64=2 |string_param:string=3 |double_param:double=4 "
    "|uint64_param:uint64=5",
    "InferTensorContents": "bool_contents:bool*=1 int_contents:int32*=2 int64_contents:int64*=3 "
    "uint_contents:uint32*=4 uint64_contents:uint64*=5 fp32_contents:float*=6 fp64_contents:double*=7 "
    "bytes_contents:bytes*=8",
    "ModelInferRequest": f"model_name:string=1 model_version:string=2 id:string=3 {_PARAMETERS}=4 "
    "inputs:ModelInferRequest.InferInputTensor*=5 outputs:ModelInferRequest.InferRequestedOutputTensor*=6 "
    "raw_input_contents:bytes*=7",
    "ModelInferRequest.InferInputTensor": f"name:string=1 datatype:string=2 shape:int64*=3 {_PARAMETERS}=4 "
    "contents:InferTensorContents=5",
    "ModelInferRequest.InferRequestedOutputTensor": f"name:string=1 {_PARAMETERS}=2",
    "ModelInferResponse": f"model_name:string=1 model_version:string=2 id:string=3 {_PARAMETERS}=4 "
    "outputs:ModelInferResponse.InferOutputTensor*=5 raw_output_contents:bytes*=6",
    "ModelInferResponse.InferOutputTensor": f"name:string=1 datatype:string=2 shape:int64*=3 {_PARAMETERS}=4 "
    "contents:InferTensorContents=5",
    "ModelConfigRequest": _NAMED,
    "ModelConfigResponse": "config:ModelConfig=1",
    "ModelTensorReshape": "shape:int64*=1",
    "ModelInput": "name:string=1 data_type:DataType=2 dims:int64*=4 reshape:ModelTensorReshape=5 optional:bool=8",
    "ModelOutput": "name:string=1 data_type:DataType=2 dims:int64*=3 label_filename:string=4 "
    "reshape:ModelTensorReshape=5",
    "ModelVersionPolicy": "|all:ModelVersionPolicy.All=2",
    "ModelVersionPolicy.All": "",
    "ModelConfig": "name:string=1 platform:string=2 version_policy:ModelVersionPolicy=3 max_batch_size:int32=4 "
    "input:ModelInput*=5 output:ModelOutput*=6 backend:string=17",
    "ModelStatisticsRequest": _NAMED,
    "ModelStatisticsResponse": "model_stats:ModelStatistics*=1",
    "StatisticDuration": "count:uint64=1 ns:uint64=2",
    "InferStatistics": "success:StatisticDuration=1 fail:StatisticDuration=2 queue:StatisticDuration=3 "
    "compute_input:StatisticDuration=4 compute_infer:StatisticDuration=5 compute_output:StatisticDuration=6 "
    "cache_hit:StatisticDuration=7 cache_miss:StatisticDuration=8",
    "InferBatchStatistics": "batch_size:uint64=1 compute_input:StatisticDuration=2 "
    "compute_infer:StatisticDuration=3 compute_output:StatisticDuration=4",
    "ModelStatistics": "name:string=1 version:string=2 last_inference:uint64=3 inference_count:uint64=4 "
    "execution_count:uint64=5 inference_stats:InferStatistics=6 batch_stats:InferBatchStatistics*=7",
    "RepositoryIndexRequest": "repository_name:string=1 ready:bool=2",
    "RepositoryIndexResponse": "models:RepositoryIndexResponse.ModelIndex*=1",
    "RepositoryIndexResponse.ModelIndex": "name:string=1 version:string=2 state:string=3 reason:string=4",
    "ModelRepositoryParameter": "|bool_param:bool=1 |int64_param:int64=2 |string_param:string=3 |bytes_param:bytes=4",
    "RepositoryModelLoadRequest": _CONTROL,
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": _CONTROL,
    "RepositoryModelUnloadResponse": "",
}

# Triton's model_config.proto; numbered in this order from 0.
DATA_TYPES = "INVALID BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING BF16"

# Of grpc.health.v1, kept in the same private pool: two messages are no reason for a package.
HEALTH = {"HealthCheckRequest": "service:string=1", "HealthCheckResponse": "status:ServingStatus=1"}
HEALTH_STATES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")

SERVICE = "GRPCInferenceService"
# Of each service its methods, each with what it takes and gives, and whether its answers are a stream: for reflection.
SERVICES = {
    SERVICE: [
        (name.removesuffix("Request"), name, name.removesuffix("Request") + "Response", False)
        for name in MESSAGES
        if name.endswith("Request")
    ]
}
HEALTH_SERVICES = {
    "Health": [
        ("Check", "HealthCheckRequest", "HealthCheckResponse", False),
        ("Watch", "HealthCheckRequest", "HealthCheckResponse", True),
    ]
}

_Field = descriptor_pb2.FieldDescriptorProto


def build(
    pool: descriptor_pool.DescriptorPool,
    package: str,
    messages: dict[str, str],
    enums: dict[str, list[str]],
    services: dict[str, list[tuple[str, str, str, bool]]],
) -> dict[str, Any]:
    """Message classes by name. `enums`: their values' names, numbered from 0. `services`: as SERVICES."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, values in enums.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    made: dict[str, Any] = {}
    for name, fields in messages.items():
        outer, _, inner = name.rpartition(".")
        message = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=inner)
        made[name] = message
        for text in fields.split():
            _add_field(message, f".{package}", name, text, enums)
    for name, methods in services.items():
        service = file.service.add(name=name)
        for method, asked, answered, streams in methods:
            service.method.add(
                name=method,
                input_type=f".{package}.{asked}",
                output_type=f".{package}.{answered}",
                server_streaming=streams,
            )
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


def _add_field(message: Any, package: str, owner: str, text: str, enums: dict[str, list[str]]) -> None:
    name, _, rest = text.lstrip("|").partition(":")
    kind, _, number = rest.partition("=")
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if kind.endswith(("*", "{}")):
        field.label = _Field.LABEL_REPEATED
    if kind.endswith("{}"):
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add_field(entry, package, owner, "key:string=1", enums)
        _add_field(entry, package, owner, f"value:{kind[:-2]}=2", enums)
        field.type, field.type_name = _Field.TYPE_MESSAGE, f"{package}.{owner}.{entry.name}"
        return
    kind = kind.rstrip("*")
    scalar = getattr(_Field, f"TYPE_{kind.upper()}", None)
    if scalar is not None:
        field.type = scalar
    else:
        field.type = _Field.TYPE_ENUM if kind in enums else _Field.TYPE_MESSAGE
        field.type_name = f"{package}.{kind}"
    if text.startswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name=f"{owner.rpartition('.')[2].removeprefix('Infer').lower()}_choice")
        field.oneof_index = 0


POOL = descriptor_pool.DescriptorPool()
OIP = build(POOL, PACKAGE, MESSAGES, {"DataType": [f"TYPE_{name}" for name in DATA_TYPES.split()]}, SERVICES)
HEALTH_V1 = build(POOL, "grpc.health.v1", HEALTH, {"ServingStatus": list(HEALTH_STATES)}, HEALTH_SERVICES)
