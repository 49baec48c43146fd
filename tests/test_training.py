"""The recipe of the networks. What needs torch is skipped without it; the shipped program never needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from models.training.architecture import NETS, Architecture
from models.training.card import card
from models.training.data import CELL, crops_of
from models.training.degrade import ENLARGE, REPAIR, batch, shrunk
from models.training.evaluate import flat_error, load_network, luma, psnr
from models.training.export import calibrated, flat_features, graph_of, write_network
from models.training.kernels import resize_matrix, resized
from models.training.sketch import page
from refine.reach import reach

SMALL = Architecture(scale=2, channels=16, blocks=2, side=16)


def _weights(net: Architecture, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights, of the size that training leaves."""
    rng = np.random.default_rng(seed)
    width = net.channels
    shapes = {"head": (width, 3 * net.unshuffle**2), "tail": (3 * net.factor**2, width)}
    shapes |= {f"body.{block}.{part}": (width, width) for block in range(net.blocks) for part in "ab"}
    weights = {"strength.weight": rng.normal(0, 0.1, (width, 2)).astype(np.float32)}
    for name, (target, source) in shapes.items():
        spread = 0.02 if name == "tail" else (9 * source) ** -0.5
        weights[f"{name}.weight"] = rng.normal(0, spread, (target, source, 3, 3)).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(0, 0.02, target).astype(np.float32)
    return weights


def _photograph(seed: int = 0, side: int = 256) -> np.ndarray:
    """A made-up photograph: soft light with letters on it."""
    rng = np.random.default_rng(seed)
    light = resized(rng.uniform(40, 200, (6, 6, 3)).astype(np.float32), side, side)
    return np.clip(0.6 * light + 0.4 * page(rng, side), 0, 255).astype(np.uint8)


def test_resize_matrix_is_that_of_the_benchmarks():
    """Halving weighs eight px by Keys' cubic of a = -0.5, widened twice; the values are those of MATLAB's imresize."""
    row = resize_matrix(32, 16)[8]
    expected = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    np.testing.assert_allclose(row[13:21], expected, atol=1e-6)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "area", "lanczos"])
@pytest.mark.parametrize("sizes", [(32, 16), (32, 8), (16, 32), (7, 3)], ids=str)
def test_resize_matrix_keeps_flat_fields(kernel, sizes):
    """Every output px is a mean: its weights sum to 1, at the edges too."""
    np.testing.assert_allclose(resize_matrix(*sizes, kernel).sum(axis=1), 1, atol=1e-6)


def test_crops_are_drawn_where_something_happens():
    """A busy picture is drawn more often than a flat one, and a flat one still now and then."""
    flat = np.zeros((256, 256, 3), np.uint8)
    crops = crops_of((flat, _photograph()))
    rng = np.random.default_rng(0)
    busy = np.mean([crops.draw(rng, 4 * CELL).max() > 0 for _ in range(300)])
    assert 0.7 < busy < 1


def test_crops_draw_anything_anywhere():
    """Squares fit into the smallest picture and reach all of its corners."""
    picture = np.arange(96 * 96).astype(np.uint32)
    picture = np.stack([picture >> 8, picture & 255, picture * 0], -1).reshape(96, 96, 3).astype(np.uint8)
    crops, rng = crops_of((picture,)), np.random.default_rng(0)
    seen = {tuple(v) for _ in range(400) for v in crops.draw(rng, 48)[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()}
    assert {tuple(picture[y, x].tolist()) for y in (0, -1) for x in (0, -1)} <= seen


@pytest.mark.parametrize(("damage", "scale"), [(ENLARGE, 2), (ENLARGE, 4), (REPAIR, 1)], ids=["x2", "x4", "x1"])
def test_batch_depends_on_its_seed_alone(damage, scale):
    """A step sees the same squares whenever it runs: that is what makes a resumed run the same run."""
    crops = crops_of((_photograph(),))
    first, again = (batch(crops, damage, scale, (6, 24), np.random.default_rng([3, 7])) for _ in range(2))
    assert first.low.shape == (6, 3, 24, 24)
    assert first.high.shape == (6, 3, 24 * scale, 24 * scale)
    np.testing.assert_array_equal(first.low, again.low)
    np.testing.assert_array_equal(first.high, again.high)
    np.testing.assert_array_equal(first.strength, again.strength)


def test_batch_squares_lie_upon_each_other():
    """The damaged square is the undamaged one made small: no shift, no mix-up within the batch."""
    squares = batch(crops_of((_photograph(),)), ENLARGE, 2, (16, 32), np.random.default_rng(5))
    for low, high, strength in zip(squares.low, squares.high, squares.strength, strict=True):
        if not strength.any():
            small = shrunk(np.rint(255 * high.transpose(1, 2, 0)).astype(np.uint8), 2)
            difference = np.abs(small.transpose(2, 0, 1) / 255 - low)[:, 4:-4, 4:-4]
            assert difference.mean() < 0.03


def test_batch_tells_the_strength_of_the_noise():
    """A stated sigma is the measured one, within the slack."""
    flat = np.full((256, 256, 3), 120, np.uint8)
    squares = batch(crops_of((flat,)), REPAIR, 1, (48, 48), np.random.default_rng(1))
    noise = (squares.low - squares.high).std(axis=(1, 2, 3)) * 255 / 50
    only = (squares.strength[:, 1] == 0) & (squares.strength[:, 0] > 0.1) & (np.ptp(squares.high, axis=(1, 2, 3)) == 0)
    assert only.sum() > 5
    np.testing.assert_allclose(noise[only], squares.strength[only, 0], rtol=0.22)


@pytest.mark.parametrize("net_id", sorted(NETS))
def test_graph_reach_is_the_declared_one(net_id):
    """Scale, halo and step of the windows, read off the exported graph, are those on the card."""
    net = NETS[net_id]
    found = reach(graph_of(_weights(net), net))
    assert (found.scale, found.multiple_of, found.exact) == (net.scale, net.unshuffle, True)
    assert found.halo == net.halo


def test_calibrated_keeps_flat_fields_flat(tmp_path):
    """After calibration a flat grey comes out ten times flatter, run by onnxruntime."""
    weights = _weights(SMALL)
    errors = []
    for name, held in (("raw", weights), ("calibrated", calibrated(weights, SMALL))):
        write_network(held, SMALL, tmp_path / f"{name}.onnx", {})
        errors.append(flat_error(load_network(tmp_path / f"{name}.onnx", SMALL.scale, SMALL.halo, 1)))
    assert errors[1] < errors[0] / 10


def test_flat_features_are_those_of_the_graph():
    """A flat picture through the graph gives what the calibration reckons with, strength included."""
    net = Architecture(scale=1, channels=16, blocks=1, unshuffle=2)
    weights = _weights(net)
    colour, strength = np.float32([[0.2, 0.5, 0.9]]), np.float32([[0.3, 0.6]])
    session = onnxruntime.InferenceSession(graph_of(weights, net).SerializeToString())
    field = np.broadcast_to(colour[:, :, None, None], (1, 3, 32, 32)).astype(np.float32)
    found = session.run(None, {"image": field, "strength": strength[:, :, None, None]})[0][0, :, 16:18, 16:18]
    features = flat_features(weights, net, colour, strength)
    tail = features @ weights["tail.weight"].sum(axis=(2, 3)).T + weights["tail.bias"]
    expected = tail.reshape(3, 2, 2) + colour[0][:, None, None]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_psnr_of_a_known_error():
    """An error of one level everywhere is 20 log10(255), and what lies in the border does not count."""
    wanted = np.zeros((16, 16))
    found = wanted + 1
    found[0] = 200
    assert psnr(found, wanted, 2) == pytest.approx(48.1308, abs=1e-4)
    assert luma(np.full((1, 1, 3), 255, np.uint8))[0, 0] == pytest.approx(235)


def test_card_is_read_by_the_program(tmp_path):
    """Card and file, put where the shipped ones are, load as a network."""
    import tomllib  # noqa: PLC0415

    from refine.card import ModelCard  # noqa: PLC0415

    write_network(_weights(SMALL), SMALL, tmp_path / "small.onnx", {})
    facts = {"cost_s": 0.1, "flat_error": 1.5, "scores": {"set5": 1.0}, "data": ["a: 1 crops, CC0"]}
    table = tomllib.loads(card("small", SMALL, (tmp_path / "small.onnx").read_bytes(), facts))
    assert ModelCard(id="small", **{name: table[name] for name in ModelCard.__slots__ if name != "id"}).scale == 2


def test_evaluation_needs_no_torch(checkout):
    """Scores are reproduced from the ONNX files without torch."""
    code = "import sys; sys.modules['torch'] = None; import models.training.evaluate, models.training.export"
    subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True)


@pytest.mark.slow
def test_training_learns_resumes_and_exports(tmp_path, monkeypatch):
    """Minutes of training: the loss falls, a resumed run ends where an unbroken one does, the file equals torch."""
    torch = pytest.importorskip("torch", reason="training needs torch: the extra `train`")
    from models.training import train  # noqa: PLC0415

    torch.set_num_threads(1)
    monkeypatch.setitem(NETS, "small", SMALL)
    crops = crops_of(tuple(_photograph(seed) for seed in range(6)))
    schedule = train.Schedule(steps=120, batch=4)
    whole = train.fresh("small", schedule)
    losses = [train.one_step(whole, schedule, crops) for _ in range(120)]
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:20])

    broken = train.fresh("small", schedule)
    for _ in range(60):
        train.one_step(broken, schedule, crops)
    train.save(broken, schedule, "small", tmp_path / "small.pt")
    broken = train.resumed("small", schedule, tmp_path / "small.pt")
    assert [train.one_step(broken, schedule, crops) for _ in range(60)] == pytest.approx(losses[60:], rel=1e-3)

    _assert_export_equals_torch(torch, whole, tmp_path / "small.onnx")


def _assert_export_equals_torch(torch, run, file: Path) -> None:
    net = run.net.architecture
    weights = {name: value.numpy() for name, value in run.net.state_dict().items()}
    write_network(weights, net, file, {})
    rng = np.random.default_rng(0)
    image, strength = rng.random((2, 3, 20, 27), np.float32), rng.random((2, 2), np.float32)
    with torch.no_grad():
        expected = run.net(torch.from_numpy(image), torch.from_numpy(strength)).numpy()
    found = onnxruntime.InferenceSession(file).run(None, {"image": image, "strength": strength[:, :, None, None]})[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
