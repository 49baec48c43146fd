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
from refine.upscale import Upscale


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
    side = 2 * halo + 3
    pixels = made.picture(side, side, 3, "uint16", seed=1)
    plan = made.plan_for(pixels, Chain((Upscale(net),)), (side * scale, side * scale))
    centre = slice((halo + 1) * scale, (halo + 2) * scale)
    base = made.restored_float(pixels, plan)[centre, centre]
    for row, same in ((0, True), (1, False), (side - 1, True), (side - 2, False)):
        turned = pixels.copy()
        turned[row] = 65535 - turned[row]
        assert np.array_equal(made.restored_float(turned, plan)[centre, centre], base) == same


@pytest.mark.parametrize("net", card_ids())
def test_card_has_no_other_keys(net):
    """A card holds what ModelCard reads and nothing that nobody reads."""
    table = tomllib.loads((resources.nets() / f"{net}.toml").read_text(encoding="utf-8"))
    assert set(table) == {name for name in card.ModelCard.__slots__ if name != "id"}
    assert re.fullmatch(r"[0-9a-f]{64}", table["sha256"])


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
    (name,) = (entry.name for entry in session.get_inputs())
    worst = 0.0
    for level in np.linspace(0, 1, 33, dtype=np.float32):
        made = session.run(None, {name: np.full((1, 3, 40, 40), level, np.float32)})[0]
        scale = load_card(net).scale
        middle = made[:, :, 16 * scale : 24 * scale, 16 * scale : 24 * scale]
        worst = max(worst, float(np.abs(middle - level).max()) * 65535)
    assert worst <= load_card(net).flat_error
