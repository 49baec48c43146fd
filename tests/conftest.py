"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from buckets import market, s3_server, shop, stall  # noqa: F401  fixtures
from hypothesis import HealthCheck, settings
from inline_cluster import inline  # noqa: F401  a fixture
from shared_cluster import client, shared  # noqa: F401  fixtures

# No deadline: how long an example takes depends on the machine, and no test asserts a time.
settings.register_profile("refine", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("refine")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).parents[1]


# A script for one's own use: it needs torch, which tests do not.
collect_ignore = ["graphs/make_graphs.py"]
