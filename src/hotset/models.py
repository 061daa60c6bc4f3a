"""Where the settings say that the models are: the store to open and how its paths become names.

For the replica, which serves them, and for ``hotset config check``, which only looks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hotset.catalog import Layout, Listing, ListingReader, explain_misfit
from hotset.catalog.index import INDEX_PATH, IndexFormatError, IndexReader, index_faults
from hotset.config import Settings
from hotset.store import MountedStore, ObjectStore, open_store

__all__ = ["Inspection", "explain_misfit", "layout_of", "look", "open_models"]


def open_models(settings: Settings, *, may_be_away: bool = False) -> ObjectStore:
    """Return the store of ``model_dir``, or those of a static list as one, which a platform may fill.

    A directory that ``may_be_away`` need not be there now.

    Raises:
        ConfigError: a location is malformed, or a directory is not there.
    """
    if settings.models is not None or settings.sagemaker:
        given = settings.models or {}
        return MountedStore({name: open_store(url, may_be_away=may_be_away) for name, url in given.items()})
    assert settings.model_dir is not None
    return open_store(settings.model_dir, may_be_away=may_be_away)


def layout_of(settings: Settings) -> Layout:
    """Return how the store's paths become names."""
    if settings.cortex is not None:
        return Layout()  # those that it lists by name may have versions too
    if settings.models is not None or settings.sagemaker:
        return Layout(static=True, names=frozenset(settings.models or ()))
    return Layout(name_depth=settings.name_depth)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is in the store. ``is_whole`` False: only its first page was listed. ``index``: what is to be said of it."""

    listing: Listing
    is_whole: bool
    index: str = ""


async def look(settings: Settings) -> Inspection:
    """List the store once, as far as a server with these settings would, and compare it with its index.

    Raises:
        ConfigError, StoreError
    """
    store, layout = open_models(settings), layout_of(settings)
    reader = ListingReader(layout)
    if settings.discovery == "on_demand":
        async for page in store.scan():
            reader.feed(page)
            break
        reader.take_scattered()
        return Inspection(reader.finish(), is_whole=False)
    await _feed(reader, store, "")
    while scattered := reader.take_scattered():
        for name in scattered:
            await _feed(reader, store, f"{name}/")
    listing = reader.finish()
    index = "" if layout.static else await _compare_index(store, layout, listing)
    return Inspection(listing, is_whole=True, index=index)


async def _feed(reader: ListingReader, store: ObjectStore, prefix: str) -> None:
    async for page in store.list(prefix):
        reader.feed(page)


async def _compare_index(store: ObjectStore, layout: Layout, listing: Listing) -> str:
    content = await store.open(INDEX_PATH)
    if content is None or content.chunks is None:
        return ""
    reader = IndexReader(layout)
    try:
        async for chunk in content.chunks:
            deque(reader.feed(chunk), maxlen=0)
        deque(reader.finish(), maxlen=0)
    except IndexFormatError as error:
        return f"{error}; run `hotset index`"
    faults = index_faults(listing.models, reader.listing().models)
    if not faults:
        return "it says what the store has"
    return f"it differs from the store for {len(faults)} models, such as {faults[0]}; run `hotset index`"
