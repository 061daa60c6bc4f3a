"""What the store offers now. Pure: a listing becomes a snapshot and rejects with reasons; refs resolve in it.

``listing`` reads pages, ``contents`` says what belongs to a version, ``settling`` decides which versions count yet,
``snapshot`` resolves and compares, ``stored`` writes and reads a snapshot as bytes.
"""

from __future__ import annotations

from hotset.catalog.contents import (
    PUBLISHING,
    SUCCESS,
    UnfaithfulVersionError,
    VersionContents,
    version_contents,
)
from hotset.catalog.entries import Layout, ModelEntry, Reject, VersionEntry
from hotset.catalog.listing import MAX_REJECTS, Listing, ListingReader
from hotset.catalog.misfit import explain_misfit
from hotset.catalog.settling import Settling, Sighting, settle
from hotset.catalog.snapshot import Catalog, Diff, Snapshot, diff, keep_lookups
from hotset.catalog.stored import SnapshotFormatError, dump, load

__all__ = [
    "MAX_REJECTS",
    "PUBLISHING",
    "SUCCESS",
    "Catalog",
    "Diff",
    "Layout",
    "Listing",
    "ListingReader",
    "ModelEntry",
    "Reject",
    "Settling",
    "Sighting",
    "Snapshot",
    "SnapshotFormatError",
    "UnfaithfulVersionError",
    "VersionContents",
    "VersionEntry",
    "diff",
    "dump",
    "explain_misfit",
    "keep_lookups",
    "load",
    "settle",
    "version_contents",
]
