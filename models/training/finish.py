r"""From a checkpoint to a network and its card: export, calibrate, score. Training may go on meanwhile.

python -m models.training.finish clean-x1 build/training/clean-x1.pt --out models/nets \
        --data ../shared/data/train --eval ../shared/data/eval
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models.training.architecture import NETS
from models.training.card import Value, card, machine, recipe_commit
from models.training.data import credits_of
from models.training.evaluate import KODAK, cost_s, flat_error, load_network, scores
from models.training.export import calibrated, write_network
from models.training.net import kernels
from models.training.pages import printed, scans_beside
from models.training.train import Run, Schedule, resumed, schedule_in


def finish(
    net_id: str, run: Run, schedule: Schedule, folder: Path, *, learnt: Path, tested: Path, pictures: int = KODAK
) -> Path:
    """Write the running mean of a run as <id>.onnx, and <id>.toml beside it; gives the card's file.

    learnt is the folder of crops with their manifest, tested that of set5, set14 and kodak, of whose photographs the
    first `pictures` are scored.
    """
    net = NETS[net_id]
    weights = kernels(run.mean)
    file = folder / f"{net_id}.onnx"
    write_network(calibrated(weights, net), net, file, {"id": net_id})
    network = load_network(file, net.scale, net.halo, net.unshuffle)
    on_paper = printed(network, net.scale, scans_beside(tested)) if net.damage.pages else {}
    facts: dict[str, Value] = {
        "cost_s": round(cost_s(network), 3),
        "flat_error": _bound(flat_error(network)),
        **_history(run, schedule),
        "data": credits_of(learnt),
        "scores": scores(network, tested, pictures) | on_paper,
    }
    made = file.with_suffix(".toml")
    made.write_text(card(net_id, net, file.read_bytes(), facts), encoding="utf-8")
    return made


def _bound(measured: float) -> float:
    """What a card promises: a little more than was measured, for another processor rounds otherwise."""
    return round(1.2 * measured + 0.1, 1)


def _history(run: Run, schedule: Schedule) -> dict[str, str]:
    squared = f"L1, the last {schedule.squared:.0%} by squared error" if schedule.squared else "L1"
    learnt_by = "squared error" if schedule.squared >= 1 else squared
    training = (
        f"{run.step} steps of {schedule.batch} squares of {run.net.architecture.side} px, {learnt_by}, "
        f"luma weighed {schedule.luma:g}, Muon {schedule.matrix_rate:g} and Adam {schedule.rate:g} cosine, "
        f"running mean of the weights, seed {schedule.seed}{'; bfloat16' * schedule.bfloat16}; begun from {run.begun}"
    )
    if run.spent_s < schedule.budget_s and run.step < schedule.steps:
        training += "; schedule not finished"
    place = f"{run.spent_s / 60:.0f} min on {machine()}, threads: {schedule.threads}"
    return {"training": training, "machine": place, "recipe": recipe_commit()}


def main() -> None:
    """Finish a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net", choices=sorted(NETS))
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of .jxl crops with a manifest.tsv")
    parser.add_argument("--eval", type=Path, required=True, help="folder with set5, set14 and kodak")
    parser.add_argument("--out", type=Path, required=True, help="folder of the network and its card")
    parser.add_argument("--begun", help="what the first weights were, where the checkpoint does not say")
    parser.add_argument("--pictures", type=int, default=KODAK, help="how many of Kodak's photographs are scored")
    given = parser.parse_args()
    schedule = schedule_in(given.checkpoint)
    run = resumed(given.net, schedule, given.checkpoint)
    run.begun = given.begun or run.begun
    chosen = {"learnt": given.data, "tested": given.eval}
    made = finish(given.net, run, schedule, given.out, **chosen, pictures=given.pictures)
    print(made.read_text(encoding="utf-8"))  # noqa: T201 - what the command gives


if __name__ == "__main__":
    main()
