import pytest

from peekserve.domain.application import Application, QueryType, Variant
from peekserve.errors import InvalidConfiguration


def an_application(**kwargs):
    return Application(
        **{"name": "a", "classes": ("x", "y", "z"), "variants": (Variant("v", "1", "v"),), **kwargs}
    )


def test_a_prior_that_does_not_fit_the_classes_is_told_with_both_numbers():
    with pytest.raises(
        InvalidConfiguration, match=r"one positive entry for each of 3 classes, not 2: \[0.5, 0.5\]"
    ):
        an_application(prior=(0.5, 0.5))
    with pytest.raises(InvalidConfiguration, match=r"positive entry.*\[1.0, 0.0, 1.0\]"):
        an_application(prior=(1.0, 0.0, 1.0))


def test_an_unknown_query_type_names_those_that_there_are():
    queries = (("default", QueryType(1.0)), ("urgent", QueryType(0.1)))
    app = an_application(prior=(1.0,) * 3, queries=queries)
    assert app.query("urgent").deadline_s == 0.1
    with pytest.raises(InvalidConfiguration, match="no query type 'idle'; it has default, urgent"):
        app.query("idle")


def test_a_deadline_is_not_above_the_types_own_maximum():
    with pytest.raises(InvalidConfiguration, match="2 s is above its own max_deadline, 1 s"):
        QueryType(2.0, max_deadline_s=1.0)
