"""A catalog's tasks without a cluster, for tests of what is done, not where."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from pipelines import catalog as catalogs
from pipelines import tasks
from pipelines.cluster import Cluster
from pipelines.planning import block
from pipelines.run import Outcome


@pytest.fixture
def inline(monkeypatch):
    """A cluster to be named in vain: a run's tasks are done in this process, one batch after another."""

    def streamed(_client, batches, work):
        for batch in batches:
            if batch is not None:
                yield tuple(Outcome(item, result) for item, result in zip(batch, work(batch), strict=True))

    def behaviour(_client, feed):
        return tasks.behaviour(feed.common.engine, block(next(iter(feed.planned.wanted.values())).settings))

    monkeypatch.setattr(catalogs, "streamed", streamed)
    monkeypatch.setattr(catalogs, "connected", lambda _cluster: nullcontext())
    monkeypatch.setattr(catalogs, "_agreed", behaviour)
    monkeypatch.setattr(catalogs, "_slots", lambda _client: 1)
    return Cluster(address="nowhere")
