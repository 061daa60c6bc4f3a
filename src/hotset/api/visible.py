"""Lists of models as whoever asks may see them. Every door that lists models comes by here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Final

from hotset.api.ports import Residency
from hotset.status import ModelPage, ModelStatus
from hotset.tokens import Grant

_STEP: Final = 1000
"""So many models are looked through in one turn of the loop."""


async def visible_models(
    residency: Residency, grant: Grant, *, prefix: str, limit: int, after: str, deadline_s: float
) -> ModelPage:
    """Return at most ``limit`` of the models that may be seen, whose names start with ``prefix`` and come behind ``after``.

    A page is as long as for somebody who sees all, and where the next one begins is a name that may be seen.
    """
    if grant.sees_all:
        return await residency.models(prefix=prefix, limit=limit, after=after, deadline_s=deadline_s)
    found: list[ModelStatus] = []
    async for model in _seen(residency, grant, prefix, after, deadline_s):
        if len(found) == limit:
            return ModelPage(tuple(found), found[-1].name)
        found.append(model)
    return ModelPage(tuple(found))


async def visible_pages(
    residency: Residency, grant: Grant, *, prefix: str, limit: int, after: str, deadline_s: float
) -> AsyncIterator[ModelPage]:
    """Yield all of them, page by page, and let others run in between: there may be a hundred thousand models."""
    following: str | None = after
    while following is not None:
        page = await visible_models(
            residency, grant, prefix=prefix, limit=limit, after=following, deadline_s=deadline_s
        )
        yield page
        following = page.next
        await asyncio.sleep(0)


async def _seen(
    residency: Residency, grant: Grant, prefix: str, after: str, deadline_s: float
) -> AsyncIterator[ModelStatus]:
    """Yield what may be seen, in order; only the parts of the list are read in which there can be some."""
    for part in _parts(grant, prefix):
        following: str | None = after
        while following is not None:
            page = await residency.models(prefix=part, limit=_STEP, after=following, deadline_s=deadline_s)
            for model in page.models:
                if grant.covers(model.name):
                    yield model
            following = page.next
            await asyncio.sleep(0)


def _parts(grant: Grant, prefix: str) -> Iterator[str]:
    """Yield the beginnings of names that fit both; no two of them have a name in common, and they are in order."""
    for own in grant.prefixes:
        if prefix.startswith(own):
            yield prefix
        elif own.startswith(prefix):
            yield own
