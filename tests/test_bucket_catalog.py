"""Catalogs from and to a bucket: the bytes that a folder gets, only what changed, and goes on from the bucket alone."""

from __future__ import annotations

import pytest
from strategies_files import small_tree
from test_catalog import settings_for

from pipelines import catalog as catalogs
from pipelines.catalog import Terms, catalog
from pipelines.cluster import Cluster

# Workers read the environment of the test that started them: no cluster is shared.
ONE = Cluster(workers=1)


def contents(folder):
    """All files of a folder but the ledger's, by name."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and ".refine" not in p.parts
    }


def upload(shop, folder, prefix):
    """Put a folder's files into the bucket."""
    for name, data in contents(folder).items():
        shop.put(f"{prefix}/{name}", data)


def results(shop, prefix="out/"):
    """What is in the bucket, but for the ledger."""
    return {k: v for k, v in shop.contents(prefix).items() if not k.startswith(".refine/")}


@pytest.fixture
def local(tmp_path, client):
    """A small tree, and its results in a folder."""
    source = small_tree(tmp_path / "source")
    assert catalog(source, tmp_path / "local", settings_for(), Cluster(client.scheduler.address)).done == 5
    return source, contents(tmp_path / "local")


def test_bucket_to_bucket_equals_folder(shop, tmp_path, local):
    """From a bucket into a bucket gives the same names and bytes as folders; nothing is fetched a second time."""
    source, expected = local
    upload(shop, source, "in")
    shop.put("in/notes.txt", b"no image")
    terms = Terms(state=tmp_path / "state")
    summary = catalog(f"{shop.url}/in", f"{shop.url}/out", settings_for(), ONE, terms=terms)
    assert (summary.done, summary.failed, summary.skipped) == (5, [], 1)
    assert results(shop) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogs, "connected", None)
        with shop.failing(0.0) as proxy:
            again = catalog(f"{shop.url}/in", f"{shop.url}/out", settings_for(), ONE, terms=terms)
    assert (again.done, again.unchanged) == (0, 5)
    assert not [name for method, name in proxy.seen if method == "GET" and name.startswith(f"/{shop.name}/in/")]
