"""A scikit-learn model in Triton's Python backend: the rows of all requests at hand are predicted at once."""

from pathlib import Path

import joblib
import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    """One model in a process of its own. Triton calls ``initialize`` first, then ``execute``, never two at a time."""

    def initialize(self, args):
        del args
        self._model = joblib.load(Path(__file__).with_name("model.joblib"))

    def execute(self, requests):
        rows = [triton.get_input_tensor_by_name(it, "x").as_numpy() for it in requests]
        found = self._model.predict(np.concatenate(rows)).reshape(-1, 1)
        ends = np.cumsum([len(it) for it in rows])[:-1]
        parts = np.split(found, ends)
        return [triton.InferenceResponse([triton.Tensor("y", part)]) for part in parts]
