"""What an audit says of what it could not look up."""

import json

import pytest

from tests.audit import CLEAN, KNOWN, UNKNOWN, judged, pins_of

pytestmark = pytest.mark.core

PINS = ["alpha==1.0", "beta==2.0"]


def a_report(*entries):
    return json.dumps({"dependencies": entries, "fixes": []})


def good(name, version="1.0", vulns=()):
    return {"name": name, "version": version, "vulns": list(vulns)}


def test_nothing_known():
    verdict = judged(PINS, a_report(good("alpha"), good("beta")), "")
    assert verdict.status == CLEAN
    assert verdict.told() == ["audited: 2 pins, 0 known advisories"]


def test_what_is_known_is_named_with_the_version_that_mends_it():
    bad = good("beta", "2.0", [{"id": "PYSEC-1", "fix_versions": ["2.1"]}])
    verdict = judged(PINS, a_report(good("alpha"), bad), "")
    assert verdict.status == KNOWN
    assert verdict.told()[0] == "beta 2.0: PYSEC-1, mended in 2.1"


def test_what_was_skipped_was_not_audited():
    verdict = judged(PINS, a_report(good("alpha"), {"name": "beta", "skip_reason": "not found"}), "")
    assert verdict.status == UNKNOWN
    assert verdict.told()[:2] == [
        "NOT AUDITED: 1 of 2 pins (beta)",
        "because the advisories could not be had: not found",
    ]


@pytest.mark.parametrize("report", ["", "no JSON"])
def test_without_a_report_nothing_was_audited(report):
    verdict = judged(PINS, report, "Traceback\nConnectionError: name not known\n")
    assert verdict.status == UNKNOWN
    assert "ConnectionError: name not known" in verdict.told()[1]
    assert not any("audited: 0" in line for line in verdict.told())


def test_pins_are_the_lines_with_a_version():
    assert pins_of("# a==1 in a comment\nalpha==1.0\n\nbeta==2.0  \nfree\n") == PINS
