"""Object stores behind one protocol: S3, GCS, Azure, a local directory, memory, or several of them as one.

``open_store`` turns a URL into a store; ``MountedStore`` joins several. Nothing here knows of models or versions, and no
other part of hotset imports obstore.
"""

from __future__ import annotations

from hotset.store.base import (
    ConflictError,
    Content,
    ObjectChangedError,
    ObjectMeta,
    ObjectStore,
    Revision,
    StoreBusyError,
    WritableStore,
)
from hotset.store.linked import LinkedStore
from hotset.store.location import StoreLimits, open_store
from hotset.store.mounted import MountedStore
from hotset.store.slots import Slot, Slots

__all__ = [
    "ConflictError",
    "Content",
    "LinkedStore",
    "MountedStore",
    "ObjectChangedError",
    "ObjectMeta",
    "ObjectStore",
    "Revision",
    "Slot",
    "Slots",
    "StoreBusyError",
    "StoreLimits",
    "WritableStore",
    "open_store",
]
