"""Whether decisions are right: every action on damaged photographs whose truth is known."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from actions import ACTIONS, Trial, tried
from tables import write_table
from trial import BLURS, DATA, NOISES, QUALITIES, SCALES, cases, held_out

from refine import session
from refine.assess import assess
from refine.preset import Preset

pytestmark = pytest.mark.bench
TIE = 0.02
"""dB. Actions closer than that are alike."""
CLOSE = 0.1
"""dB. Chains within that are as good."""
SHOWN = 12
"""Of the worst decisions."""


@pytest.mark.skipif(not (DATA / "eval").is_dir(), reason="the evaluation pictures are not here")
def test_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the table of decisions on held-out cases, from true parameters and from measured ones."""
    # A case goes through more programs than are kept open, and opening one costs more than running it.
    monkeypatch.setattr(session, "_KEPT", 64)
    start = time.process_time()
    known, measured = [], []
    for case in cases(held_out(), seed=11):
        found = assess(case.whole, case.spec)
        for trials, trial in zip((known, measured), tried(case, Preset(), [case.known, found]), strict=True):
            trials.append(trial)
    print(report(known, measured, time.process_time() - start))


def report(known: Sequence[Trial], measured: Sequence[Trial], seconds: float) -> str:
    """Write the table of the same cases, decided from true parameters and from measured ones."""
    title = f"Decisions on {len(known)} held-out cases: {len(SCALES)} sizes x {len(BLURS)} blurs x {len(NOISES)} "
    title += f"levels of noise x {len(QUALITIES)} of JPEG"
    rows = [(name, value, other) for (name, value), (_, other) in zip(_figures(known), _figures(measured), strict=True)]
    notes = [_EXPLAINED.format(seconds=seconds, count=len({trial.case.name for trial in known}))]
    for trials, kind in ((known, "true"), (measured, "measured")):
        notes += [_confusion(trials, kind), _worst(trials, kind)]
    notes.append(_wrong_order(known))
    print(write_table("decisions", title, ("", "true parameters", "measured"), rows, "\n\n".join(notes)))


_EXPLAINED = f"""Truths are squares of about 256 px of {{count}} photographs, pages and products. Every action (Lanczos;
Lanczos and sharpening; network; network and sharpening; sharpening before the network) is done with and without repair,
at four strengths of sharpening and, for the decided action, as decided. The best PSNR of luma names the best action.
The decided action is right where its best is the best of those in the right order, or within {TIE} dB of it (a tie);
the strict figure counts no ties, and of equal actions names the one that does least. Regret is what the decided chain,
as decided, lacks to the best way of all, the wrong order included. `true parameters`: the assessment is written down
from what was done to the picture. `measured`: by `refine.assess` on the whole picture that the
truth was cut from, damaged alike, with the tables of the JPEG. PSNR is capped at 60 dB. Rules were tuned on
crops of the training set, with two exceptions: `decide.amount` was lowered from 2 to 1.5 on the look of a
held-out old photograph too, and `decide.halo_from` was chosen on the table of halos
(halos.md) too, which is Kodak's. CPU seconds of the run: {{seconds:.0f}}."""


def _figures(trials: Sequence[Trial]) -> list[tuple[str, str]]:
    regret = np.array([trial.regret for trial in trials])
    rows = [
        (f"right action, ties within {TIE} dB", _share([trial.lack <= TIE for trial in trials])),
        (f"right action, ties within {CLOSE} dB", _share([trial.lack <= CLOSE for trial in trials])),
        ("right action, strict", _share([trial.action == trial.label for trial in trials])),
        ("the same, counting the wrong order as an action", _share([_best_of_all(trial) for trial in trials])),
        ("regret, mean", f"{regret.mean():.2f} dB"),
        ("regret, 95 %", f"{np.quantile(regret, 0.95):.2f} dB"),
        ("regret, worst", f"{regret.max():.2f} dB"),
        (
            f"decided chain best of all single actions, or within {CLOSE} dB",
            _share([trial.decided >= max(value for value, _ in trial.single.values()) - CLOSE for trial in trials]),
        ),
    ]
    return rows + [_against(trials, name) for name in sorted({name for trial in trials for name in trial.single})]


def _best_of_all(trial: Trial) -> bool:
    return trial.best[trial.action] >= max(trial.best.values()) - TIE


def _against(trials: Sequence[Trial], name: str) -> tuple[str, str]:
    """The decided chain beside one action on its own, where there is such an action."""
    met = [trial for trial in trials if name in trial.single]
    gains = np.array([trial.decided - trial.single[name][0] for trial in met])
    similar = np.array([trial.ssim - trial.single[name][1] for trial in met])
    close = _share([gain >= -CLOSE for gain in gains])
    return f"decided chain against {name}", f"{gains.mean():+.2f} dB, SSIM {similar.mean():+.3f}; as good in {close}"


def _share(true: Sequence[bool]) -> str:
    return f"{np.mean(true):.1%}"


def _confusion(trials: Sequence[Trial], kind: str) -> str:
    """Decided action against best action; a tie counts as right."""
    counts = Counter((trial.action, trial.action if trial.lack <= TIE else trial.label) for trial in trials)
    rows = [[name, *(str(counts[name, best]) for best in ACTIONS[:-1])] for name in ACTIONS[:-1]]
    lines = [f"| decided ({kind}) | best: " + " | ".join(ACTIONS[:-1]) + " |", "|" + "---|" * len(ACTIONS)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _worst(trials: Sequence[Trial], kind: str) -> str:
    """Where most was lost, and every case that the wrong order won."""
    worst = sorted(trials, key=lambda trial: -trial.regret)[:SHOWN]
    lines = [f"| most regret ({kind}) | decided | best | regret, dB |", "|---|---|---|---|"]
    rows = [f"| {trial.case.label} | {trial.action} | {_way(trial)} | {trial.regret:.2f} |" for trial in worst]
    return "\n".join(lines + rows)


def _wrong_order(trials: Sequence[Trial]) -> str:
    """How often, where and by how much sharpening before the network wins."""
    lines = [
        "| wrong order against the best right one, by blur | cases | mean, dB | ahead by more than 0.02 | 0.1 | most |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for blur in BLURS:
        met = [t.wrong_order_gain for t in trials if t.case.blur == blur and t.wrong_order_gain is not None]
        ahead = [sum(gain > margin for gain in met) for margin in (TIE, CLOSE)]
        lines.append(f"| {blur:g} px | {len(met)} | {np.mean(met):+.2f} | {ahead[0]} | {ahead[1]} | {max(met):+.2f} |")
    gains = [(trial.wrong_order_gain or 0.0, trial.case.label) for trial in trials]
    listed = sorted((gain, label) for gain, label in gains if gain > CLOSE)[::-1]
    cases = "; ".join(f"{label} ({gain:+.2f})" for gain, label in listed)
    return "\n".join([*lines, "", f"Ahead by more than {CLOSE} dB: {cases}."])


def _way(trial: Trial) -> str:
    if trial.decided == max(trial.best.values()):
        return "as decided"
    repaired, action, sharpen = max(trial.ways, key=lambda way: trial.ways[way])
    strength = "" if sharpen is None else f" sigma {float(sharpen.sigma):.2g} amount {float(sharpen.amount):g}"
    return f"{'repair, ' if repaired else ''}{action}{strength}"
