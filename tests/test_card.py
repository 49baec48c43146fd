from __future__ import annotations

import re
import tomllib
from hashlib import sha256

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import strategies as made

from refine import card, resources
from refine.card import card_ids, load_card, load_network
from refine.chain import Chain
from refine.errors import CardError
from refine.reach import reach
from refine.repair import Repair
from refine.upscale import Upscale


def step_of(net: str) -> Upscale | Repair:
    """The step that runs a network."""
    return Upscale(net) if load_card(net).kind == "enlarge" else Repair(net, 15.0, 50.0)


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A folder of networks with a copy of one shipped network, free to be spoilt."""
    for name in ("fast-x2.toml", "fast-x2.onnx"):
        (tmp_path / name).write_bytes((resources.nets() / name).read_bytes())
    monkeypatch.setattr(resources, "nets", lambda: tmp_path)
    load_card.cache_clear()
    load_network.cache_clear()
    yield tmp_path
    load_card.cache_clear()
    load_network.cache_clear()


@pytest.mark.parametrize("net", card_ids())
def test_card_is_true(net):
    """What a card says of scale, halo and period is what the graph says, and its digest is the file's."""
    said, found = load_card(net), reach(load_network(net))
    assert (said.scale, said.multiple_of) == (found.scale, found.multiple_of)
    assert said.halo == found.halo
    assert found.exact
    assert said.sha256 == sha256((resources.nets() / f"{net}.onnx").read_bytes()).hexdigest()


@pytest.mark.parametrize("net", card_ids())
def test_card_halo_covers_net(net):
    """Changing a pixel outside the declared halo leaves the centre untouched; one inside it changes it."""
    halo, scale = load_card(net).halo, load_card(net).scale
    mid = halo + 4
    side = 2 * mid + 1
    pixels = np.random.default_rng(1).integers(16384, 49152, (side, side, 3)).astype(np.uint16)
    plan = made.plan_for(pixels, Chain((step_of(net),)), (side * scale, side * scale))
    centre = slice(mid * scale, (mid + 1) * scale)
    base = made.restored_float(pixels, plan)[centre, centre]
    # The halo is a whole number of periods: what lies within it by less than one may not matter.
    step = load_card(net).multiple_of
    for row, same in ((mid - halo - step, True), (mid - halo + step - 1, False), (mid + halo + step, True)):
        turned = pixels.copy()
        turned[row] = 65535 - turned[row]
        assert np.array_equal(made.restored_float(turned, plan)[centre, centre], base) == same


@pytest.mark.parametrize("net", card_ids())
def test_network_tiles_equal_whole(net):
    """A network in its step, cut at odd places, gives the bytes of the whole."""
    pixels, scale = made.picture(61, 47, 3, "uint16", seed=2), load_card(net).scale
    chain, output = Chain((step_of(net),)), (61 * scale, 47 * scale)
    whole = made.restored(pixels, chain, output)
    np.testing.assert_array_equal(made.restored(pixels, chain, output, tile=37, block=23), whole)


@pytest.mark.parametrize("net", card_ids())
def test_card_answers_a_lawyer(net):
    """Licence, digest, data with their licences, weaknesses: none is empty; nothing that is shipped makes detail up."""
    said = load_card(net)
    assert re.fullmatch(r"[0-9a-f]{64}", said.sha256)
    assert said.licence == "Apache-2.0"
    assert all(re.match(r"\w+: \d+ crops, .*(CC|Unsplash|Pexels|BSD|Public Domain)", line) for line in said.data)
    assert said.weaknesses
    assert said.scores
    assert not said.generative


@pytest.mark.parametrize("net", card_ids())
def test_card_names_the_planes(net):
    """A network has a `strength` input exactly if its card says what its numbers mean, and they are as many."""
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in load_network(net).graph.input}
    planes = load_card(net).planes
    assert set(shapes) == ({"image", "strength"} if planes else {"image"})
    assert not planes or shapes["strength"][1:] == [len(planes), 1, 1]


def test_ids_are_those_of_a_kind():
    """The networks of both kinds together are all of them."""
    assert sorted([*card_ids("enlarge"), *card_ids("repair")]) == card_ids()
    assert "fast-x2" in card_ids("enlarge")


def test_changed_network_is_refused(nets):
    """A network that is not the one on its card is refused before it runs."""
    with (nets / "fast-x2.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CardError, match=r"fast-x2\.onnx does not match its card: sha256 .*; restore it"):
        load_network("fast-x2")


def test_incomplete_card_names_the_key(nets):
    """A card without a key is refused with the key's name."""
    path = nets / "fast-x2.toml"
    path.write_text(path.read_text().replace("scale = 2", ""), encoding="utf-8")
    with pytest.raises(CardError, match=r"fast-x2\.toml: the key 'scale' is missing"):
        load_card("fast-x2")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("speed = 3", "unknown key 'speed', which nobody would read"),
        ("scale = '2'", "scale is a whole number, got '2'"),
        ("scale = true", "scale is a whole number, got True"),
        ("kind = 'colour'", "kind is 'enlarge' or 'repair', got 'colour'"),
        ("planes = 'none'", "planes is a list of texts, got 'none'"),
        ("scores = {set5 = 'good'}", "scores is a table of numbers, got"),
        ("generative = 0", "generative is true or false, got 0"),
    ],
    ids=["unknown", "text", "bool", "kind", "list", "scores", "number"],
)
def test_card_with_another_value_is_refused(nets, line, said):
    """A key that nobody reads, or a value of another type, is refused with the key, what came, and what is wanted."""
    path, key = nets / "fast-x2.toml", line.split(" ")[0]
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    with pytest.raises(CardError, match=re.escape(f"fast-x2.toml: {said}")):
        card.card_of("fast-x2", {**table, key: tomllib.loads(line)[key]})


def test_broken_card_is_refused_as_a_card(nets):
    """A card that is not TOML is refused with the card's name."""
    (nets / "fast-x2.toml").write_text("scale = = 2", encoding="utf-8")
    with pytest.raises(CardError, match=r"fast-x2\.toml"):
        load_card("fast-x2")


def test_missing_network_file_is_refused(nets):
    """A card without its network is refused with the file's name."""
    (nets / "fast-x2.onnx").unlink()
    with pytest.raises(CardError, match=r"fast-x2\.onnx"):
        load_network("fast-x2")


@pytest.mark.parametrize("net", card_ids())
def test_network_is_of_our_opset(net):
    """A shipped network is valid ONNX of the opset that programs are written in."""
    model = load_network(net)
    onnx.checker.check_model(model)
    assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [17]


@pytest.mark.parametrize("net", card_ids())
def test_card_bounds_flat_fields(net):
    """The network itself, without the guarantees around it, gives flat greys back within what its card says."""
    session = ort.InferenceSession(load_network(net).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    clean = {"strength": np.zeros((1, 2, 1, 1), np.float32)} if "strength" in names else {}
    scale, worst = load_card(net).scale, 0.0
    for level in np.linspace(0, 1, 33, dtype=np.float32):
        made = session.run(None, {"image": np.full((1, 3, 48, 48), level, np.float32), **clean})[0]
        middle = made[:, :, 22 * scale : 26 * scale, 22 * scale : 26 * scale]
        worst = max(worst, float(np.abs(middle - level).max()) * 65535)
    assert worst <= load_card(net).flat_error
