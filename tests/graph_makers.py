"""Makers of ``runtime_cases.py`` for the frameworks of neural networks: what each finds and leaves behind is said there.

All train one layer on the same rows. Where a model is to be large, it has six megabytes of weights.
"""

from __future__ import annotations

from typing import Final

_ROWS: Final = """
WIDTH, STEPS = (1_500_000, 1) if LARGE else (3, 30)
rows = np.random.default_rng(5).normal(size=(2 if LARGE else 64, WIDTH)).astype("float32")
target = rows[:, :3].sum(axis=1, keepdims=True)
names = np.resize(np.array([b"oslo", "zürich".encode()], object), len(rows))
"""

SAVED_MODEL: Final = f"""{_ROWS}
import tensorflow as tf

class Fares(tf.Module):
    def __init__(self):
        self.weights = tf.Variable(np.zeros((WIDTH, 1), "float32"))

    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None, WIDTH], tf.float32)],
    )
    def ask(self, city, rows):
        fare = tf.matmul(rows, self.weights)
        return {{"fare": fare, "label": tf.strings.join([city, tf.where(fare[:, 0] > 0, "+", "-")])}}

model = Fares()
for _ in range(STEPS):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model.ask(names, rows)["fare"] - target) ** 2)
    model.weights.assign_sub(0.2 * tape.gradient(loss, model.weights))
tf.saved_model.save(model, str(MODEL), signatures=model.ask)
question = {{"city": names[:5], "rows": rows[:5]}}
answers = {{name: value.numpy() for name, value in model.ask(**question).items()}}
"""

KERAS: Final = f"""{_ROWS}
import keras

one, two = keras.Input((WIDTH,), name="rows"), keras.Input((1,), name="extra")
fare = keras.layers.Dense(1, name="fare")(keras.layers.Concatenate()([one, two]))
model = keras.Model([one, two], {{"fare": fare, "double": fare * 2}})
model.compile("sgd", loss={{"fare": "mse", "double": None}}, jit_compile=False)
model.fit([rows, target], {{"fare": target}}, epochs=1 if LARGE else 5, verbose=0)
model.save(MODEL / "model.keras")
question = {{"rows": rows[:5], "extra": target[:5]}}
answers = model.predict([rows[:5], target[:5]], verbose=0)
"""

LITERT: Final = f"""{_ROWS}
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

weights = tf.constant(target[:1] * np.ones((WIDTH, 1)) if LARGE else np.linalg.lstsq(rows, target)[0], "float32")

@tf.function(
    autograph=False, input_signature=[tf.TensorSpec([None, WIDTH], tf.float32), tf.TensorSpec([None], tf.int32)]
)
def ask(rows, zone):
    return {{"fare": tf.matmul(rows, weights), "next_zone": zone + 1}}

module = tf.Module()
module.ask = ask
converter = tf.lite.TFLiteConverter.from_concrete_functions([ask.get_concrete_function()], module)
(MODEL / "model.tflite").write_bytes(converter.convert())
question = {{"rows": rows[:5], "zone": np.arange(len(rows[:5]), dtype="int32")}}
answers = Interpreter(str(MODEL / "model.tflite")).get_signature_runner()(**question)
"""

_MODULE: Final = f"""{_ROWS}
import torch

class Fares(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(WIDTH, 1)

    def forward(self, rows, zone):
        return {{"fare": self.layer(rows), "zones": (zone + 1, rows * 2)}}

torch.manual_seed(0)
model = Fares()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
some, wanted, zones = torch.from_numpy(rows), torch.from_numpy(target), torch.arange(len(rows))
for _ in range(STEPS):
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(model(some, zones)["fare"], wanted).backward()
    optimizer.step()
model.eval()
with torch.no_grad():
    answer = model(some[:5], zones[:5])
question = {{"rows": rows[:5], "zone": zones[:5].numpy()}}
fare, (next_zones, doubled) = answer["fare"].numpy(), (tensor.numpy() for tensor in answer["zones"])
"""

TORCH_EXPORT: Final = f"""{_MODULE}
batch = torch.export.Dim("batch")
dynamic = {{"rows": {{0: batch}}, "zone": {{0: batch}}}}
torch.export.save(torch.export.export(model, (some, zones), dynamic_shapes=dynamic), MODEL / "model.pt2")
answers = {{"fare": fare, "zones_0": next_zones, "zones_1": doubled}}
"""

TORCHSCRIPT: Final = f"""{_MODULE}
class Asked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = model.layer

    def forward(self, rows, zone):
        return self.layer(rows), zone + 1

torch.jit.save(torch.jit.trace(Asked(), (some, zones)), MODEL / "model.pt")
(MODEL / "model.yaml").write_text('''
inputs: [{{name: rows, datatype: FP32, shape: [-1, -1]}}, {{name: zone, datatype: INT64, shape: [-1]}}]
outputs: [{{name: output_0, datatype: FP32, shape: [-1, 1]}}, {{name: output_1, datatype: INT64, shape: [-1]}}]
''')
answers = {{"output_0": fare, "output_1": next_zones}}
"""
