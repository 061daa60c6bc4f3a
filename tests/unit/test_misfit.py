from __future__ import annotations

from hotset.catalog import Layout, Reject, explain_misfit


def test_both_trees_are_shown_with_the_reasons():
    text = explain_misfit(Layout(), [Reject("readme.txt", "it belongs to no model")])
    expected, found = text.split("found:")
    assert "paris/" in expected
    assert "        1/" in expected
    assert "readme.txt   ← it belongs to no model" in found


def test_an_empty_store_says_so():
    assert explain_misfit(Layout(), []).endswith("found:\n    nothing")


def test_a_long_tree_is_cut_and_counted():
    text = explain_misfit(Layout(), [Reject(f"file-{number}", "stray") for number in range(50)])
    assert "… and 30 more" in text
    assert "file-40" not in text


def test_the_example_has_the_depth_of_the_names():
    assert "acme/\n        paris/\n            1/" in explain_misfit(Layout(name_depth=2), [])
    assert "expected:\n    rome/…" in explain_misfit(Layout(static=True, names=frozenset({"rome"})), [])
