"""The recipe of the networks. What needs torch is skipped without it; the shipped program never needs it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import imagecodecs
import imageio.v3 as imageio
import numpy as np
import onnxruntime
import pytest

from models.training.architecture import NETS, Architecture
from models.training.card import card
from models.training.data import CELL, credits_of, crops_of
from models.training.degrade import CLEAN, ENLARGE, REPAIR, batch, shrunk
from models.training.evaluate import flat_error, load_network, luma, plain, psnr, repaired_first
from models.training.export import _fields, calibrated, flat_features, graph_of, write_network
from models.training.kernels import resize_matrix, resized
from models.training.pages import drawn, printed
from models.training.report import BEGIN, END, gigamacs, section
from models.training.sketch import page
from models.training.stock import DENSER_STILL, PAGE, stock, with_smalls
from refine.card import card_of
from refine.reach import reach

SMALL = Architecture(scale=2, channels=16, blocks=2, side=16)
TOLD = Architecture(scale=1, channels=16, blocks=2, unshuffle=2, damage=REPAIR, side=32)


def _weights(net: Architecture, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights, of the size that training leaves."""
    rng = np.random.default_rng(seed)
    width = net.channels
    shapes = {"head": (width, 3 * net.unshuffle**2), "tail": (3 * net.factor**2, width)}
    shapes |= {f"body.{block}.{part}": (width, width) for block in range(net.blocks) for part in "ab"}
    weights = {"strength.weight": rng.normal(0, 0.1, (width, 2)).astype(np.float32)} if net.conditioned else {}
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
    crops = crops_of(((flat, _photograph()), 1))
    rng = np.random.default_rng(0)
    busy = np.mean([crops.draw(rng, 4 * CELL).max() > 0 for _ in range(300)])
    assert 0.7 < busy < 1


def test_crops_draw_anything_anywhere():
    """Squares fit into the smallest picture and reach all of its corners."""
    picture = np.arange(96 * 96).astype(np.uint32)
    picture = np.stack([picture >> 8, picture & 255, picture * 0], -1).reshape(96, 96, 3).astype(np.uint8)
    crops, rng = crops_of(((picture,), 1)), np.random.default_rng(0)
    seen = {tuple(v) for _ in range(400) for v in crops.draw(rng, 48)[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()}
    assert {tuple(picture[y, x].tolist()) for y in (0, -1) for x in (0, -1)} <= seen


@pytest.mark.parametrize(("damage", "scale"), [(ENLARGE, 2), (CLEAN, 4), (REPAIR, 1)], ids=["x2", "x4", "x1"])
def test_batch_depends_on_its_seed_alone(damage, scale):
    """A step sees the same squares whenever it runs: that is what makes a resumed run the same run."""
    crops = crops_of(((_photograph(),), 1))
    first, again = (batch(crops, damage, scale, (6, 24), np.random.default_rng([3, 7])) for _ in range(2))
    assert first.low.shape == (6, 3, 24, 24)
    assert first.high.shape == (6, 3, 24 * scale, 24 * scale)
    np.testing.assert_array_equal(first.low, again.low)
    np.testing.assert_array_equal(first.high, again.high)
    np.testing.assert_array_equal(first.strength, again.strength)


def test_batch_squares_lie_upon_each_other():
    """The damaged square is the undamaged one made small: no shift, no mix-up within the batch."""
    squares = batch(crops_of(((_photograph(),), 1)), ENLARGE, 2, (16, 32), np.random.default_rng(5))
    for low, high, strength in zip(squares.low, squares.high, squares.strength, strict=True):
        if not strength.any():
            small = shrunk(np.rint(255 * high.transpose(1, 2, 0)).astype(np.uint8), 2)
            difference = np.abs(small.transpose(2, 0, 1) / 255 - low)[:, 4:-4, 4:-4]
            assert difference.mean() < 0.03


def test_clean_batch_is_shrunk_and_nothing_else():
    """A network that is told nothing sees pictures made small by the bicubic filter, all of them."""
    squares = batch(crops_of(((_photograph(),), 1)), CLEAN, 2, (16, 32), np.random.default_rng(5))
    assert not squares.strength.any()
    assert not Architecture(scale=2, channels=16, blocks=1).conditioned
    for low, high in zip(squares.low, squares.high, strict=True):
        small = shrunk(np.rint(255 * high.transpose(1, 2, 0)).astype(np.uint8), 2).transpose(2, 0, 1) / 255
        # The filter looks 4 px beyond the square at its edges.
        np.testing.assert_allclose(small[:, 4:-4, 4:-4], low[:, 4:-4, 4:-4], atol=1e-6)


def test_squares_of_pictures_made_small_at_once_lie_upon_each_other():
    """Pictures made small as a whole give the squares that squares made small one by one give, their edges apart."""
    net = Architecture(scale=4, channels=16, blocks=1, side=24)
    crops = with_smalls(crops_of(((_photograph(side=259), _photograph(1)), 1)), net)
    squares = batch(crops, CLEAN, 4, (16, 24), np.random.default_rng(5))
    assert squares.low.shape == (16, 3, 24, 24)
    for low, high in zip(squares.low, squares.high, strict=True):
        small = shrunk(np.rint(255 * high.transpose(1, 2, 0)).astype(np.uint8), 4).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(small[:, 4:-4, 4:-4], low[:, 4:-4, 4:-4], atol=1e-6)


def test_stock_has_pictures_smaller_ones_and_pages_by_their_shares(tmp_path, monkeypatch):
    """A folder of crops becomes the crops, the same made smaller where squares still fit, and drawn pages."""
    monkeypatch.setattr("models.training.stock.PAGES", 3)
    for seed in range(2):
        coded = imagecodecs.jpegxl_encode(_photograph(seed, 360), distance=1.0)
        (tmp_path / f"{seed}.jxl").write_bytes(coded)
    net = NETS["clean-x1"]
    crops = stock(tmp_path, net, seed=1)
    sides = [picture.shape[0] for picture in crops.pictures]
    assert sides == [360, 360, 216, 216, 126, 126, *[PAGE] * 3]
    expected = [share * (1 - net.damage.pages) for share in DENSER_STILL.values()]
    np.testing.assert_allclose(np.diff(crops.shares[[1, 3, 5, -1]], prepend=0), [*expected, net.damage.pages])
    assert len(stock(tmp_path, NETS["fast-x4"], seed=1).pictures) == 2, "networks that enlarge photographs see no pages"


def test_batch_tells_the_strength_of_the_noise():
    """A stated sigma is the measured one, within the slack."""
    flat = np.full((256, 256, 3), 120, np.uint8)
    squares = batch(crops_of(((flat,), 1)), REPAIR, 1, (48, 48), np.random.default_rng(1))
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


@pytest.mark.parametrize("net", [SMALL, TOLD], ids=["enlarge", "repair"])
def test_calibrated_keeps_flat_fields_flat(tmp_path, net):
    """After calibration a flat grey comes out ten times flatter, run by onnxruntime."""
    weights = _weights(net)
    errors = []
    for name, held in (("raw", weights), ("calibrated", calibrated(weights, net))):
        write_network(held, net, tmp_path / f"{name}.onnx", {})
        errors.append(flat_error(load_network(tmp_path / f"{name}.onnx", net.scale, net.halo, net.unshuffle)))
    assert errors[1] < errors[0] / 10


def test_calibrated_does_not_touch_noise():
    """Flat fields that are said to be noisy are not among those that are calibrated: no network ever saw one."""
    assert not _fields(TOLD)[1][:, 0].any()
    assert _fields(TOLD)[1][:, 1].max() > 0.9
    assert not _fields(SMALL)[1].any()


def test_flat_features_are_those_of_the_graph():
    """A flat picture through the graph gives what the calibration reckons with, strength included."""
    net = TOLD
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


@pytest.mark.parametrize("net", [SMALL, TOLD], ids=["enlarge", "repair"])
def test_card_is_read_by_the_program(tmp_path, net):
    """The card of a network is one that the program reads, with every key and no other."""
    write_network(_weights(net), net, tmp_path / "small.onnx", {})
    facts = {"cost_s": 0.1, "flat_error": 1.5, "scores": {"set5": 1.0}, "data": ["a: 1 crops, CC0"]}
    facts |= {"training": "1 step", "machine": "this one", "recipe": "that"}
    table = tomllib.loads(card("small", net, (tmp_path / "small.onnx").read_bytes(), facts))
    read = card_of("small", table)
    assert (read.scale, read.halo, read.multiple_of) == (net.scale, net.halo, net.unshuffle)
    assert len(read.planes) == 2 * net.conditioned
    assert read.kind == ("repair" if net.conditioned else "enlarge")


def test_pages_are_scored_without_scans_too(tmp_path, monkeypatch):
    """Drawn pages are the same in every run and none of a run's own; scans are scored where they are."""
    monkeypatch.setattr("models.training.pages.DRAWN", 3)
    monkeypatch.setattr("models.training.pages.SCANNED", ("a.png",))
    assert all(np.array_equal(one, other) for one, other in zip(drawn(), drawn(), strict=True))
    scores = printed(plain("bicubic", 2), 2, tmp_path / "none")
    assert scores.keys() == {"pages-drawn"}
    imageio.imwrite(tmp_path / "a.png", np.full((30, 700), 200, np.uint8))
    both = printed(plain("bicubic", 2), 2, tmp_path)
    assert both["pages-drawn"] == scores["pages-drawn"] < printed(plain("lanczos", 2), 2, tmp_path)["pages-drawn"]
    assert both["pages-scanned"] > 90, "what is flat stays flat"


def test_credits_name_the_works_that_ask_for_it(tmp_path):
    """Sets and licences are counted; where a licence wants credit, the works are named, once each."""
    rows = [("a", "CC-BY-4.0", "a/Hill.jpg"), ("a", "CC-BY-4.0", "a/Hill.jpg"), ("b", "CC0", "b/Sea.png")]
    lines = ["set\tlicence\tsource", *("\t".join(row) for row in rows)]
    (tmp_path / "manifest.tsv").write_text("\n".join(lines), encoding="utf-8")
    assert credits_of(tmp_path) == ["a: 2 crops, CC-BY-4.0: Hill", "b: 1 crops, CC0"]


def test_gigamacs_are_counted_by_hand():
    """Multiplications per output px: those of every 3x3 kernel over the body's size, and none for the strength."""
    body = 16 * 12 * 9 + 4 * 16 * 16 * 9 + 12 * 16 * 9
    assert gigamacs(graph_of(_weights(TOLD), TOLD)) == pytest.approx(body / 4 / 1e3, rel=1e-3)
    body = 16 * 3 * 9 + 4 * 16 * 16 * 9 + 12 * 16 * 9
    assert gigamacs(graph_of(_weights(SMALL), SMALL)) == pytest.approx(body / 4 / 1e3)


def test_repaired_first_repairs_only_what_is_damaged():
    """The composition hands the strength to the first network, none to the second, and skips the first when clean."""
    calls = []

    def told(name):
        return lambda picture, strength: calls.append((name, strength)) or picture

    method, picture = repaired_first(told("repair"), told("enlarge")), np.zeros((2, 2, 3), np.uint8)
    method(picture, (0.2, 0.0))
    method(picture, (0.0, 0.0))
    assert calls == [("repair", (0.2, 0.0)), ("enlarge", (0.0, 0.0)), ("enlarge", (0.0, 0.0))]


@pytest.mark.slow
def test_report_is_reproduced(checkout):
    """The tables of models/README.md come out again within 0.01 dB, cost apart."""
    data = checkout.parent / "shared" / "data" / "eval"
    if not data.is_dir():
        pytest.skip("the pictures that networks are scored on are not here: ../shared/data/eval")
    readme = (checkout / "models" / "README.md").read_text(encoding="utf-8")
    written = readme.split(BEGIN)[1].split(END)[0]
    again = section(checkout / "models" / "nets", data)
    old, new = (_cells(text) for text in (written, again))
    assert len(old) == len(new) > 20
    for before, now in zip(old, new, strict=True):
        if before != now:
            assert float(before) == pytest.approx(float(now), abs=0.0101)


def _cells(text: str) -> list[str]:
    """The cells of all tables, those under "CPU s" left out."""
    cells, cost = [], None
    for line in text.splitlines():
        if line.startswith("|"):
            row = [cell.strip() for cell in line.strip("|").split("|")]
            cost = row.index("CPU s") if "CPU s" in row else cost if len(row) > (cost or 0) else None
            cells += [cell for at, cell in enumerate(row) if at != cost]
        else:
            cost = None
    return cells


def test_evaluation_needs_no_torch(checkout):
    """Scores are reproduced from the ONNX files without torch."""
    code = "import sys; sys.modules['torch'] = None; import models.training.report, models.training.export"
    subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("net", [SMALL, TOLD], ids=["enlarge", "repair"])
def test_wider_and_deeper_network_starts_where_the_other_ended(net):
    """A network with more channels and blocks, begun from a trained one, gives the same pictures, and can learn."""
    torch = pytest.importorskip("torch", reason="training needs torch: the extra `train`")
    from models.training.net import Net, warm_started  # noqa: PLC0415 - needs torch

    old = {name: torch.from_numpy(value) for name, value in _weights(net).items()}
    same, larger = Net(net), Net(replace(net, channels=32, blocks=4))
    warm_started(same, old)
    new = warm_started(larger, old)
    assert all(name.startswith(("body.2", "body.3")) for name in new)
    picture, strength = torch.rand(2, 3, 24, 20), torch.rand(2, 2)
    found = larger(picture, strength)
    np.testing.assert_allclose(found.detach().numpy(), same(picture, strength).detach().numpy(), atol=1e-6)
    found.square().mean().backward()
    assert larger.tail.weight.grad.reshape(-1, 32, 9)[:, 16:].abs().max() > 0
    other_scale = warm_started(Net(replace(net, scale=4, channels=32)), old)
    assert {"tail.weight", "tail.bias"} <= set(other_scale)


@pytest.mark.slow
@pytest.mark.parametrize("net", [SMALL, TOLD], ids=["enlarge", "repair"])
def test_training_learns_resumes_and_exports(tmp_path, monkeypatch, net):
    """Minutes of training: the error falls, a resumed run ends where an unbroken one does, the file equals torch."""
    torch = pytest.importorskip("torch", reason="training needs torch: the extra `train`")
    from models.training import train  # noqa: PLC0415

    torch.set_num_threads(1)
    monkeypatch.setitem(NETS, "small", net)
    monkeypatch.setattr(train, "WARM_UP", 50)
    crops = crops_of((tuple(_photograph(seed) for seed in range(6)), 1))
    schedule = train.Schedule(steps=300, batch=8, rate=5e-4)
    whole = train.fresh("small", schedule)
    before = _error(torch, whole, crops)
    losses = [train.one_step(whole, schedule, crops) for _ in range(300)]
    assert _error(torch, whole, crops) < 0.96 * before

    broken = train.fresh("small", schedule)
    for _ in range(240):
        train.one_step(broken, schedule, crops)
    train.save(broken, schedule, "small", tmp_path / "small.pt")
    broken = train.resumed("small", schedule, tmp_path / "small.pt")
    assert [train.one_step(broken, schedule, crops) for _ in range(60)] == pytest.approx(losses[240:], rel=1e-3)

    _assert_export_equals_torch(torch, whole, tmp_path / "small.onnx")


def _error(torch, run, crops) -> float:
    """Mean absolute error on pictures that are the same whatever was learnt, 0..1, where it is learnt from."""
    from models.training import train  # noqa: PLC0415

    net = run.net.architecture
    made = batch(crops, net.damage, net.scale, (48, net.side), np.random.default_rng(99))
    with torch.no_grad():
        found = run.net(torch.from_numpy(made.low), torch.from_numpy(made.strength)).numpy()
    ring = train.RING * net.scale
    return float(np.abs(found - made.high)[..., ring:-ring, ring:-ring].mean())


def _assert_export_equals_torch(torch, run, file: Path) -> None:
    from models.training.net import kernels  # noqa: PLC0415

    net = run.net.architecture
    write_network(kernels(run.net.state_dict()), net, file, {})
    rng = np.random.default_rng(0)
    image, strength = rng.random((2, 3, 20, 28), np.float32), rng.random((2, 2), np.float32)
    with torch.no_grad():
        expected = run.net(torch.from_numpy(image), torch.from_numpy(strength)).numpy()
    told = {"strength": strength[:, :, None, None]} if net.conditioned else {}
    found = onnxruntime.InferenceSession(file).run(None, {"image": image, **told})[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
