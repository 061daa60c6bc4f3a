"""A server as others on its network find it: secrets are nowhere, ports speak TLS, and what is the admin's is the admin's."""

from __future__ import annotations

import datetime as dt
import http.client
import ipaddress
import json
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from grpc_serving import free_port
from hotset.tokens import Grant, Scope, line_of
from server_process import ServerProcess, end, running_server, start_server

TOKEN = "hst_canary-token-3f1c"
WRONG = "hst_canary-wrong-77aa"
BODY = "canary-body-9d2e"
QUERY = "canary-query-4b8b"
STORE_KEY = "canary-store-secret-51ce"
SECRETS = (TOKEN, WRONG, BODY, QUERY, STORE_KEY)

PREDICTOR = """
class Predictor:
    def load_model(self, disk_path):
        return open(f"{disk_path}/weights").read()

    def predict(self, model, payload, headers):
        if payload == "fail":
            raise ValueError("it failed")
        return {"seen": sorted(headers)}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name in ("paris", "acme-rome"):
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "1" / "weights").write_text("1")
    (tmp_path / "predictor.py").write_text(PREDICTOR)
    return tmp_path / "models"


def tokens_in(file: Path, secret: str = TOKEN) -> Path:
    grant = Grant("canary", frozenset(Scope))
    file.write_text(line_of(secret, grant) + "\n")
    return file


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.slow
def test_secrets_are_in_no_log_no_answer_no_metric_and_no_title(tmp_path: Path, models: Path) -> None:
    with running_server(
        tmp_path / "disk",
        model_dir=models,
        predictor=tmp_path / "predictor.py",
        auth=tokens_in(tmp_path / "tokens"),
        settle_time="0s",
        log_level="debug",
        metrics_model_label="true",
        environment={"AWS_SECRET_ACCESS_KEY": STORE_KEY},
    ) as server:
        said = []
        good, wrong = bearer(TOKEN), bearer(WRONG)
        path = f"/models/paris/predict?q={QUERY}"
        for headers in (good, wrong, {"Authorization": f"Basic {WRONG}"}):
            for body in ({"x": BODY}, "fail", b"\xff" + BODY.encode(), f'{{"{BODY}'.encode()):
                said.append(server.request("POST", path, body, headers=headers))
        said.append(server.request("POST", "/v2/models/paris/infer", {"inputs": BODY}, headers=good))
        said.append(server.request("POST", "/v1/models/paris:predict", {"instances": BODY}, headers=good))
        said.append(server.request("POST", f"/models/none-{1}/predict", BODY.encode(), headers=good))
        pages = ("/metrics", "/status", "/models", "/openapi.json", "/docs", "/v2/models/stats")
        said += [server.request("GET", page, headers=good) for page in pages]
        assert {answer.status for answer in said} >= {200, 401, 500}
        assert b"authorization" not in said[0].body, "a model's code sees no token"
        for answer in said:
            text = answer.body.decode("utf-8", "replace") + str(dict(answer.headers))
            for secret in (TOKEN, WRONG, QUERY, STORE_KEY):
                assert secret not in text
        root = tmp_path / "disk"
        for path in (root, *root.rglob("*")):
            if path.is_dir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
        everybody = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        assert len(everybody) > 2
        for process in everybody:
            title = " ".join(process.cmdline()) + process.name()
            environ = str(process.environ())
            assert not any(secret in title for secret in SECRETS)
            assert not any(secret in environ for secret in (TOKEN, WRONG, BODY, QUERY))
    log = server.log.read_text("utf-8", "replace")
    assert "it failed" in log, "the log is that of these requests"
    assert not any(secret in log for secret in SECRETS)
    for file in (tmp_path / "disk").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not any(secret.encode() in data for secret in SECRETS), file


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Write a certificate of its own for this machine, in the place of the last one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    cert, secret = directory / "cert.pem", directory / "key.pem"
    cert.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert, secret


class Secure:
    """A server that speaks TLS, with a port for the admin and one for gRPC."""

    def __init__(self, server: ServerProcess, cert: Path, tokens: Path, admin: int, grpc: int) -> None:
        self.server, self.cert, self.tokens, self.admin, self.grpc = server, cert, tokens, admin, grpc

    def request(
        self, method: str, path: str, body: object = None, *, port: int = 0, secret: str = TOKEN
    ) -> tuple[int, bytes]:
        trusted = ssl.create_default_context(cafile=str(self.cert))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port or self.server.port, timeout=60, context=trusted
        )
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"} | bearer(secret))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def shown(self, port: int) -> str:
        return ssl.get_server_certificate(("127.0.0.1", port)).strip()

    def is_ready(self) -> bool:
        self.server.port = self.server.port or self.server._logged_port()
        try:
            return bool(self.server.port) and self.request("GET", "/health/ready")[0] == 200
        except OSError:
            return False


@pytest.fixture
def secure(tmp_path: Path, models: Path) -> Iterator[Secure]:
    cert, key = certificate(tmp_path, "first")
    tokens, admin, grpc = tokens_in(tmp_path / "tokens"), free_port(), free_port()
    server = start_server(
        tmp_path / "disk",
        model_dir=models,
        predictor=tmp_path / "predictor.py",
        auth=tokens,
        tls_cert=cert,
        tls_key=key,
        admin_port=admin,
        grpc_port=grpc,
        settle_time="0s",
    )
    try:
        it = Secure(server, cert, tokens, admin, grpc)
        server.wait_until(it.is_ready, limit_s=90, what="the server is ready")
        yield it
    finally:
        end(server)


@pytest.mark.slow
def test_ports_speak_tls_and_renew_certificates_and_tokens(secure: Secure, tmp_path: Path) -> None:
    assert secure.request("POST", "/models/paris/predict", {"x": 1})[0] == 200
    large = b'{"x": "' + b"a" * (4 << 20) + b'"}'
    assert secure.request("POST", "/models/paris/predict", large)[0] == 200
    # The admin's port has what is the admin's, and the others have not.
    assert secure.request("GET", "/metrics")[0] == 403
    assert secure.request("POST", "/models/paris/load")[0] == 403
    assert secure.request("GET", "/metrics", port=secure.admin)[0] == 200
    assert secure.request("POST", "/models/paris/load", port=secure.admin)[0] == 200
    assert secure.request("POST", "/models/paris/predict", {"x": 1}, port=secure.admin)[0] == 405
    # Who does not speak TLS gets nothing.
    with socket.create_connection(("127.0.0.1", secure.server.port), timeout=30) as plain:
        plain.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"live" not in plain.recv(1000)
    # Renewed files count without a restart.
    first = secure.shown(secure.server.port)
    certificate(tmp_path, "second")
    now = (tmp_path / "cert.pem").read_text().strip()
    assert first != now
    for port in (secure.server.port, secure.admin, secure.grpc):
        secure.server.wait_until(lambda port=port: secure.shown(port) == now, limit_s=60, what="renewed")
    tokens_in(secure.tokens, WRONG)
    secure.server.wait_until(
        lambda: secure.request("GET", "/models")[0] == 401, limit_s=60, what="the old token is good no more"
    )
    assert secure.request("GET", "/models", secret=WRONG)[0] == 200
    # An idle connection that does not answer does not hold the end up.
    trusted = ssl.create_default_context(cafile=str(secure.cert))
    with (
        socket.create_connection(("127.0.0.1", secure.server.port), timeout=30) as raw,
        trusted.wrap_socket(raw, server_hostname="127.0.0.1") as idle,
    ):
        idle.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in idle.recv(1000)
        assert secure.server.terminate() == 0
    lines = [line for line in secure.server.lines() if line.get("level") in {"warning", "error"}]
    assert lines == []
