"""Scores of networks, from their ONNX files, beside bicubic and Lanczos. `report` makes tables of them.

PSNR of luma (BT.601, 16..235) of pictures rounded to 8 bit, a border of `scale` px cut off, mean over the pictures.
Past its edge a picture is mirrored, as in the program.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from models.training.data import Picture
from models.training.degrade import compressed, levels, shrunk
from models.training.kernels import Array, resized

Strength = tuple[float, float]
Method = Callable[[Picture, Strength], Picture]
Scores = dict[str, float]

NOISE, QUALITY = 10.0, 75
"""Of the damaged test pictures: sigma in 8-bit levels, JPEG quality."""
BLUR = 0.4
"""px of the source: sigma of the mild blur."""
CLEAN: Strength = (0.0, 0.0)
UNTOLD = ("clean", "jpeg", "noise", "both", "blur")
"""Test pictures for methods that are told nothing, and so nothing wrong."""
KODAK = 24
"""Photographs of the Kodak set."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network ready to run."""

    id: str
    """Its name."""
    scale: int
    """Output px per input px."""
    halo: int
    """px of mirrored picture put round it."""
    multiple_of: int
    """Windows are made a multiple of this."""
    session: onnxruntime.InferenceSession
    """On one thread."""

    @property
    def told(self) -> bool:
        """Whether it has an input for the strength of the damage."""
        return len(self.session.get_inputs()) > 1

    def __call__(self, picture: Picture, strength: Strength) -> Picture:
        """The picture (y, x, 3) enlarged or repaired, in whole 8-bit levels."""
        return levels(255 * self.values(picture.astype(np.float32) / np.float32(255), strength))

    def values(self, picture: Array, strength: Strength) -> Array:
        """(y, x, 3) in 0..1 to (scale y, scale x, 3), not clipped."""
        height, width = picture.shape[:2]
        ends = [(self.halo, self.halo + -(length + 2 * self.halo) % self.multiple_of) for length in (height, width)]
        image = np.pad(picture, [*ends, (0, 0)], mode="symmetric").transpose(2, 0, 1)[None]
        feed = {"image": np.ascontiguousarray(image)}
        if self.told:
            feed["strength"] = np.asarray(strength, np.float32).reshape(1, 2, 1, 1)
        found: Array = self.session.run(None, feed)[0][0].transpose(1, 2, 0)
        first = self.halo * self.scale
        return found[first : first + height * self.scale, first : first + width * self.scale]


def load_network(file: Path, scale: int, halo: int, multiple_of: int) -> Network:
    """The network of an ONNX file, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return Network(file.stem, scale, halo, multiple_of, session)


def networks(folder: Path) -> Iterator[Network]:
    """The networks of a folder that have a card, by name."""
    for card in sorted(folder.glob("*.toml")):
        facts = tomllib.loads(card.read_text(encoding="utf-8"))
        yield load_network(card.with_suffix(".onnx"), facts["scale"], facts["halo"], facts["multiple_of"])


def plain(kernel: str, scale: int) -> Method:
    """Enlarging without a network."""
    return lambda picture, _: levels(
        resized(picture.astype(np.float32), scale * picture.shape[0], scale * picture.shape[1], kernel)
    )


def luma(picture: Picture) -> NDArray[np.float64]:
    """Y of BT.601, 16..235."""
    weighed: NDArray[np.float64] = picture.astype(np.float64) @ np.array([65.481, 128.553, 24.966])
    return 16 + weighed / 255


def psnr(found: NDArray[np.generic], wanted: NDArray[np.generic], border: int) -> float:
    """Peak signal to noise, dB, peak 255."""
    inside = slice(border, -border or None)
    error = (found.astype(np.float64) - wanted.astype(np.float64))[inside, inside]
    return float(10 * np.log10(255**2 / max(float(np.mean(error**2)), 1e-10)))


def repaired_first(repair: Method, enlarge: Method) -> Method:
    """Repair at the size of the source where something is wrong with it, then enlarge, as the program does."""
    return lambda picture, strength: enlarge(repair(picture, strength) if any(strength) else picture, CLEAN)


def scores(method: Network, data: Path, pictures: int = KODAK) -> Scores:
    """All scores of a network, by name, dB. Those of a part of the Kodak set, its first pictures, say of how many."""
    scale, told = method.scale, method.told
    on_kodak = repairing(method, data, pictures) if scale == 1 else damaged(method, scale, data, pictures, told=told)
    if pictures < KODAK:
        on_kodak = {name.replace("kodak", f"kodak{pictures}"): value for name, value in on_kodak.items()}
    return on_kodak if scale == 1 else {**published(method, scale, data), **on_kodak}


def published(method: Method, scale: int, data: Path) -> Scores:
    """Set5 and Set14, from the small pictures that come with them."""
    values: dict[str, list[float]] = {"set5": [], "set14": []}
    for name, each in values.items():
        for file in sorted((data / name / f"x{scale}").glob("*_LR.png")):
            wanted = picture_of(file.with_name(file.name.replace("_LR", "_HR")))
            each.append(psnr(luma(method(picture_of(file), CLEAN)), luma(wanted), scale))
    return means(values)


def damaged(method: Method, scale: int, data: Path, pictures: int = KODAK, *, told: bool) -> Scores:
    """Kodak: clean, through JPEG, with noise, both, blurred.

    For methods that are told how damaged a picture is, also both with strengths stated 30 % too low and too high.
    """
    noise, jpeg = NOISE / 50, (100 - QUALITY) / 100
    stated = {"jpeg": (0.0, jpeg), "noise": (noise, 0.0), "both": (noise, jpeg), "low": (0.7 * noise, 0.7 * jpeg)}
    stated["high"] = (1.3 * noise, 1.3 * jpeg)
    values: dict[str, list[float]] = {}
    for index, wanted in kodak(data, pictures):
        made = small_pictures(wanted, scale, index)
        for name, small in made.items() if told else [(name, made[name]) for name in UNTOLD]:
            found = method(small, stated.get(name, CLEAN))
            values.setdefault(f"kodak-{name}", []).append(psnr(luma(found), luma(wanted), scale))
    return means(values)


def small_pictures(wanted: Picture, scale: int, seed: int) -> dict[str, Picture]:
    """A picture made small, by what happened to it besides."""
    small = shrunk(wanted, scale)
    grain = NOISE * np.random.default_rng(seed).standard_normal(small.shape)
    noisy = levels((small + grain).astype(np.float32))
    both = compressed(noisy, QUALITY, "420")
    blurred = shrunk(wanted, scale, blur=(BLUR * scale, BLUR * scale))
    jpeg = compressed(small, QUALITY, "420")
    return {"clean": small, "jpeg": jpeg, "noise": noisy, "both": both, "blur": blurred, "low": both, "high": both}


def repairing(method: Method, data: Path, pictures: int = KODAK) -> Scores:
    """Kodak at its own size: noise (PSNR of all channels), JPEG (luma) with the gain over the JPEG itself."""
    values: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        values.setdefault(name, []).append(value)

    for index, wanted in kodak(data, pictures):
        for sigma in (10, 25):
            grain = sigma * np.random.default_rng(index).standard_normal(wanted.shape)
            noisy = levels((wanted + grain).astype(np.float32))
            note(f"kodak-sigma{sigma}-rgb", psnr(method(noisy, (sigma / 50, 0.0)), wanted, 0))
        for quality in (10, 40, 75):
            coded = compressed(wanted, quality, "420")
            found = psnr(luma(method(coded, (0.0, (100 - quality) / 100))), luma(wanted), 0)
            note(f"kodak-q{quality}", found)
            note(f"kodak-q{quality}-gain", found - psnr(luma(coded), luma(wanted), 0))
        note("kodak-untouched", psnr(luma(method(wanted, CLEAN)), luma(wanted), 0))
    return means(values)


def means(values: Mapping[str, list[float]]) -> Scores:
    """The mean of each list, to a thousandth of a dB."""
    return {name: round(float(np.mean(each)), 3) for name, each in values.items()}


def kodak(data: Path, pictures: int = KODAK) -> Iterator[tuple[int, Picture]]:
    """The first so many photographs and their numbers."""
    for index in range(1, pictures + 1):
        yield index, picture_of(data / "kodak" / f"{index}.png")


def picture_of(file: Path) -> Picture:
    """RGB of an 8-bit file; grey comes as R = G = B."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def flat_error(network: Network) -> float:
    """The largest error on a flat grey of any 8-bit level, clean, in 65535ths of full scale."""
    side = 2 * network.multiple_of
    worst = 0.0
    for level in range(256):
        field = np.full((side, side, 3), level / 255, np.float32)
        worst = max(worst, float(np.abs(network.values(field, CLEAN) - np.float32(level / 255)).max()))
    return 65535 * worst


def cost_s(network: Network, side: int = 256, runs: int = 7) -> float:
    """CPU seconds per output megapixel on one core: the least of several runs."""
    feed = np.random.default_rng(0).random((side, side, 3), np.float32)
    network.values(feed, CLEAN)
    seconds = []
    for _ in range(runs):
        before = time.process_time()
        network.values(feed, CLEAN)
        seconds.append(time.process_time() - before)
    megapixels = (side + 2 * network.halo) ** 2 * network.scale**2 / 1e6
    return min(seconds) / megapixels
