"""Labels: names that a file in the store gives to a model's versions, such as ``stable: 3``. Pure.

``<name>/labels.yaml`` stands beside the version directories. A listing shows that it is there, the residency reads it
where it is new, and from then on a model's entry has what it says. One file is one statement: where a line of it cannot
be used, none is, and what the last good one said goes on being true.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml

from hotset.errors import InvalidInputError
from hotset.keys import parse_label, parse_version

if TYPE_CHECKING:  # what a listing holds; the catalog itself needs no store
    from hotset.store import ObjectMeta

LABELS_FILE: Final = "labels.yaml"
MOST_BYTES: Final = 16 << 10
"""A larger file is refused without being read."""

_PLAIN: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*):[ \t]+(v?[0-9]+)[ \t\r]*(?:[ \t]#.*)?")
_NOTHING: Final = re.compile(r"[ \t\r]*(?:#.*)?")
_MOST_SHOWN: Final = 60
_EXAMPLE: Final = "stable: 3"


class LabelsFormatError(ValueError):
    """The bytes say nothing that can be used; the message says where, what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What a model's labels mean in the store, in order of name.

    ``etag`` is that of the file which says so, empty if something else did. ``problem``: why a newer file is not used;
    then the labels are those of the last good one.
    """

    etag: str
    targets: tuple[tuple[str, int], ...]
    problem: str = ""

    def target(self, label: str) -> int | None:
        """Return the number that a label stands for, or None if there is no such label."""
        return next((number for name, number in self.targets if name == label), None)


def labels_object(name: str, objects: Iterable[ObjectMeta]) -> ObjectMeta | None:
    """Return a model's file of labels as a listing shows it, or None if there is none."""
    path = f"{name}/{LABELS_FILE}"
    # A page boundary may show one object twice.
    return max((it for it in objects if it.path == path), key=lambda it: it.modified_s, default=None)


def parse_labels(data: bytes) -> tuple[tuple[str, int], ...]:
    """Return what a file of labels says, in order of name.

    Raises:
        LabelsFormatError: it is empty, no YAML, or anything in it is not a label with a version's number.
    """
    if len(data) > MOST_BYTES:
        raise too_large(len(data))
    if not data.strip():
        # So a file looks for a moment that is being written; whoever means no labels deletes it.
        raise LabelsFormatError(
            f"found an empty file, expected lines such as '{_EXAMPLE}'; delete it, or write {{}}, for no labels"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelsFormatError(
            f"found bytes that are no UTF-8, expected lines such as '{_EXAMPLE}'"
        ) from error
    plain = _plain_lines(text)
    found: dict[str, int] = {}
    for line, label, version in plain if plain is not None else _yaml_lines(text):
        if label in found:
            raise LabelsFormatError(f"line {line}: found the label {label!r} twice, expected it once")
        found[_label(label, line)] = _number(label, version, line)
    return tuple(sorted(found.items()))


def too_large(size: int) -> LabelsFormatError:
    """Return what to say of a file of that size."""
    return LabelsFormatError(f"found {size} bytes, expected at most {MOST_BYTES}")


def with_label(data: bytes | None, label: str, number: int | None) -> bytes:
    """Return a file's text with one label set, or, with None, without it; comments and other lines stay.

    Raises:
        LabelsFormatError: the file as it is cannot be used, or is not one label to a line.
        InvalidInputError: the label is none.
    """
    parse_label(label)
    if data is not None:
        parse_labels(data)
    lines = [] if data is None else data.decode("utf-8-sig").splitlines()
    if data is not None and _plain_lines("\n".join(lines)) is None:
        if _yaml_lines(data.decode("utf-8-sig")):
            raise LabelsFormatError("found other YAML than one label to a line; change it by hand")
        lines = []
    kept = [line for line in lines if (match := _PLAIN.fullmatch(line)) is None or match[1] != label]
    at = next((i for i, it in enumerate(lines) if (m := _PLAIN.fullmatch(it)) and m[1] == label), len(kept))
    if number is not None:
        kept.insert(at, f"{label}: {number}")
    if not any(_PLAIN.fullmatch(line) for line in kept):
        kept.append("{}")
    return ("\n".join(kept) + "\n").encode()


def _plain_lines(text: str) -> list[tuple[int, str, str]] | None:
    """Return the lines of a file that is as simple as nearly all are; None where YAML has to be asked."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        match = _PLAIN.fullmatch(line)
        if match is not None:
            found.append((number, match[1], match[2]))
        elif _NOTHING.fullmatch(line) is None:
            return None
    return found or None


def _yaml_lines(text: str) -> Sequence[tuple[int, str, str]]:
    # Composed and not loaded: `on` is a label like any other and no truth value, and a key given twice is seen.
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = " ".join(str(getattr(error, "problem", None) or error).split())
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise LabelsFormatError(f"{where}this is no YAML: {said}") from error
    if not isinstance(root, yaml.MappingNode):
        raise LabelsFormatError(f"expected lines such as '{_EXAMPLE}', found {_shown(root)}")
    return [*_scalars(root)]


def _scalars(root: yaml.MappingNode) -> Iterator[tuple[int, str, str]]:
    for key, value in root.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise LabelsFormatError(f"line {line}: expected a label such as stable, found {_shown(key)}")
        if not isinstance(value, yaml.ScalarNode):
            raise LabelsFormatError(
                f"line {line}: expected a version's number for {_cut(key.value)!r}, found {_shown(value)}"
            )
        yield line, key.value, value.value


def _label(text: str, line: int) -> str:
    try:
        return parse_label(text)
    except InvalidInputError as error:
        raise LabelsFormatError(f"line {line}: {error}") from error


def _number(label: str, text: str, line: int) -> int:
    number = parse_version(text)
    if number is None:
        raise LabelsFormatError(
            f"line {line}: expected a version's number for {_cut(label)!r}, such as 3, found {_cut(text)!r}"
        )
    return number


def _shown(node: yaml.Node | None) -> str:
    if isinstance(node, yaml.ScalarNode):
        return f"the text {_cut(node.value)!r}"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "a mapping" if isinstance(node, yaml.MappingNode) else "nothing"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
