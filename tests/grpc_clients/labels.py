"""Triton's client as it is, naming versions by their labels: ``labels.py ADDRESS LABEL NUMBER VALUE``."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tritonclient.grpc as triton

MODEL = "city"


def main(address: str, label: str, number: str, value: float) -> None:
    with triton.InferenceServerClient(address) as client:
        assert client.is_model_ready(MODEL, label)
        metadata = client.get_model_metadata(MODEL, label)
        tensor = triton.InferInput(metadata.inputs[0].name, [1, 1], "FP64")
        tensor.set_data_from_numpy(np.ones((1, 1)))
        answer = client.infer(MODEL, [tensor], model_version=label)
        assert answer.get_response().model_version == number, answer.get_response()
        assert answer.as_numpy(metadata.outputs[0].name).ravel()[0] == value
        rows = client.get_inference_statistics(MODEL, label).model_stats
        assert [row.version for row in rows] == [number]
        with pytest.raises(triton.InferenceServerException) as refused:
            client.infer(MODEL, [tensor], model_version="nothing")
        assert refused.value.status() == "StatusCode.NOT_FOUND"
        assert f"'{MODEL}' version nothing is not found" in str(refused.value)
        assert f"{label}: {number}" in str(refused.value)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
