"""Where tasks run: processes of this machine, heard by nobody else."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from pipelines.cluster import Cluster, connected
from pipelines.errors import JobError


def _listening_off_loopback(pid):
    """Ports on which a process and its children listen beyond 127.0.0.1."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            link = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if link.startswith("socket:["):
            inodes.add(link[8:-1])
    rows = []
    for table in ("tcp", "tcp6"):
        lines = Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
        rows += [line.split() for line in lines]
    listening = [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]
    return [
        address for address in listening if not address.startswith(("0100007F", "00000000000000000000000001000000"))
    ]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc/net")
def test_cluster_listens_on_loopback_only(client):
    """Neither scheduler nor worker nor nanny opens a port that another machine could reach."""
    pids = [os.getpid(), *client.run(os.getpid).values()]
    assert [_listening_off_loopback(pid) for pid in pids] == [[], [], []]


def test_cluster_has_processes_of_one_thread(client):
    """As many workers as asked for, each a process of its own with one thread, for cores are shared by processes."""
    assert list(client.nthreads().values()) == [1, 1]
    assert len({os.getpid(), *client.run(os.getpid).values()}) == 3


def test_cluster_has_no_dashboard_unless_asked(client):
    """Dask's pages tell all that runs, and let who reaches them do harm: none is served."""
    port = client.cluster.scheduler.http_server.port
    for page in ("status", "health", "info/main/workers.html", "json/identity.json"):
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"http://127.0.0.1:{port}/{page}", timeout=30)


def test_connected_says_that_no_scheduler_answers(monkeypatch):
    """An address where nobody listens is an error of one line that names it."""
    monkeypatch.setattr("pipelines.cluster._CONNECT_S", 1)
    with pytest.raises(JobError, match=r"127\.0\.0\.1:9"), connected(Cluster(address="tcp://127.0.0.1:9")):
        pass
