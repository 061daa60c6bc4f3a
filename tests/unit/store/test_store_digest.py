"""Etags that are digests, that are none, and bytes that are not the object's."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotset.errors import StoreError
from hotset.store import ObjectMeta
from hotset.store.digest import Digests, digest, digest_of_file

RIGHT = digest(b"right")
WRONG = digest(b"wrong")
ENCRYPTED = {"x-amz-server-side-encryption": "aws:kms"}
PLAIN = {"x-amz-server-side-encryption": "AES256"}
OBJECT = ObjectMeta("m/1/a", 5, RIGHT, 0.0)


class Judged:
    """``headers`` is what the store says, and ``again`` the digest of the second copy."""

    def __init__(self, headers: dict[str, str] | None, *, again: str = WRONG) -> None:
        self.copies = 0
        self._headers = headers
        self._again = again
        self.digests = Digests(url="s3://b", headers=self._ask)

    async def _ask(self, _path: str) -> dict[str, str] | None:
        return self._headers

    async def _copy(self) -> str:
        self.copies += 1
        return self._again

    async def judge(self) -> None:
        await self.digests.judge(OBJECT, WRONG, self._copy)


def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"right")
    assert digest_of_file(tmp_path / "a") == RIGHT == "7c4f29407893c334a6cb7a87bf045c0d"


@pytest.mark.parametrize("etag", ["", "abc", f"{RIGHT}-2", RIGHT.upper(), f'"{RIGHT}"', "modified-17"])
def test_what_is_no_digest_is_compared_with_none(etag: str) -> None:
    assert not Judged(None).digests.tell(etag)


async def test_the_right_bytes_the_second_time(caplog: pytest.LogCaptureFixture) -> None:
    judged = Judged(PLAIN, again=RIGHT)
    await judged.judge()
    assert (judged.copies, judged.digests.alike) == (1, 1)
    assert "sent other bytes than it holds" in caplog.text


@pytest.mark.parametrize("headers", [None, {}, PLAIN])
async def test_other_bytes_each_time_are_refused(headers: dict[str, str] | None) -> None:
    judged = Judged(headers, again=digest(b"other"))
    with pytest.raises(StoreError, match=f"sends other bytes of 'm/1/a' than it holds: .* its etag {RIGHT}"):
        await judged.judge()


async def test_twice_the_same_wrong_bytes_are_refused_where_etags_are_digests() -> None:
    judged = Judged(PLAIN)
    judged.digests.alike = 1
    with pytest.raises(StoreError, match="sends other bytes"):
        await judged.judge()


async def test_an_object_encrypted_by_a_key_is_taken_and_not_copied_again() -> None:
    judged = Judged(ENCRYPTED)
    judged.digests.alike = 1
    await judged.judge()
    assert judged.copies == 0


@pytest.mark.parametrize(("headers", "alike"), [(PLAIN, 0), (None, 0), (None, 1)])
async def test_where_nothing_says_that_etags_are_digests_twice_the_same_is_taken(
    headers: dict[str, str] | None, alike: int
) -> None:
    judged = Judged(headers)
    judged.digests.alike = alike
    await judged.judge()
    assert judged.copies == 1


async def test_a_store_whose_etags_are_no_digests_is_soon_not_checked_any_more() -> None:
    judged = Judged(PLAIN)
    for _ in range(3):
        assert judged.digests.tell(RIGHT)
        await judged.judge()
    assert not judged.digests.tell(RIGHT)
