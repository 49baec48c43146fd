"""Ingest: each strip decoded once, what is finished kept over any end, and never pixels of another file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from strategies_files import picture, write_picture

from pipelines import ingest, store
from pipelines.errors import StoreError
from refine.assessment import Assessment
from refine.decoder import Decoder
from refine.limits import Limits
from refine.openimage import OpenImage, Storage
from refine.spec import ImageSpec
from refine.tiffwindows import Stored

ORIGIN = ingest.Origin("a.tif", 1, 2, "key", "sha")
PIXELS = picture(3 * ingest.SHARD + 70, 2 * ingest.SHARD + 30, 1)[..., 0]


@pytest.fixture(autouse=True)
def _no_assessment(monkeypatch):
    """What is measured on an image is tested elsewhere, and takes longer than all of this."""
    monkeypatch.setattr(ingest, "assess", lambda _, spec: Assessment(spec.height, spec.width))


@pytest.fixture(scope="module")
def decoder():
    """One decoder for all."""
    with Decoder() as shared:
        yield shared


@pytest.fixture
def path(tmp_path):
    """Four slabs in strips that lie across them."""
    return stored(tmp_path / "a.tif")


def stored(path, orientation=1, pixels=PIXELS):
    """The path of a TIFF in compressed strips of 100 rows."""
    tags = [(274, 3, 1, orientation, True)]
    options = {"photometric": "minisblack", "compression": "zlib", "rowsperstrip": 100}
    tifffile.imwrite(path, pixels, metadata=None, extratags=tags, **options)
    return path


class _EndError(Exception):
    """The end of a run."""


class _Ending:
    """A decoder that ends the run at its nth window, and counts the windows before."""

    def __init__(self, decoder, windows):
        self._decoder = decoder
        self._left = windows
        self.read = []
        self.storage, self.rest = decoder.storage, decoder.rest

    def window(self, path, window, page, *, keep_mem):
        if self._left == 0:
            raise _EndError
        self._left -= 1
        self.read.append(window)
        return self._decoder.window(path, window, page, keep_mem=keep_mem)


def shards(work):
    """The files of the working array: name, identity and bytes of each."""
    files = sorted(p for p in (work / "source.zarr" / "c").rglob("*") if p.is_file())
    return {str(p.relative_to(work)): (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def contents(work):
    """Names and bytes of the files of the working array."""
    return {name: data for name, (_, _, data) in shards(work).items()}


@pytest.mark.parametrize("windows", range(4))
def test_ingest_goes_on_where_it_ended(path, tmp_path, decoder, windows):
    """Slabs that were finished are neither decoded nor written again; the array is that of an undisturbed run."""
    spec, work = decoder.spec(path), tmp_path / "work"
    with pytest.raises(_EndError):
        ingest.ingest(path, spec, work, _Ending(decoder, windows), ORIGIN)
    assert ingest.origin(work) is None
    assert ingest.begun(work) == ORIGIN
    before, rest = shards(work), _Ending(decoder, 99)
    ingest.ingest(path, spec, work, rest, ORIGIN)
    assert [window.y0 // ingest.SHARD for window in rest.read] == list(range(windows, 4))
    after = shards(work)
    assert len(before) == 3 * windows
    assert all(after[name] == found for name, found in before.items())
    ingest.ingest(path, spec, tmp_path / "undisturbed", decoder, ORIGIN)
    assert contents(work) == contents(tmp_path / "undisturbed")
    assert np.array_equal(ingest.ingested(work)[0 : spec.height][..., 0], PIXELS)


def test_ingest_survives_a_kill(path, tmp_path):
    """Killed while it writes a shard, it goes on as after any other end."""
    work, tests = tmp_path / "work", Path(__file__).parent
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(tests)!r})
        from pathlib import Path
        import test_ingest
        from pipelines import ingest, store
        from refine.decoder import Decoder
        plain, count = store.sealed, []
        def sealed(shard):
            count.append(shard)
            if len(count) == 8:
                shard.write_bytes(shard.read_bytes()[:1000])
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(shard)
        store.sealed = sealed
        with Decoder() as decoder:
            path = Path({str(path)!r})
            ingest.ingest(path, decoder.spec(path), Path({str(work)!r}), decoder, test_ingest.ORIGIN)
    """
    root = str(Path(ingest.__file__).parents[1])
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=root, check=False)
    assert ended.returncode == -signal.SIGKILL
    with Decoder() as decoder:
        rest = _Ending(decoder, 99)
        ingest.ingest(path, decoder.spec(path), work, rest, ORIGIN)
    assert [window.y0 // ingest.SHARD for window in rest.read] == [2, 3]
    assert np.array_equal(ingest.ingested(work)[0 : len(PIXELS)][..., 0], PIXELS)


@pytest.mark.parametrize("damage", ["lost", "short", "flipped", "half a line"])
def test_ingest_makes_damaged_slabs_again(path, tmp_path, decoder, damage):
    """A shard that is not what was written costs its slab, half a line in the journal the slab of that line."""
    spec, work = decoder.spec(path), tmp_path / "work"
    ingest.ingest(path, spec, work, decoder, ORIGIN)
    before = contents(work)
    shard = work / "source.zarr" / "c" / "3" / "1" / "0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "half a line":
        journal = work / "source.journal"
        journal.write_bytes(journal.read_bytes()[:-30])
    elif damage == "lost":
        shard.unlink()
    else:
        shard.write_bytes(data[:-1] if damage == "short" else data)
    again = _Ending(decoder, 99)
    ingest.ingest(path, spec, work, again, ORIGIN)
    assert [window.y0 // ingest.SHARD for window in again.read] == [3]
    assert contents(work) == before
    nothing = _Ending(decoder, 0)
    ingest.ingest(path, spec, work, nothing, ORIGIN)
    assert ingest.origin(work) == ORIGIN


@pytest.mark.parametrize("orientation", range(1, 9))
def test_ingest_of_a_turned_page_decodes_strips_once(tmp_path, decoder, orientation, monkeypatch):
    """Slabs lie along the strips, whichever way up the page is; none is decoded twice."""
    path, work = stored(tmp_path / "a.tif", orientation), tmp_path / "work"
    spec, storage = decoder.storage(path)
    assert len(ingest.slabs(spec, storage)) == 4
    decoded, plain = [], Stored._decoded
    monkeypatch.setattr(Stored, "_decoded", lambda self, index: (decoded.append(index), plain(self, index))[1])
    ingest.ingest(path, spec, work, _InProcess(path), ORIGIN)
    assert sorted(decoded) == list(range(-(-len(PIXELS) // 100)))
    assert np.array_equal(ingest.ingested(work)[0 : spec.height], decoder.read(path).pixels)


class _InProcess:
    """What a decoder does, in this process."""

    def __init__(self, path):
        self._image = OpenImage(path, Limits())

    def storage(self, *_):
        return self._image.spec, self._image.storage

    def window(self, _, window, __, *, keep_mem):
        return self._image.window(window, keep_mem)

    def rest(self):
        self._image.close()


def test_ingest_of_another_origin_begins_anew(path, tmp_path, decoder):
    """What was made of another file, or for other settings, is not kept."""
    spec, work = decoder.spec(path), tmp_path / "work"
    ingest.ingest(path, spec, work, decoder, ORIGIN)
    again = _Ending(decoder, 99)
    ingest.ingest(path, spec, work, again, replace(ORIGIN, sha256="other"))
    assert len(again.read) == 4


def test_ingest_refuses_a_file_that_changes(path, tmp_path, decoder):
    """A source that is replaced while it is taken in leaves no array that is complete, and no slab of the new one."""
    spec, work = decoder.spec(path), tmp_path / "work"

    class Changing(_Ending):
        def window(self, *arguments, **options):
            if len(self.read) == 2:
                stored(path, pixels=255 - PIXELS)
            return super().window(*arguments, **options)

    with pytest.raises(StoreError, match=r"^a\.tif: was changed"):
        ingest.ingest(path, spec, work, Changing(decoder, 99), ORIGIN)
    assert ingest.origin(work) is None
    assert len((work / "source.journal").read_text().splitlines()) == 3


def test_ingest_of_a_whole_picture_keeps_its_shards(tmp_path, decoder):
    """A PNG is decoded again after an end, but what was finished is not written again."""
    pixels = picture(ingest.SHARD + 50, 40)
    path, work = write_picture(tmp_path / "a.png", pixels), tmp_path / "work"
    spec = decoder.spec(path)
    with pytest.raises(_EndError):
        ingest.ingest(path, spec, work, _Ending(decoder, 1), ORIGIN)
    before = shards(work)
    ingest.ingest(path, spec, work, decoder, ORIGIN)
    assert {name: shards(work)[name] for name in before} == before
    assert np.array_equal(ingest.ingested(work)[0 : spec.height], pixels)


def test_ingest_leaves_nothing_in_the_decoder(tmp_path, decoder):
    """When an image is taken in, the child has let go of it."""
    path = stored(tmp_path / "a.tif")
    ingest.ingest(path, decoder.spec(path), tmp_path / "work", decoder, ORIGIN)
    child = psutil.Process(decoder._child.pid)
    assert not [file for file in child.open_files() if file.path == str(path)]


@pytest.mark.parametrize(
    ("height", "width", "storage"),
    [
        (100_000, 100_000, Storage(8, 100_000, 1_600_000, 1_600_000)),
        (100_000, 3_000, Storage(100, 3_000, 600_000, 600_000)),
        (3_000, 100_000, Storage(3_000, 64, 384_000, 384_000, sideways=True)),
        (100_000, 100_000, Storage(1024, 1024, 2 << 20, 98 * (2 << 20))),
    ],
    ids=["wide", "narrow", "on its side", "tiles"],
)
def test_kept_mem_holds_what_a_slab_needs(height, width, storage):
    """Decoded strips that two pieces or two slabs need are kept, and not one row of them more than a slab and one."""
    spec = ImageSpec(height, width, 1, "uint16")
    rows = storage.width if storage.sideways else storage.height
    slab, kept = ingest.slabs(spec, storage)[0], ingest.kept_mem(spec, storage)
    pieces = ingest._pieces(slab, spec, storage)
    assert sum(piece.area for piece in pieces) == slab.area
    assert max(piece.area for piece in pieces) * 2 <= 32 << 20
    needed = 1 if len(pieces) == 1 else -(-ingest.SHARD // rows) + 1
    assert kept == needed * storage.row_nbytes


def test_begun_of_nothing(tmp_path):
    """A folder without a journal, or with one that is none, has nothing to go on with."""
    assert ingest.begun(tmp_path) is None
    (tmp_path / "source.journal").write_text("{}\n")
    assert ingest.begun(tmp_path) is None
    (tmp_path / "source.journal").write_text(json.dumps({"origin": {"path": 1}}))
    assert ingest.begun(tmp_path) is None


def test_marker_is_the_last_thing(path, tmp_path, decoder, monkeypatch):
    """An array without its marker is not read, even if every slab is there."""

    def failing(*_):
        raise OSError(os.strerror(28))

    monkeypatch.setattr(ingest, "assess", failing)
    with pytest.raises(OSError, match="No space"):
        ingest.ingest(path, decoder.spec(path), tmp_path / "work", decoder, ORIGIN)
    with pytest.raises(StoreError, match="not complete"):
        ingest.ingested(tmp_path / "work")
    assert store.opened(tmp_path / "work" / "source.zarr").shape[:2] == PIXELS.shape
