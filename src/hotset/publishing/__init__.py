"""Putting models into a store so that servers find them whole: files first, marker last, then the index.

For the command line and for training jobs. It only writes; nothing that serves imports it.
"""

from __future__ import annotations

from hotset.publishing.index_file import IndexReport, check_index, rebuild_index, update_index
from hotset.publishing.labels_file import parse_changes, set_labels
from hotset.publishing.publisher import Progress, Published, Publisher
from hotset.publishing.target import Target, parse_target

__all__ = [
    "IndexReport",
    "Progress",
    "Published",
    "Publisher",
    "Target",
    "check_index",
    "parse_changes",
    "parse_target",
    "rebuild_index",
    "set_labels",
    "update_index",
]
