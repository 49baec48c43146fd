"""Tables of measurements, written beside the benchmarks with the machine they ran on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort

RESULTS = Path(__file__).parent / "results"


def write_table(name: str, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], notes: str = "") -> str:
    """Write results/<name>.md and give its text."""
    lines = [f"# {title}", "", machine(), "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    text = "\n".join([*lines, "", notes, ""] if notes else [*lines, ""])
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    return text


def machine() -> str:
    """One line: when, where, with what."""
    cpu = next((r.partition(":")[2].strip() for r in _lines("/proc/cpuinfo") if r.startswith("model name")), "?")
    wide = "AVX-512" if any("avx512f" in r for r in _lines("/proc/cpuinfo")[:40]) else "AVX2"
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores of {cpu} ({wide}), load {load:.1f}, Python "
        f"{platform.python_version()}, onnxruntime {ort.__version__}, numpy {np.__version__}. "
        "CPU seconds of one thread; compare ratios, not seconds."
    )


def cpu_seconds(*works: Callable[[], object], rounds: int = 7) -> list[float]:
    """Median CPU seconds of each work, measured in turn, so that a slower moment of the machine meets all of them."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for spent, work in zip(times, works, strict=True):
            start = time.process_time()
            work()
            spent.append(time.process_time() - start)
    return [median(spent) for spent in times]


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
