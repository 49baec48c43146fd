"""A server that speaks S3, for tests: moto's, over HTTP on loopback; buckets in it, read and written by boto3."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
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
        """All objects below a prefix, by what follows it."""
        return {key.removeprefix(prefix): self.get(key) for key in self.keys(prefix)}

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
    import boto3  # noqa: PLC0415  the same

    from pipelines import s3  # noqa: PLC0415  the same

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*s3_server))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.client("s3")
    name = f"shop-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    s3.forget()
    yield Shop(name, s3_server, client)
    client.close()
    s3.forget()
