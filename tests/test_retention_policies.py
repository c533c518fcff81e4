"""Which checkpoints policies keep: pure functions of steps, times and metadata."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptstore import Best, EverySteps, Latest, Pinned, WithinAge
from ckptstore.metrics import numbers_in
from ckptstore.retention import Candidate, Union

NOW = datetime(2030, 1, 10, tzinfo=UTC)


def candidates(*steps, **metrics):
    """Return candidates in that order, one hour apart, the last one an hour old."""
    return [
        Candidate(step, NOW - timedelta(hours=len(steps) - position), {n: v[position] for n, v in metrics.items()})
        for position, step in enumerate(steps)
    ]


def kept(policy, given):
    return sorted(policy.keeps(given, NOW))


def test_latest_keeps_the_end_of_the_sequence_whatever_the_steps():
    assert kept(Latest(2), candidates(1, 2, 3)) == [2, 3]
    assert kept(Latest(2), candidates(800, 900, 1000, 600, 700)) == [600, 700]
    assert kept(Latest(9), candidates(1, 2)) == [1, 2]
    assert kept(Latest(1), []) == []


def test_best_ranks_by_the_metric():
    given = candidates(1, 2, 3, 4, loss=[3.0, 1.0, 2.0, 4])
    assert kept(Best(1, "loss", "min"), given) == [2]
    assert kept(Best(2, "loss", "max"), given) == [1, 4]
    assert Best(1, "loss", "max").keeps(given, NOW) == {4: "highest loss: 4"}


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, None, "0.1", True, [1.0], 10**400])
def test_what_is_no_finite_number_is_never_best(mode, odd):
    assert kept(Best(3, "loss", mode), candidates(1, 2, loss=[odd, 5.0])) == [2]
    assert kept(Best(3, "loss", mode), candidates(1, 2, loss=[odd, odd])) == []


def test_a_missing_metric_is_not_best_either():
    assert kept(Best(3, "loss", "min"), candidates(1, 2, accuracy=[0.1, 0.2])) == []


def test_of_two_equally_good_ones_the_higher_step_is_kept():
    for mode in ("min", "max"):
        assert kept(Best(1, "loss", mode), candidates(3, 1, 2, loss=[0.5, 0.5, 0.5])) == [3]


def test_a_metric_may_lie_deeper_and_an_exact_name_goes_first():
    both = {"eval.loss": 0.5, "eval": {"loss": 9}}
    nested = [Candidate(1, NOW, {"eval": {"loss": 1.0}}), Candidate(2, NOW, both)]
    assert kept(Best(1, "eval.loss", "min"), nested) == [2]
    assert kept(Best(2, "eval.loss", "min"), nested) == [1, 2]


def test_the_numbers_in_metadata_are_finite_ones_by_dotted_name():
    metadata = {
        "b": {"x.y": 1, "z": {"deep": 2.5}},
        "b.x.y": 3,
        "a": True,
        "nan": math.nan,
        "huge": 10**400,
        "text": "1",
        "list": [1],
    }
    assert numbers_in(metadata) == {"b.x.y": 3, "b.z.deep": 2.5}


def test_the_other_policies():
    assert kept(EverySteps(50), candidates(0, 49, 50, 75, 100)) == [0, 50, 100]
    assert kept(WithinAge(timedelta(hours=2)), candidates(1, 2, 3)) == [2, 3]
    assert kept(Pinned([2, 7]), candidates(1, 2, 3)) == [2]


def test_a_union_keeps_what_any_keeps_and_tells_every_reason():
    policy = Latest(1) | Best(1, "loss", "min") | Pinned([1])
    assert isinstance(policy, Union)
    assert len(policy.policies) == 3
    assert policy.metrics == {"loss"}
    assert policy.keeps(candidates(1, 2, 3, loss=[1, 2, 0.5]), NOW) == {
        1: "pinned",
        3: "the latest; lowest loss: 0.5",
    }


def test_policies_are_values():
    assert Latest(3) | Pinned([1, 2]) == Latest(3) | Pinned((2, 1))
    assert len({Latest(3), Latest(3), Best(1, "loss", "min")}) == 2
    with pytest.raises(AttributeError):
        Latest(3).count = 4  # type: ignore[misc]
    with pytest.raises(TypeError):
        Latest(3) | 5  # type: ignore[operator]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Latest(0),
        lambda: Latest(True),
        lambda: Best(1, "loss", "lowest"),  # type: ignore[arg-type]
        lambda: Best(0, "loss", "min"),
        lambda: EverySteps(0),
        lambda: WithinAge(timedelta(0)),
        lambda: WithinAge(5),  # type: ignore[arg-type]
        lambda: Pinned([-1]),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(make):
    with pytest.raises(ValueError, match=r"\w"):
        make()
    with pytest.raises(TypeError, match="name"):
        Best(1, "", "min")


metrics = st.one_of(st.none(), st.floats(), st.integers(-5, 5), st.text(max_size=2))


@given(st.lists(st.tuples(st.integers(0, 50), metrics), unique_by=lambda pair: pair[0]), st.randoms())
def test_the_best_do_not_depend_on_the_order_and_none_is_better_than_they_are(pairs, rng):
    given_ = [Candidate(step, NOW, {"loss": value}) for step, value in pairs]
    best = kept(Best(2, "loss", "min"), given_)
    rng.shuffle(given_)
    assert kept(Best(2, "loss", "min"), given_) == best
    finite = [v for _, v in pairs if isinstance(v, int | float) and math.isfinite(v)]
    assert len(best) == min(2, len(finite))
    chosen = [value for step, value in pairs if step in best]
    assert sorted(chosen) == sorted(finite)[: len(best)]
