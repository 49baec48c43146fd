"""From data to card in one command: train (or go on), export, calibrate, score, and write the card.

python -m models.training fast-x2 --data ../shared/data/train --eval ../shared/data/eval --out build/training
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from models.training.architecture import NETS
from models.training.card import Value, card, machine, recipe_commit
from models.training.data import credits_of
from models.training.evaluate import cost_s, flat_error, load_network, scores
from models.training.export import calibrated, write_network
from models.training.train import Run, Schedule, arguments, schedule_of, trained


def main() -> None:
    """Train a network and leave <id>.onnx and <id>.toml beside its checkpoint."""
    parser = arguments()
    parser.add_argument("--eval", type=Path, required=True, help="folder with set5, set14 and kodak")
    given = parser.parse_args()
    schedule = schedule_of(given)
    run = trained(given.net, schedule, given.data, given.out, given.warm)
    begun = str(given.warm.name) if given.warm else "nothing"
    finish(given.net, run, given.out / f"{given.net}.onnx", given.eval, _history(run, schedule, given.data, begun))


def finish(net_id: str, run: Run, file: Path, data: Path, history: Mapping[str, str | list[str]]) -> None:
    """Export a run's running mean to `file`, score it, and write the card beside it."""
    net = NETS[net_id]
    weights = {name: value.detach().contiguous().numpy() for name, value in run.mean.items()}
    raw = file.with_name(f"{net_id}.raw.onnx")
    write_network(weights, net, raw, {})
    write_network(calibrated(weights, net), net, file, {"id": net_id})
    before, network = (load_network(path, net.scale, net.halo, net.unshuffle) for path in (raw, file))
    facts: dict[str, Value] = {
        "cost_s": round(cost_s(network), 3),
        "flat_error": round(flat_error(network), 2),
        "flat_error_before": round(flat_error(before), 2),
        "scores": scores(network, net.scale, data),
    }
    raw.unlink()
    file.with_suffix(".toml").write_text(card(net_id, net, file.read_bytes(), {**facts, **history}), encoding="utf-8")
    print(file.with_suffix(".toml").read_text(encoding="utf-8"))  # noqa: T201 - what the command gives


def _history(run: Run, schedule: Schedule, data: Path, begun: str) -> dict[str, str | list[str]]:
    training = (
        f"{run.step} steps of {schedule.batch} squares of {run.net.architecture.side} px, L1, Adam "
        f"{schedule.rate:g} cosine, running mean of the weights, seed {schedule.seed}; begun from {begun}"
    )
    place = f"{run.spent_s / 60:.0f} min on {machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return {"training": training, "machine": place, "recipe": recipe_commit(), "data": credits_of(data)}


if __name__ == "__main__":
    main()
