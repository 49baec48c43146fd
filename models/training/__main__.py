"""From data to card in one command: train (or go on), export, calibrate, score, and write the card.

python -m models.training fast-x2 --data ../shared/data/train --eval ../shared/data/eval --out build/training
"""

from __future__ import annotations

from pathlib import Path

from models.training.finish import finish
from models.training.train import arguments, schedule_of, trained


def main() -> None:
    """Train a network and leave <id>.onnx and <id>.toml beside its checkpoint."""
    parser = arguments()
    parser.add_argument("--eval", type=Path, required=True, help="folder with set5, set14 and kodak")
    given = parser.parse_args()
    schedule = schedule_of(given)
    run = trained(given.net, schedule, given.data, given.out, given.warm)
    made = finish(given.net, run, schedule, given.out, learnt=given.data, tested=given.eval)
    print(made.read_text(encoding="utf-8"))  # noqa: T201 - what the command gives


if __name__ == "__main__":
    main()
