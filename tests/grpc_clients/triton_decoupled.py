"""tritonclient.grpc, the blocking client, unmodified, asks models that answer in parts: those of ``decoupled_models.py``."""

from __future__ import annotations

from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from checks import run_all
from triton_inputs import LIMIT_S, given, text, wait_for
from tritonclient.utils import InferenceServerException


class Streaming:
    """A stream of the client's, and what came back on it."""

    def __init__(self, client: triton.InferenceServerClient, **options: Any) -> None:
        self.client = client
        self._answers: Queue[tuple[Any, InferenceServerException | None]] = Queue()
        client.start_stream(lambda result, error: self._answers.put((result, error)), **options)

    def ask(self, model: str, own_id: str = "", *, wants_end: bool = False, **inputs: np.ndarray) -> None:
        self.client.async_stream_infer(
            model,
            [given(name, array) for name, array in inputs.items()],
            request_id=own_id,
            enable_empty_final_response=wants_end,
        )

    def answer(self) -> tuple[Any, InferenceServerException | None]:
        return self._answers.get(timeout=LIMIT_S)

    def rest(self) -> list[tuple[Any, InferenceServerException | None]]:
        """End the stream, as a client does that wants all answers; return those that came."""
        self.client.stop_stream()
        return list(self._answers.queue)


def check_what_it_says_of_itself(address: str, _directory: Path) -> None:
    with triton.InferenceServerClient(address) as client:
        for model, decoupled in (("repeat", True), ("later", False), ("endless", True), ("whole", False)):
            config = client.get_model_config(model).config
            assert config.model_transaction_policy.decoupled is decoupled, model


def check_several_answers_for_one_request_and_the_last_one(address: str, _directory: Path) -> None:
    with triton.InferenceServerClient(address) as client:
        stream = Streaming(client)
        for model in ("repeat", "later"):
            stream.ask(model, f"of {model}", wants_end=True, count=np.array([5], np.int32))
            for number in range(5):
                result, error = stream.answer()
                assert error is None, error
                response = result.get_response()
                assert (response.id, response.model_name, response.model_version) == (
                    f"of {model}",
                    model,
                    "1",
                )
                assert not response.parameters["triton_final_response"].bool_param
                assert result.as_numpy("number").tolist() == [number]
                if model == "repeat":
                    assert result.as_numpy("text").tolist() == [f"part {number}".encode()]
            response = stream.answer()[0].get_response()
            assert response.parameters.get("triton_final_response").bool_param
            assert (response.id, list(response.outputs)) == (f"of {model}", [])
        assert stream.rest() == []


def check_no_last_one_for_who_does_not_ask_and_none_at_all_without_parts(
    address: str, _directory: Path
) -> None:
    with triton.InferenceServerClient(address) as client:
        stream = Streaming(client)
        stream.ask("repeat", count=np.array([3], np.int32))
        stream.ask("repeat", count=np.array([0], np.int32))
        found = [result.as_numpy("number").tolist() for result, _ in stream.rest()]
        assert found == [[0], [1], [2]]


def check_requests_beside_each_other(address: str, _directory: Path) -> None:
    """Each has all its parts in order, and those of whole answers come in between."""
    with triton.InferenceServerClient(address) as client:
        stream = Streaming(client)
        for number in range(40):
            count = np.array([number], np.int32)
            if number % 4:
                stream.ask(("repeat", "later")[number % 2], str(number), wants_end=True, count=count)
            else:
                stream.ask("whole", str(number), number=count)
        found: dict[str, list[Any]] = {}
        for result, error in stream.rest():
            assert error is None, error
            response = result.get_response()
            part = result.as_numpy("number")
            found.setdefault(response.id, []).append("end" if part is None else int(part[0]))
            assert response.parameters["triton_final_response"].bool_param == (
                part is None or int(response.id) % 4 == 0
            )
        assert found == {
            str(number): [*range(number), "end"] if number % 4 else [number] for number in range(40)
        }


def check_an_error_in_the_middle(address: str, _directory: Path) -> None:
    with triton.InferenceServerClient(address) as client:
        stream = Streaming(client)
        inputs = {"count": np.array([9], np.int32), "fails": np.array([2], np.int32)}
        stream.ask("repeat", wants_end=True, **inputs)
        stream.ask("atlantis", wants_end=True, **inputs)
        stream.ask("whole", **inputs)
        answers = stream.rest()
        errors = [error.message() for _, error in answers if error is not None]
        assert sorted(errors) == [
            "Request for unknown model: 'atlantis' is not found",
            "ValueError: no part 2",
        ]
        parts = [result.as_numpy("number") for result, error in answers if error is None]
        assert [part.tolist() for part in parts if part is not None] == [[0], [1]]
        assert len(answers) == 5


def check_one_answer_is_not_enough(address: str, _directory: Path) -> None:
    with triton.InferenceServerClient(address) as client:
        with pytest.raises(InferenceServerException) as caught:
            client.infer("repeat", [given("count", np.array([2], np.int32))])
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
        assert "ModelStreamInfer" in caught.value.message()


def check_a_client_that_cancels_ends_the_generator(address: str, directory: Path) -> None:
    with triton.InferenceServerClient(address) as client:
        stream = Streaming(client)
        stream.ask("endless", directory=text(directory), name=text("cancelled"))
        assert stream.answer()[0].as_numpy("part").nbytes == 1 << 20
        client.stop_stream(cancel_requests=True)
        wait_for(directory / "cancelled.closed")


def check_the_clients_limit_ends_it_too(address: str, directory: Path) -> None:
    with triton.InferenceServerClient(address) as client:
        stream = Streaming(client, stream_timeout=0.5)
        stream.ask("endless", directory=text(directory), name=text("limited"))
        error = None
        while error is None:
            _, error = stream.answer()
        assert error.status() == "StatusCode.DEADLINE_EXCEEDED"
        wait_for(directory / "limited.closed")
        client.stop_stream()


if __name__ == "__main__":
    run_all(dict(globals()))
