"""One cluster of real processes for all tests that need one."""

from __future__ import annotations

import pytest

from pipelines.cluster import Cluster, connected


@pytest.fixture(scope="session")
def client():
    """A client of two workers, started as `refine catalog` starts them."""
    with connected(Cluster(workers=2)) as client:
        yield client


@pytest.fixture
def shared(client):
    """The shared cluster, as a job is told of it."""
    return Cluster(address=client.scheduler.address)
