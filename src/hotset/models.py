"""Where the settings say that the models are: the store to open and how its paths become names.

For the replica, which serves them, and for ``hotset config check``, which only looks.
"""

from __future__ import annotations

from hotset.catalog import Layout, Listing, ListingReader, explain_misfit
from hotset.config import Settings
from hotset.store import MountedStore, ObjectStore, open_store

__all__ = ["explain_misfit", "layout_of", "look", "open_models"]


def open_models(settings: Settings) -> ObjectStore:
    """Return the store of ``model_dir``, or those of a static list as one.

    Raises:
        ConfigError: a location is malformed, or a directory is not there.
    """
    if settings.models is not None:
        return MountedStore({name: open_store(url) for name, url in settings.models.items()})
    assert settings.model_dir is not None
    return open_store(settings.model_dir)


def layout_of(settings: Settings) -> Layout:
    """Return how the store's paths become names."""
    if settings.models is not None:
        return Layout(static=True, names=frozenset(settings.models))
    return Layout(name_depth=settings.name_depth)


async def look(settings: Settings) -> Listing:
    """List the store once.

    Raises:
        ConfigError, StoreError
    """
    reader = ListingReader(layout_of(settings))
    async for page in open_models(settings).list():
        reader.feed(page)
    return reader.finish()
