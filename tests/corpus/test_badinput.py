"""Odd, broken and hostile files: none may hurt, odd but valid ones must decode, and right."""

from __future__ import annotations

from pathlib import Path

import pytest
from report import BY_INTENT, outcomes, verdict

FOLDER = Path(__file__).parents[2] / "../shared/data/badinput"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (FOLDER / "manifest.tsv").exists(), reason="the files are not part of the project"),
]


@pytest.fixture(scope="module")
def found():
    """Every file decoded by both."""
    return list(outcomes(FOLDER))


def test_badinput_is_survived(found):
    """Every refusal is one line with the file's name, no process died, and no file took long."""
    for outcome in found:
        if outcome.reason is not None:
            assert outcome.reason.startswith(Path(outcome.file).name + ": ")
            assert "\n" not in outcome.reason
            assert len(outcome.reason) < 400
            assert "died" not in outcome.reason
            assert "took longer" not in outcome.reason


def test_badinput_is_never_wrong(found):
    """What decodes has a second decoder's pixels, and what is refused is refused elsewhere too, or by intent."""
    assert [o.file for o in found if verdict(o) == "wrong"] == []


def test_badinput_expected_to_decode_decodes(found):
    """What two other decoders agree to decode decodes, unless it is of a kind that is not read, or named."""
    refused = [o for o in found if o.expected == "decode" and o.reason is not None]
    assert {verdict(o) for o in refused} <= {"refused by intent", "named"}


def test_badinput_valid_png_suite_decodes(found):
    """All 162 valid files of PngSuite decode; the 14 broken ones and the two texts beside them do not."""
    suite = [o for o in found if o.group == "pngsuite"]
    assert sum(o.reason is None for o in suite) == 162
    broken = [o for o in suite if Path(o.file).name.split("__")[-1].startswith("x")]
    assert len(broken) == 14
    assert all(o.reason is not None for o in broken)


def test_badinput_refusals_by_intent_say_the_way_out(found):
    """A picture of a kind that is not read is refused for that, not for some codec's reason."""
    meant = [o for o in found if o.second == "by intent"]
    assert len(meant) > 30
    assert all(BY_INTENT.search(o.reason or "") for o in meant)
