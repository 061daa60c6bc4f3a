"""Where a version goes, as people write it."""

from __future__ import annotations

import pytest

from hotset.errors import InvalidInputError
from hotset.publishing import Target, parse_target


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("s3://b/models/paris/3", Target("s3://b/models", "paris", "3")),
        ("s3://b/models/paris/v3/", Target("s3://b/models", "paris", "v3")),
        ("s3://b/models/paris", Target("s3://b/models", "paris", None)),
        ("s3://b/paris", Target("s3://b/", "paris", None)),
        ("az://c/paris/0", Target("az://c/", "paris", "0")),
        ("models/paris/3", Target("models", "paris", "3")),
        ("paris", Target(".", "paris", None)),
        ("./models/paris", Target("./models", "paris", None)),
        ("/srv/models/paris/3", Target("/srv/models", "paris", "3")),
        ("/paris", Target("/", "paris", None)),
        ("file:///srv/models/paris/3", Target("file:///srv/models", "paris", "3")),
    ],
)
def test_a_target_is_a_model_directory_a_name_and_a_number(location: str, target: Target) -> None:
    assert parse_target(location) == target


def test_a_name_may_have_several_parts() -> None:
    assert parse_target("s3://b/m/acme/paris/3", name_depth=2) == Target("s3://b/m", "acme/paris", "3")


@pytest.mark.parametrize("location", ["s3://b", "s3://b/", "s3://b/3", "3", "", "/", "s3://b/_drafts/3"])
def test_a_target_without_a_name_is_refused(location: str) -> None:
    with pytest.raises(InvalidInputError, match=r"expected|starts with"):
        parse_target(location)


def test_the_number_of_a_version_is_read_from_its_folder() -> None:
    assert parse_target("m/paris/v12").version == 12
    assert parse_target("m/paris").version is None
