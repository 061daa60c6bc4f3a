"""What is fuzzed: one function for each thing that reads what others wrote.

A target takes any bytes and returns; it raises where the product did anything but read them or say what is wrong with them.
``seeds`` are where the search begins. ``search.py`` runs a target under atheris, ``test_corpus.py`` replays what it found.
"""

from __future__ import annotations

import atexit
import gzip
import io
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from hotset.api import oip_routes
from hotset.api.address import model_ref
from hotset.api.grpc.inference import read_asked
from hotset.api.headers import read_headers
from hotset.catalog.entries import Layout
from hotset.catalog.index import (
    IndexFormatError,
    IndexObject,
    IndexReader,
    IndexVersion,
    index_line,
    join_lines,
)
from hotset.catalog.labels import LabelsFormatError, parse_labels, with_label
from hotset.catalog.stored import SnapshotFormatError, load
from hotset.codecs.compression import unpacked
from hotset.codecs.rawtensors import read_tensor, write_tensor
from hotset.codecs.registry import by_name
from hotset.config import load_settings
from hotset.errors import ConfigError, HotsetError, InvalidInputError, LoadFailedError, UnsupportedError
from hotset.keys import (
    LATEST,
    DiskFile,
    Fingerprint,
    ModelKey,
    parse_label,
    parse_name,
    parse_ref,
    parse_version,
)
from hotset.messages.fields import MalformedError
from hotset.messages.pool import decoded, message_class
from hotset.payload import DTYPES, InferRequest, Signature, TensorSpec
from hotset.residency.warmup import read_hot_set
from hotset.runtimes.base import CallMeta
from hotset.runtimes.mlmodel_file import brings_code, read_mlmodel
from hotset.runtimes.modelyaml import read_model_yaml
from hotset.signing.manifest import (
    FileDigest,
    ManifestError,
    differences,
    manifest_of,
    opened,
    read_manifest,
    sealed,
)
from hotset.tiers import record
from hotset.tokens import Grant, Scope, line_of, read_tokens
from hotset.units import parse_bytes, parse_duration
from hotset.workers import forkwire, framing, wire
from hotset.workers.failure import unpack

SIGNATURES: Final = (
    Signature("sklearn", (TensorSpec("x", None, (-1, 2)),)),
    Signature("onnx", (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "INT8", (-1,)))),
    Signature("onnx", (TensorSpec("x", "BYTES", (-1,)),)),
    Signature("onnx", (TensorSpec("x", "BOOL", (-1,)),)),
    Signature("python"),
)
MOST_UNPACKED: Final = 1 << 20
_PLACE: Final = Path(tempfile.mkdtemp(prefix="hotset-fuzz-"))
atexit.register(shutil.rmtree, _PLACE, ignore_errors=True)


@dataclass(frozen=True)
class Target:
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]


# The wire

_DECODERS: Final[tuple[Callable[[bytes], Any], ...]] = (
    wire.decode_data_order,
    wire.decode_data_reply,
    wire.decode_control_order,
    wire.decode_control_reply,
)


def frames(data: bytes) -> None:
    """The first byte chooses the channel, the second how it is cut; however it is cut, the same comes out."""
    if len(data) < 2:
        return
    decode, size, rest = _DECODERS[data[0] % 4], data[1] + 1, data[2:]
    whole = _read_frames(decode, [rest])
    pieces = _read_frames(decode, [rest[start : start + size] for start in range(0, len(rest), size)])
    if not whole[1]:  # of what is no frame, a piece may tell one byte later
        assert repr(whole) == repr(pieces)
    for message, payload in whole[0]:
        frame = framing.frame_head(message, len(payload)) + payload
        assert repr(_read_frames(decode, [frame])[0]) == repr([(message, payload)])  # which NaN equals, too
        if isinstance(message, wire.Failed):
            str(unpack(message.failure))


def _read_frames(decode: Callable[[bytes], Any], pieces: Sequence[bytes]) -> tuple[list[Any], bool]:
    reader, found = framing.FrameReader(decode), []
    for piece in pieces:
        try:
            found += reader.feed(piece)
        except framing.WireError:
            return ([], True)  # what came in one piece with it is lost, in several it is not
    return (found, False)


def fork_orders(data: bytes) -> None:
    for decode in (forkwire.decode_order, forkwire.decode_reply):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # which both sides take for the end
            message = decode(data)
            assert repr(decode(forkwire.encode(message))) == repr(message)


# Bodies


def _bodies(
    codec: str, *content_types: str, headers: tuple[tuple[str, str], ...] = ()
) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        """The first byte chooses what the model declares, and the content type."""
        if not data:
            return
        signature = SIGNATURES[data[0] % len(SIGNATURES)]
        kind = content_types[data[0] // len(SIGNATURES) % len(content_types)] if content_types else ""
        body = data[1:]
        found = headers
        if codec == "oip" and data[0] >= 128:
            found = (("inference-header-content-length", str(len(body) // 2 if data[0] % 2 else 0)),)
        meta = CallMeta("paris", 1, kind, "", found)
        read = by_name(codec)
        with suppress(InvalidInputError, UnsupportedError):
            _check_tensors(read.decode_tensors(body, meta, signature), len(body))
        with suppress(InvalidInputError, UnsupportedError):
            _, request = read.decode_payload(body, meta)
            if request is not None:
                _check_tensors(request, len(body))

    return run


def _check_tensors(request: InferRequest, size: int) -> None:
    """What a client says must not become much more memory than it sent."""
    for array in request.inputs.values():
        assert array.nbytes <= 1024 + 16 * size + (256 << 20 if request.parameters.get("form") else 0)
        assert array.dtype.kind in "biufSUO" or array.dtype.name == "bfloat16", array.dtype


def raw_tensors(data: bytes) -> None:
    """The first byte chooses the type; what is read is written as it was."""
    if len(data) < 3:
        return
    datatype = sorted(DTYPES)[data[0] % len(DTYPES)]
    shape = tuple(np.frombuffer(data[2 : 2 + data[1] % 4], np.int8).tolist())
    body = data[2 + len(shape) :]
    with suppress(InvalidInputError):
        array = read_tensor(body, datatype, shape, "input 'x'")
        assert array.shape == shape
        if array.dtype.kind != "b":
            assert bytes(write_tensor(array, datatype, "output 'x'")) == body


def compressed(data: bytes) -> None:
    for coding in ("gzip", "deflate"):
        with suppress(HotsetError):
            assert len(unpacked(data, coding, limit_bytes=MOST_UNPACKED)) <= MOST_UNPACKED


_MESSAGES: Final = tuple(
    message_class(name)
    for name in (
        "ModelInferRequest",
        "ModelStatisticsRequest",
        "RepositoryIndexRequest",
        "RepositoryModelLoadRequest",
    )
)


def grpc_messages(data: bytes) -> None:
    with suppress(InvalidInputError):
        read_asked(data)
    for message in _MESSAGES:
        with suppress(MalformedError):
            decoded(message, data)


def repository_requests(data: bytes) -> None:
    for read in (oip_routes._wants_ready, oip_routes._refuse_overrides):
        with suppress(InvalidInputError, UnsupportedError):
            read(data)


# Names


def names(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(InvalidInputError):
        name = parse_name(text)
        assert name == text
        assert name.isprintable()
        assert not any(part in {"", ".", ".."} for part in name.split("/"))
        assert parse_name(Path("/", name).relative_to("/").as_posix()) == name
    with suppress(InvalidInputError):
        label = parse_label(text)
        assert label != LATEST
        assert parse_version(label) is None
    number = parse_version(text)
    assert number is None or 0 <= number < 2**63
    for versioned in (True, False):
        for labelled in (True, False):
            with suppress(InvalidInputError):
                path = b"/v1/models/" + data + b":predict"
                ref = model_ref(
                    path, prefix=b"/v1/models/", suffix=b":predict", versioned=versioned, labelled=labelled
                )
                assert parse_ref(ref.name, str(ref.version)) == ref


def headers(data: bytes) -> None:
    lines = [line.partition(b":") for line in data.split(b"\n")]
    with suppress(InvalidInputError, UnsupportedError):
        found = read_headers([(name.lower(), value.strip()) for name, _, value in lines])
        assert found.length is None or found.length >= 0
        assert found.timeout_s is None or found.timeout_s > 0


def quantities(data: bytes) -> None:
    text = data.decode("latin-1")
    with suppress(ValueError):
        assert parse_duration(text) >= 0
    with suppress(ValueError):
        assert parse_bytes(text) >= 0


# Manifests


def disk_records(data: bytes) -> None:
    with suppress(record.RecordError):
        written = record.decode(data)
        assert record.decode(record.encode(written.record, boot=written.boot)) == written
        for file in written.record.files:
            assert not file.path.startswith("/")
            assert ".." not in file.path.split("/")


def index_files(data: bytes) -> None:
    """The first byte says how it is cut."""
    if not data:
        return
    size, reader = data[0] + 1, IndexReader(Layout())
    with suppress(IndexFormatError):
        for start in range(1, len(data), size):
            for _ in reader.feed(data[start : start + size]):
                pass
        for _ in reader.finish():
            pass
        for name in reader.listing().models:
            assert parse_name(name) == name


def label_files(data: bytes) -> None:
    with suppress(LabelsFormatError):
        for label, number in parse_labels(data):
            assert parse_label(label) == label
            assert number >= 0
        with suppress(LabelsFormatError):
            assert dict(parse_labels(with_label(data, "stable", 3)))["stable"] == 3


def snapshots(data: bytes) -> None:
    with suppress(SnapshotFormatError):
        load(data, origin="s3://models")


def hot_sets(data: bytes) -> None:
    read_hot_set(_written("hot", data))


def model_options(data: bytes) -> None:
    path = _written("model.yaml", data)
    with suppress(LoadFailedError):
        read_model_yaml(path.parent, ["model.yaml"])


def mlmodels(data: bytes) -> None:
    path = _written("MLmodel", data)
    with suppress(LoadFailedError):
        brings_code(read_mlmodel(path.parent))


# Configuration


def configurations(data: bytes) -> None:
    with suppress(ConfigError):
        load_settings(_written("hotset.yaml", data), {}, {})


def cortex_files(data: bytes) -> None:
    with suppress(ConfigError):
        load_settings(None, {}, {"cortex": str(_written("cortex.yaml", data))})


def token_files(data: bytes) -> None:
    with suppress(ConfigError):
        for token in read_tokens(data.decode("latin-1").split("\n"), place="the file"):
            token.grant.covers("paris")


def signatures(data: bytes) -> None:
    """As the file of a version's signature, and, where the first byte says so, as what was signed."""
    payload = data[1:]
    with suppress(ManifestError):
        if data[:1] == b"{":
            payload, found = opened(data)
            assert opened(sealed(payload, found)) == (payload, found)
        manifest = read_manifest(payload)
        files = {file.path: file for file in manifest.files}
        assert not differences(read_manifest(manifest_of(manifest.name, manifest.version, files)), files)


def _written(name: str, data: bytes) -> Path:
    path = _PLACE / name
    path.write_bytes(data)
    return path


# Where the search begins


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _frame(message: Any, payload: bytes = b"") -> bytes:
    return framing.frame_head(message, len(payload)) + payload


def _grpc_request() -> bytes:
    request = message_class("ModelInferRequest")(model_name="paris", id="1")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    request.raw_input_contents.append(b"\0" * 8)
    encoded: bytes = request.SerializeToString()
    return encoded


def _grpc_contents() -> bytes:
    request = message_class("ModelInferRequest")(model_name="paris")
    request.inputs.add(name="x", datatype="INT8", shape=[2]).contents.int_contents.extend([1, 2])
    encoded: bytes = request.SerializeToString()
    return encoded


def _arrow() -> bytes:
    import pyarrow as pa

    table = pa.table({"x": [1.0, 2.0]})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


_FORM: Final = b'--b\r\nContent-Disposition: form-data; name="x"; filename="a"\r\nContent-Type: text/plain\r\n\r\n1\r\n--b--\r\n'
_OIP: Final = {"id": "7", "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
_OIP_BINARY: Final = {
    "inputs": [{"name": "x", "shape": [1], "datatype": "INT8", "parameters": {"binary_data_size": 1}}]
}
_INDEX: Final = join_lines(
    [index_line("paris", (IndexVersion(1, "1/", 0.0, (IndexObject("model.pkl", 3, "e"),), {"stable": 1}),))]
)
_RECORD: Final = record.encode(
    record.DiskRecord(
        Fingerprint("0" * 32), ModelKey("paris", 1), (DiskFile("model.pkl", 3),), 3, signature=SIGNATURES[1]
    )
)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _with_first(*seeds: bytes, first: Sequence[int] = (0, 1, 4)) -> list[bytes]:
    return [bytes([byte]) + seed for seed in seeds for byte in first]


_SIGNED: Final = manifest_of("paris", 7, {"model": FileDigest("model", 3, "00")})

TARGETS: Final[dict[str, Target]] = {
    "frames": Target(
        frames,
        [
            bytes([0, 9]) + _frame(wire.Predict(1, 2, "native", "", "", (("a", "b"),), 3.0), b"body"),
            bytes([1, 9]) + _frame(wire.Answer(1, "text/plain", ()), b"body"),
            bytes([2, 9]) + _frame(wire.Unload(1, 2)) + _frame(wire.Ping(1)),
            bytes([3, 9]) + _frame(wire.Pong(1)) + _frame(wire.Want(1, 2, "paris", "latest")),
        ],
    ),
    "fork_orders": Target(fork_orders, [forkwire.encode(forkwire.ImportAhead(("sklearn",)))]),
    "native": Target(
        _bodies(
            "native",
            "",
            "application/json",
            "application/x-www-form-urlencoded",
            "text/plain; charset=utf-16",
        ),
        _with_first(
            b'{"instances": [[1.0, 2]]}',
            b'{"inputs": {"x": [1]}, "outputs": ["y"]}',
            b"a=1&b=%20",
            first=(0, 6, 14, 19),
        ),
    ),
    "npy": Target(
        _bodies("native", "application/x-npy", "application/x-npz"),
        [*_with_first(_npy(np.ones((1, 2)))), *_with_first(_npz(x=np.ones(2)), first=(5, 6))],
    ),
    "arrow": Target(_bodies("native", "application/vnd.apache.arrow.stream"), _with_first(_arrow())),
    "csv": Target(
        _bodies("native", "text/csv", "text/csv; header=present"),
        _with_first(b'1,2\n3,"4"\n', first=(0, 1, 5)),
    ),
    "multipart": Target(_bodies("native", "multipart/form-data; boundary=b"), _with_first(_FORM)),
    "tfserving": Target(
        _bodies("tfserving"),
        _with_first(
            b'{"signature_name": "x", "instances": [{"x": [1, NaN]}]}', b'{"inputs": {"b64": "aGk="}}'
        ),
    ),
    "classify": Target(
        _bodies("tfserving.classify"), _with_first(b'{"examples": [{"x": 1.5}], "context": {"y": 1}}')
    ),
    "regress": Target(_bodies("tfserving.regress"), _with_first(b'{"examples": [{"x": [1, 2]}]}')),
    "oip": Target(
        _bodies("oip"),
        [*_with_first(_json(_OIP)), *_with_first(_json(_OIP_BINARY) + b"\1", first=(129, 131)), b"\x80\0\0"],
    ),
    "grpc": Target(_bodies("oip-grpc"), _with_first(_grpc_request(), _grpc_contents())),
    "grpc_messages": Target(grpc_messages, [_grpc_request(), _grpc_contents()]),
    "repository_requests": Target(
        repository_requests, [b'{"ready": true}', b'{"parameters": {"config": "{}"}}']
    ),
    "raw_tensors": Target(raw_tensors, [bytes([0, 1, 1]) + b"\1\0\0\0a", bytes([6, 2, 1, 2]) + b"\0" * 16]),
    "compressed": Target(compressed, [gzip.compress(b"[1]", mtime=0), zlib.compress(b"[1]")]),
    "names": Target(
        names, [b"paris", b"acme/rome", b"paris/versions/7", b"paris/labels/stable", b"%2E%2E/x"]
    ),
    "headers": Target(
        headers, [b"content-length: 3\nx-request-timeout: 0.5\ncontent-encoding: gzip\naccept-encoding: br"]
    ),
    "quantities": Target(quantities, [b"5m", b"1.5GiB", b"90s", b"1h30m"]),
    "disk_records": Target(disk_records, [_RECORD]),
    "index_files": Target(index_files, _with_first(_INDEX, first=(3, 255))),
    "label_files": Target(label_files, [b"stable: 3\ncanary: 5\n", b"{stable: 3}", b"# none\n{}"]),
    "snapshots": Target(snapshots, [b"{}", b"\x80"]),
    "hot_sets": Target(hot_sets, [b'{"format":1,"words":[["paris","latest",1.0]]}']),
    "model_options": Target(
        model_options,
        [
            b"runtime: sklearn\ninputs: [{name: x, datatype: FP32, shape: [-1, 2]}]\nwarmup: [{instances: [[1]]}]"
        ],
    ),
    "mlmodels": Target(mlmodels, [b"flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n"]),
    "configurations": Target(
        configurations, [b"model_dir: /models\nmodel_cache_size: 50\npreload: [paris@1]\nsettle_time: 1s\n"]
    ),
    "cortex_files": Target(
        cortex_files,
        [
            b"- name: a\n  handler:\n    path: h.py\n    multi_model_reloading:\n      dir: s3://b/m\n      cache_size: 3\n"
        ],
    ),
    "signatures": Target(signatures, [sealed(_SIGNED, [("key", b"s")]), b" " + _SIGNED]),
    "token_files": Target(
        token_files, [line_of("secret", Grant("ops", frozenset(Scope), ("acme/*",))).encode()]
    ),
}
