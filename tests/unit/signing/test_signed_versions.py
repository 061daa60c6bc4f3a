"""A replica with ``signing_keys`` loads what is signed, and nothing else, wherever it was changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hotset.cli_keys import signer
from hotset.errors import ErrorKind, LoadFailedError
from hotset.events import Cause
from hotset.keys import ModelKey
from hotset.signing.keys import SigningKey, new_key
from hotset.signing.manifest import MOST_BYTES, SIGNATURE_FILE
from hotset.testing import FakeStore
from residency_bench import Bench
from residency_bench import bench as running

Sign = Callable[[str, int, Mapping[str, bytes]], bytes]


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return new_key(tmp_path / "key.pem")


@pytest.fixture
def sign(key: SigningKey, tmp_path: Path) -> Sign:
    """As ``hotset sign`` does it."""
    make = signer(tmp_path / "key.pem")

    def signed(name: str, version: int, files: Mapping[str, bytes]) -> bytes:
        places = {path: tmp_path / "signed" / path for path in files}
        for path, data in files.items():
            places[path].parent.mkdir(parents=True, exist_ok=True)
            places[path].write_bytes(data)
        return make(ModelKey(name, version), places)

    return signed


def put(store: FakeStore, prefix: str, files: Mapping[str, bytes], signature: bytes | None = None) -> None:
    for path, data in files.items():
        store.put(f"{prefix}/{path}", data)
    if signature is not None:
        store.put(f"{prefix}/{SIGNATURE_FILE}", signature)


async def refusal(bench: Bench, name: str, version: str | None = None) -> LoadFailedError:
    with pytest.raises(LoadFailedError) as caught:
        await bench.ask(name, version)
    assert not bench.in_memory()
    return caught.value


FILES = {"model.joblib": b"weights", "meta/info.json": b"{}"}


async def test_what_is_signed_is_loaded(key: SigningKey, sign: Sign, tmp_path: Path) -> None:
    store = FakeStore()
    put(store, "paris/3", FILES, sign("paris", 3, FILES))
    async with running(tmp_path / "disk", store, signing_keys=[key.public.line]) as bench:
        assert await bench.ask("paris")
        assert bench.in_memory() == {"paris@3"}


async def test_what_nobody_has_signed_is_refused(key: SigningKey, tmp_path: Path) -> None:
    store = FakeStore()
    put(store, "paris/3", FILES)
    async with running(tmp_path / "disk", store, signing_keys=[key.public.line]) as bench:
        error = await refusal(bench, "paris")
        assert error.kind is ErrorKind.UNSIGNED
        assert "paris@3 is not: it has no _SIGNATURE" in str(error)


@pytest.mark.parametrize("signature", [b"", b"{}", b"x" * (MOST_BYTES + 1)], ids=["empty", "json", "huge"])
async def test_a_signature_that_is_none_is_refused(key: SigningKey, tmp_path: Path, signature: bytes) -> None:
    store = FakeStore()
    put(store, "paris/3", FILES, signature)
    async with running(tmp_path / "disk", store, signing_keys=[key.public.line]) as bench:
        assert (await refusal(bench, "paris")).kind is ErrorKind.UNSIGNED


async def test_what_another_key_has_signed_is_refused(key: SigningKey, sign: Sign, tmp_path: Path) -> None:
    store, other = FakeStore(), new_key(tmp_path / "other.pem")
    put(store, "paris/3", FILES, sign("paris", 3, FILES))
    async with running(tmp_path / "disk", store, signing_keys=[other.public.line]) as bench:
        error = await refusal(bench, "paris")
        assert error.kind is ErrorKind.UNSIGNED
        assert "none of the 1 keys in signing_keys has signed it" in str(error)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({**FILES, "model.joblib": b"WEIGHTS"}, "model.joblib was signed with sha256 "),
        ({**FILES, "model.joblib": b"longer weights"}, "was signed with 7 bytes, found: 14"),
        ({"model.joblib": b"weights"}, "meta/info.json is missing"),
        ({**FILES, "predictor.py": b"print()"}, "predictor.py is there and was not signed"),
    ],
)
async def test_files_that_are_not_those_that_were_signed_are_refused(
    key: SigningKey, sign: Sign, tmp_path: Path, found: dict[str, bytes], told: str
) -> None:
    store = FakeStore()
    put(store, "paris/3", found, sign("paris", 3, FILES))
    async with running(tmp_path / "disk", store, signing_keys=[key.public.line]) as bench:
        error = await refusal(bench, "paris")
        assert error.kind is ErrorKind.TAMPERED
        assert told in str(error)


@pytest.mark.parametrize(("name", "version"), [("rome", 3), ("paris", 2)])
async def test_a_signed_version_under_another_name_or_number_is_refused(
    key: SigningKey, sign: Sign, tmp_path: Path, name: str, version: int
) -> None:
    store = FakeStore()
    put(store, "paris/3", FILES, sign(name, version, FILES))
    async with running(tmp_path / "disk", store, signing_keys=[key.public.line]) as bench:
        error = await refusal(bench, "paris")
        assert error.kind is ErrorKind.TAMPERED
        assert f"it was signed as {name}@{version}" in str(error)


async def test_two_versions_of_the_same_files_are_looked_at_both(
    key: SigningKey, sign: Sign, tmp_path: Path
) -> None:
    """They share a directory on disk; what is signed for one is not signed for the other."""
    store = FakeStore()
    put(store, "paris/3", FILES, sign("paris", 3, FILES))
    for path in (*FILES, SIGNATURE_FILE):
        store.objects[f"rome/3/{path}"] = store.objects[f"paris/3/{path}"]
    async with running(tmp_path / "disk", store, signing_keys=[key.public.line]) as bench:
        assert await bench.ask("paris")
        with pytest.raises(LoadFailedError, match="it was signed as paris@3"):
            await bench.ask("rome")


async def test_an_older_version_goes_on_answering_where_the_newest_is_not_signed(
    key: SigningKey, sign: Sign, tmp_path: Path
) -> None:
    store = FakeStore()
    put(store, "paris/3", FILES, sign("paris", 3, FILES))
    async with running(tmp_path / "disk", store, signing_keys=[key.public.line]) as bench:
        await bench.ask("paris")
        put(store, "paris/4", FILES)
        await bench.sync()
        await bench.settled()
        assert await bench.ask("paris") == await bench.ask("paris", "3")
        assert bench.in_memory() == {"paris@3"}


async def test_what_was_on_disk_before_keys_were_set_is_looked_at_too(
    key: SigningKey, sign: Sign, tmp_path: Path
) -> None:
    store = FakeStore()
    put(store, "paris/3", FILES)
    put(store, "rome/1", FILES, sign("rome", 1, FILES))
    async with running(tmp_path / "disk", store) as bench:
        await bench.ask("paris")
        await bench.ask("rome")
    fetched = sum(store.downloads.values())
    async with running(tmp_path / "disk", store, signing_keys=[key.public.line]) as bench:
        assert (await refusal(bench, "paris")).kind is ErrorKind.UNSIGNED
        assert await bench.ask("rome")
    assert sum(store.downloads.values()) == fetched


async def test_files_that_were_changed_on_disk_before_the_start_are_fetched_again(
    key: SigningKey, sign: Sign, tmp_path: Path
) -> None:
    store = FakeStore()
    put(store, "paris/3", FILES, sign("paris", 3, FILES))
    async with running(tmp_path / "disk", store, signing_keys=[key.public.line]) as bench:
        await bench.ask("paris")
    (file,) = (tmp_path / "disk").rglob("model.joblib")
    file.write_bytes(b"WEIGHTS")
    async with running(tmp_path / "disk", store, signing_keys=[key.public.line]) as bench:
        assert (await refusal(bench, "paris")).kind is ErrorKind.TAMPERED
        bench.clock.advance(60.0)
        assert await bench.ask("paris")


async def test_files_that_are_fetched_again_are_looked_at_again(
    key: SigningKey, sign: Sign, tmp_path: Path
) -> None:
    """A store may say that nothing has changed, and give others: what it says of them is not believed."""
    store = FakeStore()
    put(store, "paris/3", FILES, sign("paris", 3, FILES))
    async with running(tmp_path / "disk", store, signing_keys=[key.public.line]) as bench:
        assert await bench.ask("paris")
        (entry,) = bench.memory.entries()
        fingerprint = entry.value.version.fingerprint
        await bench.manager.unload([entry.key], Cause.EXPLICIT, deadline_s=bench.clock.now_s + 60.0)
        bench.disk.evict(fingerprint, Cause.CAPACITY)
        await bench.settled()
        there = store.objects["paris/3/model.joblib"]
        store.objects["paris/3/model.joblib"] = replace(there, data=b"WEIGHTS")
        assert (await refusal(bench, "paris")).kind is ErrorKind.TAMPERED


async def test_what_is_light_is_looked_at_as_well(key: SigningKey, sign: Sign, tmp_path: Path) -> None:
    """The files of another version, which have been loaded and are light: what was signed for one is not for the other."""
    store = FakeStore()
    other = {"model.joblib": b"other"}
    put(store, "paris/3", FILES, sign("paris", 3, FILES))
    put(store, "rome/3", other, sign("rome", 3, other))
    settings = {"signing_keys": [key.public.line], "model_cache_size": 1}
    async with running(tmp_path / "disk", store, **settings) as bench:
        bench.script.light = True
        for name in ("rome", "paris", "rome", "paris"):
            assert await bench.ask(name)
        assert bench.script.swaps, "they are light"
        for path in (*FILES, SIGNATURE_FILE):
            store.objects[f"rome/3/{path}"] = store.objects[f"paris/3/{path}"]
        await bench.sync()
        with pytest.raises(LoadFailedError, match="it was signed as paris@3"):
            await bench.ask("rome")


async def test_a_mended_version_is_loaded_without_waiting(
    key: SigningKey, sign: Sign, tmp_path: Path
) -> None:
    store = FakeStore()
    put(store, "paris/3", FILES)
    async with running(tmp_path / "disk", store, signing_keys=[key.public.line]) as bench:
        await refusal(bench, "paris")
        store.put(f"paris/3/{SIGNATURE_FILE}", sign("paris", 3, FILES))
        await bench.sync()
        assert await bench.ask("paris")


async def test_in_a_static_list_the_name_is_the_lists_own(
    key: SigningKey, sign: Sign, tmp_path: Path
) -> None:
    store = FakeStore()
    put(store, "capital", FILES, sign("paris", 3, FILES))
    models = {"capital": str(tmp_path)}
    async with running(tmp_path / "disk", store, models=models, signing_keys=[key.public.line]) as bench:
        assert await bench.ask("capital")


async def test_without_keys_nothing_is_looked_at(sign: Sign, tmp_path: Path) -> None:
    store = FakeStore()
    put(store, "paris/3", {**FILES, "model.joblib": b"other"}, sign("paris", 3, FILES))
    async with running(tmp_path / "disk", store) as bench:
        assert await bench.ask("paris")
