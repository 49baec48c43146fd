"""What the jobs make of an assessment: the same from every way of reading, whole through JSON, and told in full."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from strategies_files import picture, write_picture

from pipelines import assessing
from refine.assess import assess
from refine.assessment import Assessment, Estimate
from refine.decoder import Decoder
from refine.errors import ImageReadError
from refine.imagefile import read_image
from refine.preset import Preset
from refine.settings import Settings, Size
from refine.tone import Tone


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A noisy picture of more than one band."""
    return write_picture(tmp_path_factory.mktemp("photo") / "photo.png", picture(700, 500))


def test_assessment_survives_json(photo):
    """What was measured comes back from JSON as it was, the look and the JPEG grid too."""
    image = read_image(photo)
    for found in (assess(image.pixels, image.spec), Assessment(3, 4, blur_sigma=Estimate(0.5), jpeg_grid=(1, 7))):
        assert assessing.unpacked(json.loads(json.dumps(assessing.packed(found)))) == found


def test_bands_give_what_the_whole_gives(tmp_path, monkeypatch):
    """A file that is read band by band, for its size, is assessed as if it were held whole."""
    path = write_picture(tmp_path / "large.png", picture(2300, 2100, 1))
    with Decoder() as decoder:
        spec = decoder.spec(path)
        whole = assessing.assess_file(decoder, path, spec)
        monkeypatch.setattr(assessing, "_WHOLE", 0)
        assert assessing.assess_file(decoder, path, spec) == whole


def test_facts_hold_what_is_promised(photo):
    """Each key of the command's contract is there, JSON can hold it, and people are told all of it."""
    image = read_image(photo)
    found = assess(image.pixels, image.spec)
    settings = Settings(size=Size(scale=Fraction(2)))
    facts = assessing.facts("photo.png", image.spec, found, settings.decided(image.spec, found))
    promised = "path height width effective_long_side blur_sigma noise_sigma jpeg_quality halo white_background"
    assert {*promised.split(), "decision", "reasons", "strengths"} <= json.loads(json.dumps(facts)).keys()
    lines = assessing.told(facts)
    assert lines[0].startswith("photo.png: 500 x 700 px: ")
    assert len(lines) == 1 + 15 + len(facts["reasons"])


def test_need_is_small_and_enough(photo):
    """What the ledger keeps of an image decides it again, and is under a kilobyte."""
    image = read_image(photo)
    settings = Settings(size=Size(scale=Fraction(2)))
    found = assess(image.pixels, image.spec)
    kept = assessing.need(settings.decided(image.spec, found), found)
    assert len(json.dumps([kept.decision, kept.strengths, kept.measured])) < 1000
    again = {name: Estimate(value) for name, value in kept.measured.items() if value is not None}
    assert settings.decided(image.spec, replace(Assessment(700, 500), **again)).action == kept.decision


def test_reference_look_matches_others(tmp_path, photo):
    """A picture is brought nearer to the reference; one without opaque pixels is no reference."""
    dark = write_picture(tmp_path / "dark.png", picture(300, 300) // 2)
    settings = Settings(Preset(), reference=assessing.reference_look(photo))
    image = read_image(dark)
    tone = settings.tone(assess(image.pixels, image.spec))
    assert isinstance(tone, Tone)
    assert tone.white < 1
    invisible = write_picture(tmp_path / "invisible.png", np.zeros((20, 20, 4), np.uint8))
    with pytest.raises(ImageReadError, match="name another image"):
        assessing.reference_look(invisible)


def test_readings_have_units_and_keep_what_has_no_name():
    """Values are told as `refine assess` tells them; what is of another kind stays."""
    told = assessing.readings({"blur_sigma": 1.1, "effective": None, "halo": 0, "later": [1]})
    assert told == {
        "effective resolution": "cannot be told",
        "blur": "1.1 px",
        "halo": "0 % of an edge",
        "later": [1],
    }
    assert assessing.meaning("both") == "both (enlarged, then sharpened)"
    assert assessing.meaning("of later") == "of later"
