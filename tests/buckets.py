"""A server that speaks S3, for tests: moto's, over HTTP on loopback; buckets in it, read and written by boto3."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from faultproxy import FaultProxy

KEY_ID, SECRET = "canary-key-id-5f3a", "canary-secret-9c1e7d"
"""Credentials, to be found nowhere but in the environment."""
_numbers = itertools.count()


@dataclass(frozen=True)
class Shop:
    """A bucket of its own for one test, and the server's own door to it."""

    name: str
    server: tuple[str, int]
    client: Any

    @property
    def url(self) -> str:
        """How a user writes it."""
        return f"s3://{self.name}"

    def put(self, key: str, data: bytes) -> None:
        """Store an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        """An object's bytes."""
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> list[str]:
        """All keys below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def contents(self, prefix: str) -> dict[str, bytes]:
        """All objects below a prefix, by what follows it; those that went meanwhile are left out."""
        found = {}
        for key in self.keys(prefix):
            with suppress(self.client.exceptions.NoSuchKey):
                found[key.removeprefix(prefix)] = self.get(key)
        return found

    @contextmanager
    def failing(self, share: float, seed: int = 0, only: str = "") -> Iterator[FaultProxy]:
        """Have what asks from now on go through a proxy that fails."""
        from pipelines import s3  # noqa: PLC0415  the same

        with pytest.MonkeyPatch.context() as patch, FaultProxy(self.server, share, seed, only) as proxy:
            patch.setenv("AWS_ENDPOINT_URL", proxy.url)
            patch.setattr(s3, "_PAUSE_S", 0.001)
            s3.forget()
            yield proxy
        s3.forget()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """Address of a server of this run of tests, on a free port."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  a second, for the few tests that need it

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def shop(s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """An empty bucket, with the environment that leads to it."""
    from pipelines import s3  # noqa: PLC0415  the same

    set_environment(monkeypatch, "http://{}:{}".format(*s3_server))
    s3.forget()
    with opened_shop(s3_server) as found:
        yield found
    s3.forget()


@dataclass(frozen=True)
class Market:
    """A cluster whose workers reach the server through a proxy, which fails as much as a test wants."""

    proxy: FaultProxy
    cluster: Any


@pytest.fixture(scope="module")
def market(s3_server: tuple[str, int]) -> Iterator[Market]:
    """Two workers and this process behind one proxy, for all tests of a module."""
    from pipelines import s3  # noqa: PLC0415  the same
    from pipelines.cluster import Cluster, connected  # noqa: PLC0415  the same

    with pytest.MonkeyPatch.context() as patch, FaultProxy(s3_server, 0.0) as proxy:
        set_environment(patch, proxy.url)
        s3.forget()
        with connected(Cluster(workers=2)) as client:
            yield Market(proxy, Cluster(client.scheduler.address))
    s3.forget()


@pytest.fixture
def stall(market: Market, s3_server: tuple[str, int]) -> Iterator[Shop]:
    """An empty bucket that the market's workers reach; nothing fails until a test says so."""
    market.proxy.share = 0.0
    market.proxy.clear()
    with opened_shop(s3_server) as found:
        yield found
    market.proxy.share = 0.0


def set_environment(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Have this process, and those that it starts, reach a server with the credentials above and no others."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    patch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@contextmanager
def opened_shop(server: tuple[str, int]) -> Iterator[Shop]:
    """An empty bucket of a server."""
    import boto3  # noqa: PLC0415  the same

    client = boto3.client("s3", endpoint_url="http://{}:{}".format(*server))
    name = f"shop-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    yield Shop(name, server, client)
    client.close()
