"""What the store offers now. Pure: a listing becomes a snapshot and rejects with reasons; refs resolve in it.

``listing`` reads pages, ``reading`` one model's objects, ``contents`` says what belongs to a version, ``settling``
decides which versions count yet, ``labels`` reads the names that they are given, ``snapshot`` resolves and compares, ``models`` holds what a snapshot offers (in
``block``s of ``packing``'s bytes), ``known`` meets it again, ``stored`` writes and reads a snapshot as bytes.
"""

from __future__ import annotations

from hotset.catalog.contents import (
    PUBLISHING,
    SUCCESS,
    UnfaithfulVersionError,
    VersionContents,
    version_contents,
)
from hotset.catalog.entries import Layout, Mark, ModelEntry, Reject, VersionEntry
from hotset.catalog.labels import LABELS_FILE, Labels, LabelsFormatError, parse_labels
from hotset.catalog.listing import Listing, ListingReader
from hotset.catalog.misfit import explain_misfit
from hotset.catalog.models import Draft, Models, differences, without
from hotset.catalog.reading import MAX_REJECTS
from hotset.catalog.settling import Settling, Sighting, settle
from hotset.catalog.snapshot import Catalog, Diff, Snapshot, diff, keep_lookups
from hotset.catalog.stored import SnapshotFormatError, dump, dump_parts, load

__all__ = [
    "LABELS_FILE",
    "MAX_REJECTS",
    "PUBLISHING",
    "SUCCESS",
    "Catalog",
    "Diff",
    "Draft",
    "Labels",
    "LabelsFormatError",
    "Layout",
    "Listing",
    "ListingReader",
    "Mark",
    "ModelEntry",
    "Models",
    "Reject",
    "Settling",
    "Sighting",
    "Snapshot",
    "SnapshotFormatError",
    "UnfaithfulVersionError",
    "VersionContents",
    "VersionEntry",
    "diff",
    "differences",
    "dump",
    "dump_parts",
    "explain_misfit",
    "keep_lookups",
    "load",
    "parse_labels",
    "settle",
    "version_contents",
    "without",
]
