"""Objects in a bucket, against moto's server over HTTP, and through a proxy that fails on purpose.

moto heeds If-None-Match and If-Match of a PUT, as S3 does since 2024; what it has in the end is read by boto3.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import threading

import numpy as np
import pytest
from buckets import KEY_ID, SECRET

from pipelines import bucket, s3
from pipelines.bucket import Bucket
from pipelines.errors import JobError, StoreError
from pipelines.place import ConflictError, Found, place_of


def test_bucket_lists_page_by_page(shop, monkeypatch):
    """Every object below the prefix is listed once, with size and ETag, whatever its name; folder marks are not."""
    monkeypatch.setattr(bucket, "_PAGE", 7)
    names = [f"in/{n:04}.png" for n in range(23)] + ["in/übung & so+on%20.png", "in/mark/", "inside.png"]
    for name in names:
        shop.put(name, name.encode())
    found = {f.path: f for f in place_of(f"{shop.url}/in").listing()}
    assert set(found) == {name.removeprefix("in/") for name in names[:-2]}
    odd = found["übung & so+on%20.png"]
    assert odd.etag == _md5("in/übung & so+on%20.png".encode())
    assert odd.size == len("in/übung & so+on%20.png".encode())
    assert sum(1 for _ in place_of(shop.url).listing()) == len(names) - 1
    assert [f.path for f in place_of(shop.url).listing("in/mark")] == []


def test_bucket_publishes_on_condition(shop):
    """An object is created only where none is, and replaced only where the recorded one stands."""
    place = Bucket(shop.name, "out")
    first = place.publish("a/x.png", b"one")
    assert first == Found("a/x.png", 3, etag=_md5(b"one"))
    assert place.stat("a/x.png") == first
    with pytest.raises(ConflictError, match="holds something else"):
        place.publish("a/x.png", b"two")
    second = place.publish("a/x.png", b"two", replacing=first.etag)
    with pytest.raises(ConflictError):
        place.publish("a/x.png", b"three", replacing=first.etag)
    assert shop.get("out/a/x.png") == place.read("a/x.png") == b"two"
    place.remove("a/x.png")
    with pytest.raises(ConflictError, match="is gone"):
        place.publish("a/x.png", b"three", replacing=second.etag)
    assert shop.keys() == []


def test_bucket_says_what_its_objects_are(shop):
    """An object has the type that its suffix says, and its SHA-256 with it."""
    Bucket(shop.name).publish("x.JPG", b"data")
    head = shop.client.head_object(Bucket=shop.name, Key="x.JPG")
    assert head["ContentType"] == "image/jpeg"
    assert head["Metadata"] == {"refine-sha256": hashlib.sha256(b"data").hexdigest()}


def test_bucket_knows_its_own_object(shop):
    """What is stored a second time is no conflict; what somebody else stored there is, and is told as theirs."""
    place = Bucket(shop.name)
    assert place.publish("x.png", b"one") == place.publish("x.png", b"one")
    shop.put("y.png", b"one")
    with pytest.raises(ConflictError, match="not written by refine") as caught:
        place.publish("y.png", b"one")
    assert not caught.value.ours


def test_bucket_publishes_a_file(shop, tmp_path):
    """A file is stored as its bytes would be."""
    (tmp_path / "big.tif").write_bytes(b"0123456789" * 100_000)
    Bucket(shop.name).publish("big.tif", tmp_path / "big.tif")
    assert shop.get("big.tif") == b"0123456789" * 100_000


def test_bucket_fetches_what_was_found(shop):
    """A copy has the object's name and content, and is gone afterwards; a changed object is refused."""
    shop.put("in/x.png", b"one")
    place = Bucket(shop.name, "in")
    (found,) = place.listing()
    with place.fetched(found) as path:
        assert (path.name, path.read_bytes()) == ("x.png", b"one")
    assert not path.parent.exists()
    shop.put("in/x.png", b"two")
    with pytest.raises(StoreError, match=r"x\.png: was changed while"), place.fetched(found):
        pytest.fail("handed out another object")
    with pytest.raises(StoreError, match=r"nothing\.png: there is no such object"):
        place.read("nothing.png")


def test_copies_of_the_killed_are_swept(shop, tmp_path, monkeypatch):
    """The copy of a process that was killed goes at the next start; that of one that lives stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shop.put("x.png", b"one")
    place = Bucket(shop.name)
    (found,) = place.listing()
    code = (
        "import os, sys; from pipelines.bucket import Bucket; place = Bucket(sys.argv[1])\n"
        "with place.fetched(next(place.listing())): os._exit(9)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code, shop.name], env=environment, check=False).returncode == 9
    with place.fetched(found) as path:
        assert len(list(tmp_path.iterdir())) == 2
        place.check()
        assert list(tmp_path.iterdir()) == [path.parent]


def test_damaged_content_is_noticed(shop, monkeypatch):
    """Bytes that are not those which were written, by the digest beside them, are never handed out."""
    monkeypatch.setattr(s3, "PATIENCE_S", 0.0)
    digest = hashlib.sha256(b"one").hexdigest()
    shop.client.put_object(Bucket=shop.name, Key="x", Body=b"onE", Metadata={"refine-sha256": digest})
    with pytest.raises(StoreError, match="came short or damaged"):
        Bucket(shop.name).read("x")


def test_one_of_two_writers_wins(shop):
    """Of many writers of different bytes at one place, one wins and the others are told."""
    place = Bucket(shop.name)
    outcomes: list[object] = []

    def write(number: int) -> None:
        try:
            outcomes.append(place.publish("x", b"%d" % number))
        except ConflictError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # moto looks and then stores; S3 does both at one stroke. Here several may pass the look, none unseen by HEAD.
    assert any(isinstance(outcome, Found) for outcome in outcomes)
    assert shop.get("x") in [b"%d" % n for n in range(6)]


@pytest.mark.parametrize("fault", ["500", "503", "reset", "cut", "lost"])
def test_every_fault_passes(shop, fault):
    """With four of ten requests failing in one way, every object is written and read right, and the fault occurred."""
    place, draw = Bucket(shop.name, "p"), np.random.default_rng(5)
    contents = {f"{n}.bin": draw.bytes(size) for n, size in enumerate((0, 1, 5_000, 300_000) * 5)}
    with shop.failing(0.4, only=fault) as proxy:
        found = {name: place.publish(name, data) for name, data in contents.items()}
        assert set(place.listing()) == set(found.values())
        for name, data in contents.items():
            with place.fetched(found[name]) as path:
                assert path.read_bytes() == data
        assert proxy.faults[fault] > 3
    assert shop.contents("p/") == contents


def test_lost_replies_of_replacements(shop):
    """A replacement whose reply is lost is found done: every object is the new one, no conflict is told."""
    place = Bucket(shop.name)
    before = {n: place.publish(f"{n}", b"old %d" % n) for n in range(20)}
    with shop.failing(0.5, only="lost") as proxy:
        for n, found in before.items():
            place.publish(f"{n}", b"new %d" % n, replacing=found.etag)
    assert proxy.faults["lost"] > 3
    assert shop.contents("") == {f"{n}": b"new %d" % n for n in range(20)}


def test_patience_ends(shop, monkeypatch):
    """A store that always fails is given up with its last words."""
    monkeypatch.setattr(s3, "PATIENCE_S", 0.0)
    with shop.failing(1.0), pytest.raises(StoreError, match=r"x: the store has failed for .*run again"):
        Bucket(shop.name).stat("x")


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere-at-all", "no such bucket"), ("a", "bucket")], ids=["missing", "impossible name"]
)
def test_missing_bucket_is_told(shop, name, said):
    """A bucket that is not there is told before any work."""
    with pytest.raises(JobError, match=said):
        Bucket(name).check()
    with pytest.raises(StoreError, match=said):
        Bucket(name).publish("x", b"")


def test_missing_credentials_are_told(shop, monkeypatch, tmp_path):
    """Without credentials the error says where they come from."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3.forget()
    with pytest.raises(JobError, match="come from the environment"):
        Bucket(shop.name).check()


def test_no_secret_leaves_the_environment(shop, caplog):
    """Neither a pickled place, nor its words, nor what is logged with everything on, holds a credential."""
    caplog.set_level(logging.DEBUG)
    place = Bucket(shop.name)
    with shop.failing(0.4):
        place.publish("x", b"data")
        place.read("x")
        said = [repr(place), place.url, caplog.text, repr(pickle.dumps(place))]
    with pytest.raises(StoreError) as caught:
        place.read("y")
    said.append(repr(caught.getrepr()))
    assert not [text for text in said if KEY_ID in text or SECRET in text]


def test_one_put_has_a_limit(shop, monkeypatch):
    """What is larger than one PUT takes is refused, with the way out."""
    monkeypatch.setattr(bucket, "_MAX_PUT_NBYTES", 10)
    with pytest.raises(StoreError, match="name a folder"):
        Bucket(shop.name).publish("x", b"01234567890")


def _md5(data: bytes) -> str:
    """What S3 gives as ETag of an object of one PUT."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
