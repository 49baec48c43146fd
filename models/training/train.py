"""Training: from crops to a checkpoint. It may be stopped at any time and goes on where it was.

    python -m models.training.train fast-x2 --data ../shared/data/train --out build/training --steps 100000

What a step sees depends on the seed and the step's number alone, so a resumed run learns from the same pictures.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from models.training.architecture import NETS
from models.training.data import Crops
from models.training.degrade import batch
from models.training.net import Net, matrices, parameters, seeded, warm_started
from models.training.stock import stock

RING = 3
"""px of the input. The outer ring of a square is not learnt from: it sees padding, which no tile ever does."""
DECAY = 0.999
"""Of the running mean of the weights, which is what gets exported."""
WARM_UP = 200
"""Steps until the learning rate is reached."""
LONGEST_S = 60.0
"""Wall seconds that a step may count for: a run that was suspended has not spent the time in between."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G, B in the luma of BT.601."""
SQUARED = 8.0
"""Of the squared error beside the absolute one."""
SLOWEST = 1e-3
"""The last learning rate, as a fraction of the first."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to train, and how."""

    steps: int = 100_000
    """Optimiser steps in all."""
    budget_s: float = math.inf
    """Wall seconds in all, over every run; the learning rate falls by whichever is nearer its end."""
    batch: int = 16
    """Squares a step."""
    rate: float = 1e-3
    """First learning rate of Adam, which moves the head, the tail, and the biases."""
    matrix_rate: float = 5e-3
    """The same of Muon, which moves the kernels of the body."""
    seed: int = 1
    """Decides the first weights and every square."""
    checkpoint_s: float = 120.0
    """Wall seconds between checkpoints."""
    luma: float = 0.5
    """Weight of the error of luma beside that of the three channels: it is what eyes and benchmarks see."""
    squared: float = 0.0
    """Share of the schedule, its end, learnt by squared error. It is what PSNR measures, but a few noisy squares then
    outweigh the rest: the last 15 % cost a short run of fast-x2 0.03 dB on Set5 and Set14."""
    bfloat16: bool = False
    """Compute in bfloat16: twice as fast with AVX-512-BF16 or a GPU, ten times slower without."""
    threads: int = 1
    """Of torch."""


@dataclass(slots=True)
class Run:
    """A network in training: all that a checkpoint holds."""

    net: Net
    """The weights being trained."""
    mean: dict[str, Tensor]
    """Running mean of the weights."""
    optimisers: tuple[torch.optim.Optimizer, ...]
    """Adam and Muon, with their moments."""
    step: int = 0
    """Steps done."""
    spent_s: float = 0.0
    """Wall seconds spent on them."""
    begun: str = "nothing"
    """What the first weights were: the name of a file."""

    def follow(self) -> None:
        """Move the running mean towards the weights; faster at first, when the mean is still of few steps."""
        decay = min(DECAY, (1 + self.step) / (10 + self.step))
        for name, value in self.net.state_dict().items():
            self.mean[name].lerp_(value, 1 - decay)


def fresh(net_id: str, schedule: Schedule, warm: Path | None = None) -> Run:
    """A new run; `warm` is an ONNX network or a checkpoint whose weights are taken over where they fit."""
    net = seeded(NETS[net_id], schedule.seed)
    if warm is not None:
        warm_started(net, weights_of(warm))
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean = {name: value.clone() for name, value in net.state_dict().items()}
    return Run(net, mean, _optimisers(net, schedule), begun="nothing" if warm is None else warm.name)


def _optimisers(net: Net, schedule: Schedule) -> tuple[torch.optim.Optimizer, ...]:
    body = matrices(net)
    held = {id(parameter) for parameter in body}
    others = [parameter for parameter in net.parameters() if id(parameter) not in held]
    return (
        torch.optim.Adam(others, lr=schedule.rate, betas=(0.9, 0.99)),
        torch.optim.Muon(body, lr=schedule.matrix_rate, weight_decay=0.0),
    )


def weights_of(file: Path) -> dict[str, Tensor]:
    """The weights in an ONNX file, by their names, or the running mean in a checkpoint."""
    if file.suffix == ".onnx":
        held = onnx.load(file).graph.initializer
        return {w.name: torch.from_numpy(numpy_helper.to_array(w).copy()) for w in held}
    mean: dict[str, Tensor] = torch.load(file, weights_only=True)["mean"]
    return mean


def save(run: Run, schedule: Schedule, net_id: str, file: Path) -> None:
    """Write a checkpoint; a kill at any moment leaves the old one or the new one."""
    state = {
        "id": net_id,
        "step": run.step,
        "spent_s": run.spent_s,
        "begun": run.begun,
        "net": run.net.state_dict(),
        "mean": run.mean,
        "optimisers": [optimiser.state_dict() for optimiser in run.optimisers],
        "schedule": asdict(schedule),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, file)  # noqa: PTH105 - the promise is os.replace's


def resumed(net_id: str, schedule: Schedule, file: Path) -> Run:
    """The run of a checkpoint."""
    state = torch.load(file, weights_only=True)
    if state["id"] != net_id:
        raise ValueError(f"{file}: is a checkpoint of {state['id']}, not of {net_id}; name another folder with --out")
    run = fresh(net_id, schedule)
    run.net.load_state_dict(state["net"])
    for optimiser, held in zip(run.optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(held)
    run.mean = state["mean"]
    run.step, run.spent_s = state["step"], state["spent_s"]
    run.begun = state["begun"]
    return run


def schedule_in(file: Path) -> Schedule:
    """The schedule that a checkpoint was trained by."""
    return Schedule(**torch.load(file, weights_only=True)["schedule"])


def progress(run: Run, schedule: Schedule) -> float:
    """How far the schedule is, 0..1: by steps or by time, whichever is nearer its end."""
    return min(1.0, max(run.step / schedule.steps, run.spent_s / schedule.budget_s))


def pace(run: Run, schedule: Schedule) -> float:
    """The learning rates of the next step over the first: a short rise, then half a cosine down to SLOWEST."""
    fall = SLOWEST + (1 - SLOWEST) * (1 + math.cos(math.pi * progress(run, schedule))) / 2
    return fall * min(1.0, (run.step + 1) / WARM_UP)


def finished(run: Run, schedule: Schedule) -> bool:
    """Whether steps or time are used up."""
    return run.step >= schedule.steps or run.spent_s >= schedule.budget_s


def one_step(run: Run, schedule: Schedule, crops: Crops) -> float:
    """Learn from one batch; gives its mean absolute error in 8-bit levels, whatever it is learnt by."""
    net = run.net.architecture
    rng = np.random.default_rng([schedule.seed, run.step])
    squares = batch(crops, net.damage, net.scale, (schedule.batch, net.side), rng)
    low, strength, high = (torch.from_numpy(a) for a in (squares.low, squares.strength, squares.high))
    for optimiser, first in zip(run.optimisers, (schedule.rate, schedule.matrix_rate), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = first * pace(run, schedule)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=schedule.bfloat16):
        found = run.net(low.contiguous(memory_format=torch.channels_last), strength)
    ring = RING * net.scale
    error = (found.float() - high)[..., ring:-ring, ring:-ring]
    loss_of = _square if progress(run, schedule) >= 1 - schedule.squared else torch.abs
    luma = torch.tensordot(error, torch.tensor(LUMA), ([1], [0]))
    loss = (1 - schedule.luma) * loss_of(error).mean() + schedule.luma * loss_of(luma).mean()
    for optimiser in run.optimisers:
        optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.net.parameters(), 1.0)
    for optimiser in run.optimisers:
        optimiser.step()
    run.step += 1
    run.follow()
    return float(error.detach().abs().mean()) * 255


def _square(error: Tensor) -> Tensor:
    """Brought to about the size of the absolute error of a network that has learnt, so that rates mean the same."""
    return SQUARED * error.square()


def train(run: Run, schedule: Schedule, crops: Crops, checkpoint: Callable[[Run, float], None]) -> None:
    """Step until `finished`; `checkpoint` is given the run and its recent loss now and then, and at the end."""
    losses: list[float] = []
    before, saved_s = time.monotonic(), run.spent_s
    while not finished(run, schedule):
        losses.append(one_step(run, schedule, crops))
        now = time.monotonic()
        run.spent_s += min(now - before, LONGEST_S)
        before = now
        if run.spent_s - saved_s >= schedule.checkpoint_s or finished(run, schedule):
            checkpoint(run, sum(losses) / len(losses))
            losses, saved_s = [], run.spent_s


def trained(net_id: str, schedule: Schedule, data: Path, folder: Path, warm: Path | None = None) -> Run:
    """The finished run of a network; goes on from `folder`/<id>.pt where there is one, and writes it."""
    file = folder / f"{net_id}.pt"
    run = resumed(net_id, schedule, file) if file.exists() else fresh(net_id, schedule, warm)
    print(f"{net_id}: {parameters(run.net)} weights, from step {run.step}", flush=True)  # noqa: T201 - hours pass

    def checkpoint(run: Run, loss: float) -> None:
        save(run, schedule, net_id, file)
        print(f"step {run.step} after {run.spent_s:.0f} s: loss {loss:.3f}", flush=True)  # noqa: T201 - hours pass

    if not finished(run, schedule):
        train(run, schedule, stock(data, NETS[net_id], schedule.seed), checkpoint)
    return run


def arguments() -> argparse.ArgumentParser:
    """The command line, which `models.training` shares."""
    usual = Schedule()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net", choices=sorted(NETS))
    parser.add_argument("--data", type=Path, required=True, help="folder of .jxl crops with a manifest.tsv")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and results")
    parser.add_argument("--warm", type=Path, help="network (.onnx) or checkpoint (.pt) to begin from")
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop, and end the schedule, by then")
    parser.add_argument("--batch", type=int, default=usual.batch)
    parser.add_argument("--rate", type=float, default=usual.rate)
    parser.add_argument("--matrix-rate", type=float, default=usual.matrix_rate)
    parser.add_argument("--luma", type=float, default=usual.luma)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--squared", type=float, default=usual.squared, help="share, at the end, by squared error")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true")
    return parser


def schedule_of(given: argparse.Namespace) -> Schedule:
    """The schedule on the command line; sets torch's threads on the way."""
    torch.set_num_threads(given.threads)
    torch.set_flush_denormal(True)
    return Schedule(
        given.steps,
        60 * given.minutes,
        given.batch,
        given.rate,
        given.matrix_rate,
        given.seed,
        luma=given.luma,
        squared=given.squared,
        bfloat16=given.bfloat16,
        threads=given.threads,
    )


def main() -> None:
    """Train, and leave a checkpoint."""
    given = arguments().parse_args()
    trained(given.net, schedule_of(given), given.data, given.out, given.warm)


if __name__ == "__main__":
    main()
