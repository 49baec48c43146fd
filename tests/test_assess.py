"""An assessment as a whole: right on what was done to a picture, blind to what does not matter, safe with anything.

Decisions are the same whatever the tiles, the workers and the way a picture is read.
"""

from __future__ import annotations

import json
import math
from dataclasses import fields
from fractions import Fraction

import imagecodecs
import numpy as np
import pytest
from inkprofile import LINEAR, ink_profile
from scipy import ndimage
from strategies_files import read_picture, write_picture

from pipelines import assessing, feed, manifest, store
from pipelines.catalog import catalog
from pipelines.cluster import Cluster
from pipelines.naming import OWN_FOLDER
from pipelines.single import restore_file
from refine import sampling
from refine.assess import assess
from refine.assessment import UNKNOWN, Estimate
from refine.decide import decide
from refine.imagefile import read_image
from refine.preset import Preset, load_preset
from refine.settings import Settings, Size
from refine.spec import ImageSpec

CHANNEL_TO_LUMA = math.sqrt(0.299**2 + 0.587**2 + 0.114**2)
"""Sigma of luma where each channel has independent noise of sigma 1."""
TONAL = ("posterised",)
"""What rightly differs where 16 bits hold 8: most of their levels are missing."""


def scene(height=300, width=400, seed=0):
    """A picture (y, x, 3) uint8 of overlapping discs, made at twice its size: sharp edges and flat colours between."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: 2 * height, : 2 * width]
    picture = np.full((2 * height, 2 * width, 3), 120, np.float32)
    for radius in np.sort(rng.uniform(40, 200, 40))[::-1]:
        cy, cx, level = rng.uniform(0, 2 * height), rng.uniform(0, 2 * width), rng.uniform(50, 200)
        picture[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = level + rng.uniform(-25, 25, 3)
    return rounded(picture.reshape(height, 2, width, 2, 3).mean((1, 3)))


def rounded(values):
    """To uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def blurred(pixels, sigma):
    """Blurred by a Gaussian."""
    return rounded(ndimage.gaussian_filter(pixels.astype(float), (sigma, sigma, 0), mode="mirror"))


def noisy(pixels, sigma, seed=1):
    """With independent noise in each channel."""
    return rounded(pixels + np.random.default_rng(seed).normal(0, sigma, pixels.shape))


def assessed(pixels, **spec):
    """The assessment of an array."""
    return assess(pixels, ImageSpec(*pixels.shape, pixels.dtype.name, **spec))


def decided(pixels, scale=2, **spec):
    """What the default preset decides for an array, enlarged."""
    height, width = pixels.shape[:2]
    return decide(Preset(), (height, width), (scale * height, scale * width), assessed(pixels, **spec))


def estimates(found):
    """All estimates by their names."""
    values = {field.name: getattr(found, field.name) for field in fields(found)}
    return {name: value for name, value in values.items() if isinstance(value, Estimate)}


@pytest.fixture(scope="module")
def clean():
    """A sharp picture without noise."""
    return scene()


@pytest.mark.parametrize("sigma", [0.8, 1.5, 2.5])
def test_assess_measures_blur(clean, sigma):
    """Blur is told within 15 % of what was put on, and that of sharp edges stays below all of it."""
    found = assessed(blurred(clean, sigma)).blur_sigma.value
    assert found == pytest.approx(math.hypot(0.4, sigma), rel=0.15)
    assert assessed(clean).blur_sigma.value < 0.6


@pytest.mark.parametrize("sigma", [3, 12])
def test_assess_measures_noise(clean, sigma):
    """Noise of luma and of colour is told within 15 %, and none is found where there is none."""
    found = assessed(noisy(clean, sigma))
    assert found.noise_luma.value == pytest.approx(CHANNEL_TO_LUMA * sigma, rel=0.15)
    assert found.noise_chroma.value == pytest.approx(math.sqrt(2) * sigma, rel=0.15)
    assert assessed(clean).noise_luma.value < 0.5


@pytest.mark.parametrize("quality", [50, 80])
def test_assess_measures_jpeg(tmp_path, clean, quality):
    """The quality of a JPEG is told from its file within 3, and from its pixels alone within 10."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(imagecodecs.jpeg8_encode(clean, level=quality))
    image = read_image(path)
    assert assess(image.pixels, image.spec).jpeg_quality == Estimate(pytest.approx(quality, abs=3))
    assert assessed(image.pixels).jpeg_quality.value == pytest.approx(quality, abs=10)
    assert assessed(clean).jpeg_quality.value == 100


@pytest.mark.parametrize("scale", [2, 3])
def test_assess_finds_earlier_enlargements(clean, scale):
    """A picture that was enlarged is told by how many times, and holds so much less detail than its pixels could."""
    enlarged = rounded(ndimage.zoom(clean.astype(float), (scale, scale, 1), order=3, grid_mode=True, mode="mirror"))
    found = assessed(enlarged)
    assert found.enlarged.value == pytest.approx(scale, rel=0.15)
    assert found.effective.value == pytest.approx(1 / scale, rel=0.15)


def test_assess_does_not_see_hidden_colours(clean):
    """What colours lie under full transparency changes nothing."""
    hidden = np.zeros(clean.shape[:2], bool)
    hidden[:, 250:] = True
    alpha = np.where(hidden, 0, 255).astype(np.uint8)[..., None]
    grainy = noisy(clean, 5)
    speckled = np.random.default_rng(2).integers(0, 256, clean.shape).astype(np.uint8)
    found = [
        assessed(np.concatenate([np.where(hidden[..., None], other, grainy).astype(np.uint8), alpha], axis=2))
        for other in (0, 100, speckled)
    ]
    assert found[0] == found[1] == found[2]
    assert found[0].transparent.value == pytest.approx(hidden.mean(), abs=1e-4)


@pytest.mark.parametrize("kind", ["grey", "RGB", "alpha"])
def test_assess_knows_8_bits_in_16(clean, kind):
    """8 bits stored as 16 measure as they are, to within the rounding that is taken off, and decide the same."""
    pixels = noisy(blurred(clean, 1.2), 5)
    if kind == "grey":
        pixels = pixels[..., :1]
    if kind == "alpha":
        pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    wide = pixels.astype(np.uint16) * 257
    narrow_found, wide_found = estimates(assessed(pixels)), estimates(assessed(wide))
    for name, narrow in narrow_found.items():
        if name not in TONAL:
            assert wide_found[name].over(-1) == pytest.approx(narrow.over(-1), abs=0.1), name
    assert decided(pixels).action == decided(wide).action
    assert decided(wide).strengths == pytest.approx(decided(pixels).strengths, abs=0.05)


def test_assess_takes_grey_as_equal_channels(clean):
    """A grey picture measures as the same with three equal channels, but that its colour has no noise to be told."""
    grey = noisy(blurred(clean, 1), 4)[..., 1:2]
    one, three = assessed(grey), assessed(np.repeat(grey, 3, axis=2))
    assert (one.noise_chroma, three.noise_chroma.value) == (UNKNOWN, 0)
    apart = {"noise_chroma", "noise_luma"}
    assert {n: e for n, e in estimates(one).items() if n not in apart} == {
        n: e for n, e in estimates(three).items() if n not in apart
    }
    # The rounding of one channel is larger than that of the mean of three.
    assert one.noise_luma.value == pytest.approx(three.noise_luma.value, abs=0.1)


def test_assess_measures_encodings_as_they_are_seen(clean):
    """Ink, L*a*b* and linear light are measured as the program sees them: with the noise and blur of the picture."""
    soft = noisy(blurred(clean, 1.5), 6)
    linear = assessed(np.round(_decoded(soft / 255.0) * 65535).astype(np.uint16), icc=LINEAR)
    assert linear.noise_luma.value == pytest.approx(CHANNEL_TO_LUMA * 6, rel=0.15)
    assert linear.blur_sigma.value == pytest.approx(1.55, rel=0.15)
    # L* is nearly proportional to the values of sRGB; a* and b* of 0 are neutral.
    lab = assessed(np.round(soft[..., :1] * 257.0 * [1, 0, 0] + [0, 32896, 32896]).astype(np.uint16), space="lab")
    assert lab.noise_luma.value == pytest.approx(6, rel=0.15)
    assert lab.noise_chroma.value < 0.5
    light, dark = (
        assessed(
            np.dstack([255 - blurred(clean, 1.5), np.full(soft.shape[:2], black, np.uint8)]),
            icc=ink_profile(),
            space="cmyk",
        )
        for black in (0, 64)
    )
    assert light.blur_sigma.value == pytest.approx(1.55, rel=0.15)
    # A quarter of black ink takes up to a quarter of the light: the profile's corners are far apart.
    assert 0.7 * light.look.median < dark.look.median < 0.95 * light.look.median


def _decoded(values):
    """sRGB to linear light, IEC 61966-2-1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


NOTHING = {
    "1 x 1": np.full((1, 1, 3), 90, np.uint8),
    "1 x 500": np.arange(500, dtype=np.uint8)[None, :, None],
    "500 x 1": np.arange(500, dtype=np.uint16)[:, None, None] * 100,
    "7 x 7": np.random.default_rng(0).integers(0, 256, (7, 7, 3)).astype(np.uint8),
    "8 x 8": np.random.default_rng(0).integers(0, 256, (8, 8, 4)).astype(np.uint8),
    "64 x 64": np.random.default_rng(0).integers(0, 256, (64, 64, 2)).astype(np.uint8),
    "black": np.zeros((300, 200, 3), np.uint8),
    "white": np.full((300, 200, 1), 65535, np.uint16),
    "clear": np.zeros((300, 200, 4), np.uint8),
    "clear but for 1 px": np.pad(np.full((1, 1, 4), 255, np.uint8), ((150, 149), (100, 99), (0, 0))),
    "half clear": np.full((300, 200, 4), 128, np.uint8),
    "two levels": np.random.default_rng(0).integers(0, 2, (300, 200, 1)).astype(np.uint8) * 255,
    "checks": np.indices((300, 200)).sum(0).astype(np.uint8)[..., None] % 2 * 255,
    "ramp": np.linspace(0, 65535, 300 * 200).reshape(300, 200, 1).astype(np.uint16),
    "noise": np.random.default_rng(0).integers(0, 65536, (300, 200, 3)).astype(np.uint16),
}
"""Pictures in which there is little or nothing to measure."""


@pytest.mark.parametrize("name", NOTHING)
def test_assess_takes_any_picture(name):
    """Whatever the pixels, each estimate is a number in its range or cannot be told, and a decision can be made."""
    pixels = NOTHING[name]
    before, found = pixels.copy(), assessed(pixels)
    assert np.array_equal(pixels, before)
    for field, estimate in estimates(found).items():
        assert estimate.value is None or (math.isfinite(estimate.value) and estimate.value >= 0), field
    shares = ("effective", "clipped_black", "clipped_white", "posterised", "white_background", "transparent", "text")
    assert all(getattr(found, share).over(0) <= 1 for share in shares)
    spec = ImageSpec(*pixels.shape, pixels.dtype.name)
    for preset in ("balanced", "crisp", "archive"):
        settings = Settings(load_preset(preset), Size(scale=Fraction(2)))
        facts = assessing.facts(name, spec, found, settings.decided(spec, found))
        assert "nan" not in json.dumps([facts, assessing.told(facts)]).lower()
        assert settings.plan(spec, found).output == (2 * pixels.shape[0], 2 * pixels.shape[1])


@pytest.mark.parametrize("name", ["1 x 1", "black", "white", "clear", "ramp", "checks"])
def test_assess_finds_nothing_to_mend_in_nothing(name):
    """A picture without content, or with perfect content, is neither cleaned nor sharpened."""
    strengths = decided(NOTHING[name]).strengths
    assert (strengths["repair.noise"], strengths["repair.quality"], strengths["sharpen.amount"]) == (0, 100, 0)


class _Watched:
    """A source that notes what is read of it."""

    def __init__(self, pixels):
        self.pixels, self.reads = pixels, []

    def __getitem__(self, index):
        self.reads.append(index)
        return self.pixels[index]


def test_assess_reads_each_window_once(monkeypatch, clean):
    """Of a large picture only the windows of its grid are read, each once."""
    monkeypatch.setattr(sampling, "WHOLE", 40_000)
    monkeypatch.setattr(sampling, "SIDE", 64)
    watched = _Watched(clean)
    assess(watched, ImageSpec(*clean.shape, "uint8"))
    assert watched.reads == [window.slices for window in sampling.sample_windows(*clean.shape[:2])]
    assert len(watched.reads) > 4


@pytest.mark.parametrize("chunk", [64, 128, 256])
def test_assess_is_blind_to_storage(tmp_path, monkeypatch, clean, chunk):
    """A picture in storage, cut into chunks that cross the windows, is assessed as in memory."""
    monkeypatch.setattr(sampling, "WHOLE", 40_000)
    monkeypatch.setattr(sampling, "SIDE", 96)
    array = store.create(tmp_path / "source", clean.shape, "uint8", 256, chunk)
    array[:, :] = clean
    spec = ImageSpec(*clean.shape, "uint8")
    assert assess(array, spec) == assess(clean, spec)


def _settings(tile):
    chosen = {"upscale.nets": "[]", "plan.tile": str(tile), "plan.block": "128"}
    return Settings(load_preset("balanced", chosen), Size(scale=Fraction(3, 2)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five pictures that need different things, each of more tiles than one."""
    place, small = tmp_path_factory.mktemp("decisions") / "source", scene(200, 220, 4)
    cut = np.dstack([small, np.where(np.arange(220) < 150, 255, 0).astype(np.uint8)[None].repeat(200, 0)])
    write_picture(place / "cut.png", cut)
    write_picture(place / "soft.png", blurred(small, 1.6))
    write_picture(place / "noisy.tif", noisy(small, 9).astype(np.uint16) * 257)
    write_picture(place / "grey.png", noisy(blurred(small[..., :1], 1), 3))
    (place / "worn.jpg").write_bytes(imagecodecs.jpeg8_encode(blurred(small, 1), level=60))
    return place


@pytest.fixture(scope="module")
def expected(folder):
    """What `assess` says of each, by name: decision, strengths, values."""
    told = {}
    for path in sorted(folder.iterdir()):
        image = read_image(path)
        found = assess(image.pixels, image.spec)
        made = assessing.need(_settings(512).decided(image.spec, found), found)
        told[path.name] = made.decision, made.strengths, made.measured
    assert len({json.dumps(strengths) for _, strengths, _ in told.values()}) == len(told), "they must differ"
    return told


def ledger(target):
    """What the ledger of a job holds of each image."""
    with manifest.opened(target / OWN_FOLDER) as held:
        return {record.path: (record.decision, record.strengths, record.measured) for record in held.records("done")}


@pytest.mark.parametrize("way", ["whole", "tiled"])
@pytest.mark.parametrize("tile", [128, 512])
def test_decisions_do_not_depend_on_tiles(tmp_path, shared, monkeypatch, folder, expected, tile, way):
    """Two workers, tiles of any size, pictures whole or in tiles: the ledger holds what `assess` says."""
    if way == "tiled":
        monkeypatch.setattr(feed, "BATCH_S", 0.0)
    assert catalog(folder, tmp_path / "target", _settings(tile), shared).complete
    assert ledger(tmp_path / "target") == expected


def test_decisions_do_not_depend_on_workers(tmp_path, folder, expected):
    """One worker decides and makes what `refine restore` does in its own process."""
    assert catalog(folder, tmp_path / "target", _settings(128), Cluster(workers=1)).complete
    assert ledger(tmp_path / "target") == expected
    for path in sorted(folder.iterdir()):
        summary = restore_file(path, tmp_path / path.name, _settings(512), quiet=True)
        assert summary.decisions == {expected[path.name][0]: 1}
        one, other = (read_picture(place / path.name) for place in (tmp_path, tmp_path / "target"))
        assert np.array_equal(one, other), path.name
