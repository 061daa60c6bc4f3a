"""What the API document says, asked of a real server in thousands of ways: no answer that it does not describe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from model_files import regressor
from server_process import ServerProcess, running_server

EXAMPLES: Final = 2000
LIMIT_S: Final = 60.0
CHECKS: Final = [status_code_conformance, content_type_conformance, response_schema_conformance]
KNOWN: Final = {"model": ["paris", "rome"], "version": ["1", "2", "7"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("fuzz")
    for name, version in (("paris", 1), ("paris", 2), ("rome", 1)):
        target = folder / "models" / name / str(version)
        target.mkdir(parents=True)
        (target / "model.pkl").write_bytes(regressor(version))
    with running_server(folder / "disk", model_dir=folder / "models", settle_time=0) as server:
        yield server


@pytest.fixture(scope="module")
def schema(server: ServerProcess) -> Any:
    return schemathesis.openapi.from_url(f"http://{server.host}:{server.port}/openapi.json")


def operations(schema: Any) -> list[Any]:
    return [found.ok() for found in schema.get_all_operations()]


@st.composite
def requests_of(draw: st.DrawFn, operation: Any) -> Any:
    """A request as the document allows it, or not at all; half of them for a model that there is."""
    mode = draw(st.sampled_from(list(schemathesis.GenerationMode)))
    case = draw(operation.as_strategy(generation_mode=mode))
    if isinstance(case.path_parameters, dict) and draw(st.booleans()):
        for name, values in KNOWN.items():
            if name in case.path_parameters:
                case.path_parameters[name] = draw(st.sampled_from(values))
    return case


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_answer_that_the_document_does_not_describe(
    server: ServerProcess, schema: Any, figure: Any
) -> None:
    every = operations(schema)
    each = -(-EXAMPLES // len(every))
    seen: Counter[int] = Counter()
    with requests.Session() as session:
        for operation in every:

            @settings(
                max_examples=each,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(requests_of(operation))
            def ask(case: Any) -> None:
                response = case.call(session=session, timeout=LIMIT_S)
                seen[response.status_code] += 1
                assert response.status_code != 500, (case.as_curl_command(), response.text)
                case.validate_response(response, checks=CHECKS, excluded_checks=[not_a_server_error])

            ask()
    figure("operations", len(every))
    figure("requests", sum(seen.values()))
    figure("answers by status", dict(sorted(seen.items())))
    assert sum(seen.values()) >= EXAMPLES
    assert seen[200] > 100
    assert server.predict("paris", {"instances": [[1.0]]}).status == 200
