"""The Open Inference Protocol over gRPC, as it is on the wire: what Triton's clients and KServe's send and expect.

Facts alone. Where the two differ, both are here: KServe's field 1 of a load or an unload is the model, Triton's the
repository; and KServe's answers to them have fields that Triton's clients do not look at. Of a model's configuration only
what this server fills is described.
"""

from __future__ import annotations

from typing import Final

from hotset.messages.describing import BOTH, Description, Method

SERVICE: Final = "inference.GRPCInferenceService"

_VERSIONED: Final = ("1 name string", "2 version string")
_TENSOR: Final = ("1 name string", "2 datatype string", "3 shape int64*")
_DATA: Final = (*_TENSOR, "4 parameters {InferParameter}", "5 contents InferTensorContents")
_HEAD: Final = (
    "1 model_name string",
    "2 model_version string",
    "3 id string",
    "4 parameters {InferParameter}",
)
_DURATIONS: Final = (
    "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
)  # fmt: skip
_TYPES: Final = (
    "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "STRING", "BF16",
)  # fmt: skip
_REPOSITORY: Final = (
    "1 repository_name string",
    "2 model_name string",
    "3 parameters {ModelRepositoryParameter}",
)

DESCRIPTION: Final = Description(
    file="hotset/open_inference.proto",
    package="inference",
    messages={
        "ServerLiveRequest": (),
        "ServerLiveResponse": ("1 live bool",),
        "ServerReadyRequest": (),
        "ServerReadyResponse": ("1 ready bool",),
        "ModelReadyRequest": _VERSIONED,
        "ModelReadyResponse": ("1 ready bool",),
        "ServerMetadataRequest": (),
        "ServerMetadataResponse": ("1 name string", "2 version string", "3 extensions string*"),
        "ModelMetadataRequest": _VERSIONED,
        "ModelMetadataResponse": (
            "1 name string",
            "2 versions string*",
            "3 platform string",
            "4 inputs ModelMetadataResponse.TensorMetadata*",
            "5 outputs ModelMetadataResponse.TensorMetadata*",
        ),
        "ModelMetadataResponse.TensorMetadata": _TENSOR,
        "InferParameter": (
            "1 bool_param bool|parameter_choice",
            "2 int64_param int64|parameter_choice",
            "3 string_param string|parameter_choice",
            "4 double_param double|parameter_choice",
            "5 uint64_param uint64|parameter_choice",
        ),
        "InferTensorContents": (
            "1 bool_contents bool*",
            "2 int_contents int32*",
            "3 int64_contents int64*",
            "4 uint_contents uint32*",
            "5 uint64_contents uint64*",
            "6 fp32_contents float*",
            "7 fp64_contents double*",
            "8 bytes_contents bytes*",
        ),
        "ModelInferRequest": (
            *_HEAD,
            "5 inputs ModelInferRequest.InferInputTensor*",
            "6 outputs ModelInferRequest.InferRequestedOutputTensor*",
            "7 raw_input_contents bytes*",
        ),
        "ModelInferRequest.InferInputTensor": _DATA,
        "ModelInferRequest.InferRequestedOutputTensor": ("1 name string", "2 parameters {InferParameter}"),
        "ModelInferResponse": (
            *_HEAD,
            "5 outputs ModelInferResponse.InferOutputTensor*",
            "6 raw_output_contents bytes*",
        ),
        "ModelInferResponse.InferOutputTensor": _DATA,
        "ModelStreamInferResponse": ("1 error_message string", "2 infer_response ModelInferResponse"),
        "ModelConfigRequest": _VERSIONED,
        "ModelConfigResponse": ("1 config ModelConfig",),
        "ModelConfig": (
            "1 name string",
            "2 platform string",
            "3 version_policy ModelVersionPolicy",
            "4 max_batch_size int32",
            "5 input ModelInput*",
            "6 output ModelOutput*",
            "17 backend string",
            "19 model_transaction_policy ModelTransactionPolicy",
        ),
        "ModelTransactionPolicy": ("1 decoupled bool",),
        "ModelVersionPolicy": (
            "1 latest ModelVersionPolicy.Latest|policy_choice",
            "2 all ModelVersionPolicy.All|policy_choice",
        ),
        "ModelVersionPolicy.Latest": ("1 num_versions uint32",),
        "ModelVersionPolicy.All": (),
        "ModelInput": ("1 name string", "2 data_type DataType", "4 dims int64*"),
        "ModelOutput": ("1 name string", "2 data_type DataType", "3 dims int64*"),
        "ModelStatisticsRequest": _VERSIONED,
        "ModelStatisticsResponse": ("1 model_stats ModelStatistics*",),
        "ModelStatistics": (
            "1 name string",
            "2 version string",
            "3 last_inference uint64",
            "4 inference_count uint64",
            "5 execution_count uint64",
            "6 inference_stats InferStatistics",
            "7 batch_stats InferBatchStatistics*",
            "8 memory_usage MemoryUsage*",
        ),
        "StatisticDuration": ("1 count uint64", "2 ns uint64"),
        "InferStatistics": tuple(
            f"{number} {name} StatisticDuration" for number, name in enumerate(_DURATIONS, 1)
        ),
        "InferBatchStatistics": (
            "1 batch_size uint64",
            "2 compute_input StatisticDuration",
            "3 compute_infer StatisticDuration",
            "4 compute_output StatisticDuration",
        ),
        "MemoryUsage": ("1 type string", "2 id int64", "3 byte_size uint64"),
        "ModelRepositoryParameter": (
            "1 bool_param bool|parameter_choice",
            "2 int64_param int64|parameter_choice",
            "3 string_param string|parameter_choice",
            "4 bytes_param bytes|parameter_choice",
        ),
        "RepositoryIndexRequest": ("1 repository_name string", "2 ready bool"),
        "RepositoryIndexResponse": ("1 models RepositoryIndexResponse.ModelIndex*",),
        "RepositoryIndexResponse.ModelIndex": (*_VERSIONED, "3 state string", "4 reason string"),
        "RepositoryModelLoadRequest": _REPOSITORY,
        "RepositoryModelLoadResponse": ("1 model_name string", "2 isLoaded bool"),
        "RepositoryModelUnloadRequest": _REPOSITORY,
        "RepositoryModelUnloadResponse": ("1 model_name string", "2 isUnloaded bool"),
    },
    enums={"DataType": tuple(f"TYPE_{name}" for name in _TYPES)},
    services={
        "GRPCInferenceService": {
            "ServerLive": Method("ServerLiveRequest", "ServerLiveResponse"),
            "ServerReady": Method("ServerReadyRequest", "ServerReadyResponse"),
            "ModelReady": Method("ModelReadyRequest", "ModelReadyResponse"),
            "ServerMetadata": Method("ServerMetadataRequest", "ServerMetadataResponse"),
            "ModelMetadata": Method("ModelMetadataRequest", "ModelMetadataResponse"),
            "ModelInfer": Method("ModelInferRequest", "ModelInferResponse"),
            "ModelStreamInfer": Method("ModelInferRequest", "ModelStreamInferResponse", BOTH),
            "ModelConfig": Method("ModelConfigRequest", "ModelConfigResponse"),
            "ModelStatistics": Method("ModelStatisticsRequest", "ModelStatisticsResponse"),
            "RepositoryIndex": Method("RepositoryIndexRequest", "RepositoryIndexResponse"),
            "RepositoryModelLoad": Method("RepositoryModelLoadRequest", "RepositoryModelLoadResponse"),
            "RepositoryModelUnload": Method("RepositoryModelUnloadRequest", "RepositoryModelUnloadResponse"),
        }
    },
)

NOT_SERVED: Final = (
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
)
"""Triton's other methods, which are answered as unimplemented, with a reason."""
