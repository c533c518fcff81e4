"""The tree of errors is what its documentation draws."""

from __future__ import annotations

import builtins
import inspect
import pickle
import re
from typing import Any

import pytest

from ckptstore import errors

CLASSES: dict[str, Any] = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and value.__module__ == errors.__name__
}
DRAWN = re.findall(r"^ {4}([│ ]*[├└]── )?(\w+)(?: \((\w+)\))?", errors.__doc__ or "", re.MULTILINE)


def drawn_parents():
    """Each class in the drawing with the one above it: four columns are one level."""
    path: list[str] = []
    for branch, name, _ in DRAWN:
        del path[len(branch) // 4 :]
        yield name, path[-1] if path else None
        path.append(name)


def test_the_tree_draws_every_class_once():
    assert sorted(name for _, name, _ in DRAWN) == sorted(CLASSES)


def test_each_class_stands_below_its_parent():
    for name, parent in drawn_parents():
        ours = [base.__name__ for base in CLASSES[name].__bases__ if base.__name__ in CLASSES]
        assert ours == ([] if parent is None else [parent]), name


def test_each_class_is_the_builtin_that_it_names():
    for _, name, builtin in DRAWN:
        bases = [base for base in CLASSES[name].__bases__ if base.__name__ not in CLASSES]
        expected = {builtin} if builtin else set()
        assert {base.__name__ for base in bases} - {"Exception"} == expected, name
        assert all(getattr(builtins, base.__name__) is base for base in bases)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_says_its_message_has_a_docstring_and_can_be_pickled(name):
    error = CLASSES[name]("what was asked, what was found, what to do")
    assert str(error) == "what was asked, what was found, what to do"
    assert CLASSES[name].__doc__
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_an_incompatible_checkpoint_lists_the_differences():
    error = errors.IncompatibleCheckpoint("does not fit", ("layer.weight: 2x2, not 3x3",))
    assert error.differences == ("layer.weight: 2x2, not 3x3",)
    assert errors.IncompatibleCheckpoint("does not fit").differences == ()
