"""The decoding process: what it gives, and that a bad file or a bad process harms nothing else."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image as Pillow

from refine import decoder as decoder_module
from refine.decode_child import packed, unpacked
from refine.decoder import Decoder
from refine.errors import ImageReadError, LimitError
from refine.imagefile import encode_image, read_image
from refine.limits import SCAN_LIMITS, Limits
from refine.spec import Image, ImageSpec, Metadata, Resolution
from refine.window import Window


@pytest.fixture(scope="module")
def decoder():
    """One decoder for the tests that do not break it."""
    with Decoder() as shared:
        yield shared


@pytest.fixture
def photo(tmp_path):
    """A 16-bit picture with all that travels beside the pixels."""
    return written(tmp_path / "photo.png", 40, 30, icc=bytes(36) + b"acsp" + bytes(100))


def written(path, height, width, **fields):
    """The path of a PNG of noise."""
    spec = ImageSpec(height, width, 3, "uint16", resolution=Resolution(300, 200), **fields)
    pixels = np.random.default_rng(0).integers(0, 65536, spec.shape, dtype=np.uint16)
    path.write_bytes(encode_image(Image(pixels, spec), "png"))
    return path


def flat(path, side):
    """The path of a large PNG that is quick to write."""
    pixels = np.full((side, side, 3), 7, np.uint8)
    path.write_bytes(encode_image(Image(pixels, ImageSpec(side, side, 3, "uint8")), "png"))
    return path


def stand_in(body):
    """The command of a child that says it is ready, reads a request and then runs `body`."""
    script = f"""
        import json, os, signal, sys, time
        def say(fields): print(json.dumps(fields), flush=True)
        say({{"ready": True}})
        request = json.loads(sys.stdin.readline())
        {body}
    """
    return [sys.executable, "-c", textwrap.dedent(script)]


def test_decoder_gives_what_this_process_would(decoder, photo):
    """Pixels and spec are those of read_image, ICC and resolution included."""
    expected = read_image(photo)
    found = decoder.read(photo)
    assert found.spec == expected.spec == decoder.spec(photo)
    assert found.pixels.flags.writeable
    np.testing.assert_array_equal(found.pixels, expected.pixels)


@pytest.mark.parametrize("band", [1, 7, 40, 1000])
def test_decoder_rows_are_the_picture(decoder, photo, band):
    """Bands put together are the picture, whatever their height."""
    bands = list(decoder.rows(photo, band))
    assert {len(rows) for rows in bands[:-1]} <= {band}
    np.testing.assert_array_equal(np.concatenate(bands), read_image(photo).pixels)


def test_decoder_turns_upright(decoder, tmp_path):
    """A picture on its side, more than a hand-over of rows high, comes out as in this process."""
    exif = Pillow.Exif()
    exif[274] = 6
    path = tmp_path / "turned.png"
    Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (30, 2100), dtype=np.uint8)).save(path, exif=exif)
    found = decoder.read(path)
    assert found.spec.shape == (2100, 30, 1)
    np.testing.assert_array_equal(found.pixels, read_image(path).pixels)


def test_decoder_raises_what_the_child_raises(photo, tmp_path):
    """Errors come back as their classes, in one line with the file's name; the child goes on."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:200])
    with Decoder(Limits(max_pixels=1200)) as decoder:
        decoder.read(photo)
        child = decoder._child.pid
        with pytest.raises(ImageReadError, match=r"^broken\.png: damaged PNG"):
            decoder.read(broken)
        with pytest.raises(ImageReadError, match=r"^none\.png: cannot be read: No such file"):
            decoder.spec(tmp_path / "none.png")
        with pytest.raises(LimitError, match=r"^large\.png: .*max_pixels"):
            decoder.read(written(tmp_path / "large.png", 41, 30))
        assert decoder.read(photo).spec.height == 40
        assert decoder._child.pid == child


def test_decoder_takes_any_name(decoder, photo, monkeypatch):
    """A relative path, and a name that is no text, are found."""
    odd = Path(os.fsdecode(b"\xff \n.png"))
    monkeypatch.chdir(photo.parent)
    photo.rename(odd)
    assert decoder.spec(odd).height == 40


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"died on this file \(signal 11, SIGSEGV\)"),
        ("sys.exit('out of luck')", r"ended on this file \(code 1: out of luck\)"),
        ("os._exit(3)", r"ended on this file \(code 3\)"),
        ("time.sleep(3600)", "longer than 0.5 s; .*decode_base_s"),
    ],
    ids=["killed", "exit", "silent exit", "hang"],
)
def test_decoder_outlives_its_child(photo, body, said):
    """A child that dies or hangs is an ImageReadError that says so; the next call starts a new one."""
    with Decoder(Limits(decode_base_s=0.5), command=stand_in(body)) as decoder:
        for _ in range(2):
            with pytest.raises(ImageReadError, match=rf"^photo\.png: .*{said}"):
                decoder.read(photo)
        decoder.limits, decoder._command = Limits(), decoder_module._COMMAND
        assert decoder.read(photo).spec.height == 40


def test_decoder_hands_over_all_of_a_spec():
    """Whatever a spec holds is the same on the other side of the pipe."""
    carried = Metadata(b"II*\0\xff", b"<x/>", b"\x1c\2")
    spec = ImageSpec(
        9, 8, 4, "uint16", "tiff", bytes(range(256)), Resolution(3, 2.5, "cm"), 6, 2, "cmyk", carried, ("a",)
    )
    assert unpacked(json.loads(json.dumps(packed(spec)))) == spec
    assert unpacked(json.loads(json.dumps(packed(ImageSpec(9, 8, 1, "uint8"))))) == ImageSpec(9, 8, 1, "uint8")


def test_decoder_gives_large_pictures_more_time(photo):
    """The wall limit of the pixels follows from the spec that the child sends first."""
    spec = packed(ImageSpec(10**6, 1, 1, "uint8"))
    body = f"say({{'spec': {spec}}}); time.sleep(3600)"
    limits = Limits(decode_base_s=0.5, decode_s_per_megapixel=0.25)
    with Decoder(limits, stand_in(body)) as decoder, pytest.raises(ImageReadError, match=r"longer than 0\.75 s"):
        decoder.read(photo)


def test_decoder_bounds_memory(tmp_path):
    """A picture that needs more memory than it may have is a LimitError that names the limit."""
    path = flat(tmp_path / "large.png", 3000)  # 27 MB; twice that is allowed, and less the 30 of this headroom
    with Decoder(Limits(headroom_mem=-30_000_000)) as decoder:
        with pytest.raises(LimitError, match=r"^large\.png: decoding needs more than .*headroom_mem"):
            decoder.read(path)
        decoder.limits = Limits()
        assert decoder.read(path).spec.height == 3000


def test_decoder_replaces_its_child(photo, monkeypatch):
    """After so many images, or when it was killed between two, another child takes over."""
    monkeypatch.setattr(decoder_module, "_MAX_IMAGES", 2)
    with Decoder() as decoder:
        children = []
        for _ in range(3):
            decoder.spec(photo)
            children.append(decoder._child.pid)
        assert children[0] == children[1] != children[2]
        os.kill(children[2], signal.SIGKILL)
        decoder._child.wait()
        assert decoder.spec(photo).height == 40


def test_decoder_serves_one_caller_at_a_time(photo):
    """While rows are being read nothing else is; closing them is enough."""
    with Decoder() as decoder:
        rows = decoder.rows(photo, 10)
        next(rows)
        with pytest.raises(RuntimeError, match="one caller at a time"):
            decoder.spec(photo)
        rows.close()
        assert decoder.spec(photo).height == 40


def test_decoder_gives_memory_back(photo):
    """Nothing stays in the shared memory once a picture is read, and nothing runs once the decoder is closed."""
    with Decoder() as decoder:
        decoder.read(photo)
        assert os.fstat(decoder._memory.fileno()).st_size == 0
        child = psutil.Process(decoder._child.pid)
    assert not child.is_running()


def test_decoder_keeps_rows_out_of_this_process(tmp_path):
    """Reading bands of a large picture needs no more than a few bands here."""
    path = flat(tmp_path / "large.png", 4000)
    with Decoder() as decoder:
        decoder.spec(path)
        before = psutil.Process().memory_info().rss
        most = max(psutil.Process().memory_info().rss for _ in decoder.rows(path, 100))
    assert most - before < 16_000_000  # the picture has 48 MB


def test_decoder_child_dies_with_its_parent(photo):
    """A parent that is killed takes its child along, even one that is busy."""
    script = f"""
        import os, sys
        from pathlib import Path
        from refine.decoder import Decoder
        decoder = Decoder()
        decoder.spec(Path({str(photo)!r}))
        os.kill(decoder._child.pid, {int(signal.SIGSTOP)})  # deaf to the end of its stdin
        print(decoder._child.pid, flush=True)
        os.kill(os.getpid(), {int(signal.SIGKILL)})
    """
    root = Path(decoder_module.__file__).parents[1]
    command = [sys.executable, "-c", textwrap.dedent(script)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert ended.returncode == -signal.SIGKILL
    _, alive = psutil.wait_procs(_processes(int(ended.stdout)), timeout=10)
    assert not alive


def _processes(pid):
    try:
        return [psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return []


def test_decoder_works_without_memfd(photo, monkeypatch):
    """Where the system has no memory files, a temporary file does."""
    monkeypatch.delattr(os, "memfd_create")
    with Decoder() as decoder:
        np.testing.assert_array_equal(decoder.read(photo).pixels, read_image(photo).pixels)


def test_decoder_does_not_import_from_where_one_stands(photo, tmp_path, monkeypatch):
    """A file of a module's name in the current folder is not run by the child."""
    (tmp_path / "numpy.py").write_text("raise SystemExit('found me')")
    monkeypatch.chdir(tmp_path)
    with Decoder() as decoder:
        assert decoder.spec(photo).height == 40


def test_decoder_window_is_the_picture_there(decoder, photo, tmp_path):
    """Windows of a picture that is held whole, and of one in tiles, are what `read` gives there."""
    tiled = tmp_path / "tiled.tif"
    tifffile.imwrite(tiled, decoder.read(photo).pixels, tile=(16, 16), compression="zlib", photometric="rgb")
    whole = decoder.read(photo).pixels
    for path in (photo, tiled, photo):
        for window in (Window(0, 0, 1, 1), Window(3, 5, 31, 29), Window(0, 0, 40, 30)):
            found = decoder.window(path, window)
            assert found.flags.writeable
            np.testing.assert_array_equal(found, whole[window.slices])


def test_decoder_window_raises_what_the_child_raises(photo, tmp_path):
    """What is wrong with a file or a window is an error of one line, and the child goes on."""
    with Decoder(Limits(max_pixels=1200)) as decoder:
        decoder.spec(photo)
        child = decoder._child.pid
        with pytest.raises(ImageReadError, match=r"^none\.tif: cannot be read: No such file"):
            decoder.window(tmp_path / "none.tif", Window(0, 0, 1, 1))
        with pytest.raises(ImageReadError, match=r"^photo\.png: has 40 x 30 px"):
            decoder.window(photo, Window(0, 0, 41, 1))
        with pytest.raises(LimitError, match=r"^large\.png: .*max_pixels"):
            decoder.window(written(tmp_path / "large.png", 41, 30), Window(0, 0, 1, 1))
        assert decoder.window(photo, Window(0, 0, 2, 3)).shape == (2, 3, 3)
        assert decoder._child.pid == child


@pytest.mark.parametrize("when", ["", "say({'decoding': 1}); "], ids=["opening", "decoding"])
def test_decoder_window_outlives_its_child(photo, when):
    """A child that dies while it opens a file, or decodes a window of it, is an ImageReadError that says so."""
    command = stand_in(f"{when}os.kill(os.getpid(), signal.SIGSEGV)")
    with Decoder(command=command) as decoder:
        with pytest.raises(ImageReadError, match=r"^photo\.png: the decoder died on this file \(signal 11"):
            decoder.window(photo, Window(0, 0, 1, 1))
        decoder._command = decoder_module._COMMAND
        assert decoder.window(photo, Window(0, 0, 1, 1)).shape == (1, 1, 3)


def test_decoder_windows_hardly_count(photo, monkeypatch):
    """A child is replaced after so many images, but a window is not one."""
    monkeypatch.setattr(decoder_module, "_MAX_IMAGES", 2)
    with Decoder() as decoder:
        decoder.window(photo, Window(0, 0, 1, 1))
        child = decoder._child.pid
        for _ in range(20):
            decoder.window(photo, Window(0, 0, 1, 1))
        assert decoder._child.pid == child


def test_decoder_rests(tmp_path):
    """After `rest` the child holds neither the picture nor the file."""
    path = flat(tmp_path / "large.png", 4000)
    tiff = tmp_path / "a.tif"
    tifffile.imwrite(tiff, np.zeros((40, 30), np.uint8))
    with Decoder() as decoder:
        decoder.rest()
        decoder.window(tiff, Window(0, 0, 1, 1))
        decoder.window(path, Window(0, 0, 1, 1))
        child = psutil.Process(decoder._child.pid)
        assert [file.path for file in child.open_files() if file.path.startswith(str(tmp_path))] == [str(tiff)]
        held = child.memory_info().rss
        decoder.rest()
        assert held - child.memory_info().rss > 40_000_000  # the picture has 48 MB
        assert not [file.path for file in child.open_files() if file.path.startswith(str(tmp_path))]


@pytest.mark.parametrize("layout", [{"tile": (512, 512)}, {"rowsperstrip": 4}], ids=str)
def test_decoder_window_needs_little_of_a_huge_tiff(tmp_path, layout):
    """A window of 1.8 GB of pixels takes the child no more than the window, what it keeps, and a strip or two."""
    path, side = tmp_path / "huge.tif", 30_000
    high, wide = layout.get("tile", (layout.get("rowsperstrip"), side))
    block = zlib.compress(bytes(high * wide * 2))
    blocks = itertools.repeat(block, -(-side // high) * -(-side // wide))
    tifffile.imwrite(path, blocks, shape=(side, side), dtype=np.uint16, compression="zlib", metadata=None, **layout)
    with Decoder(SCAN_LIMITS) as decoder:
        decoder.storage(path)
        child = psutil.Process(decoder._child.pid)
        before = child.memory_info().rss
        for y in (0, 12_345, side - 1072):
            assert not decoder.window(path, Window(y, 777, y + 1072, 777 + 1072)).any()
        assert child.memory_info().rss - before < 60_000_000
