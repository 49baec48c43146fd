"""What a plan will cost, before it runs: to cut the work, and to tell the user. No byte of a result depends on it."""

from __future__ import annotations

from functools import lru_cache
from math import isqrt

from pipelines import ingest
from refine.errors import PlanError, RefineError
from refine.finish import Finish
from refine.order import SheetPlan
from refine.plan import Plan
from refine.settings import Settings
from refine.spec import ImageSpec

_GUESSED_NBYTES, _BYTE_PX = 4096, 0.35
"""Bytes by which sizes of files are told apart; bytes of a photograph's file by its px."""
BATCH_S = 5.0
"""Seconds of work in one task: what is lost with a worker, and what an image may take that is not tiled."""
_STEPS_S = 0.03
"""CPU seconds per output megapixel of all steps after the network; measured."""
_ALPHA_S = 0.9
"""CPU seconds per output megapixel that colour under transparent pixels takes; measured."""
_FILE_S = 0.08
"""CPU seconds per output megapixel of decoding, encoding and storing; measured with JPEG and PNG."""
_FINISH_S = 0.003
"""CPU seconds per output megapixel and px of the kernel's radius that output sharpening takes; measured."""
_INK_S = 0.3
"""CPU seconds per output megapixel that turning colours into a printer's takes; measured."""
_IMAGE_S = 0.005
"""CPU seconds of any image, however small."""
_FILE_SHARE = {"jpeg": 0.25, "png": 0.6, "tiff": 1.0, "webp": 0.15, "avif": 0.15, "jpegxl": 0.15}
"""Bytes of a file by the bytes of its pixels, photographs at quality 95."""


def cost_s(plan: Plan) -> float:
    """CPU seconds that an image takes on one core."""
    scale, seconds = 1, 0.0
    for card in plan.chain.cards:
        scale *= card.scale
        seconds += card.cost_s * plan.source.height * plan.source.width * scale**2 / 1e6
    per_megapixel = _STEPS_S + _FILE_S + (_ALPHA_S if plan.source.has_alpha else 0.0)
    return _IMAGE_S + seconds + per_megapixel * plan.output[0] * plan.output[1] / 1e6


def sheet_cost_s(plan: SheetPlan) -> float:
    """CPU seconds that a sheet takes on one core."""
    area = plan.output[0] * plan.output[1]
    whole = plan.plan.output[0] * plan.plan.output[1]
    ink = _INK_S if plan.press is not None else 0.0
    finishing = sum(_FINISH_S * step.kernel_radius for step in plan.plan.chain.active if isinstance(step, Finish))
    return cost_s(plan.plan) * area / whole + (ink + finishing) * area / 1e6


def output_nbytes(plan: Plan) -> int:
    """Bytes of the result's pixels."""
    return plan.result.nbytes


def file_nbytes(plan: Plan, format: str) -> int:  # noqa: A002  the word of ImageSpec
    """Bytes that the result's file may have, roughly."""
    return int(output_nbytes(plan) * _FILE_SHARE.get(format, 1.0))


def whole_mem(plan: Plan) -> int:
    """Bytes that a worker needs where the image is one task: source, result and its encoded file beside a block."""
    return plan.projected_mem + plan.source.nbytes + 3 * output_nbytes(plan)


def is_small(plan: Plan, allowed_mem: int, batch_s: float = BATCH_S) -> bool:
    """Whether an image is one task among others, and not cut into tiles."""
    return plan.tile_count == 1 or (cost_s(plan) <= batch_s and whole_mem(plan) <= allowed_mem)


def check_ingest(plan: Plan, allowed_mem: int) -> None:
    """Raise PlanError where the source's rows are too long to be taken in within the memory allowed."""
    needed = ingest.projected_mem(plan.source)
    if needed > allowed_mem:
        raise PlanError(
            f"taking in rows of {plan.source.width} px needs {needed / 1e6:.0f} MB, allowed are "
            f"{allowed_mem / 1e6:.0f}; raise plan.allowed_mem"
        )


def check_stitch(plan: Plan, format: str, allowed_mem: int) -> None:  # noqa: A002  the word of ImageSpec
    """Raise PlanError where the file of a tiled result cannot be put together in memory. A TIFF is streamed."""
    needed = 2 * output_nbytes(plan)
    if format != "tiff" and needed > allowed_mem:
        height, width = plan.output
        raise PlanError(
            f"{format.upper()} is written whole: {width} x {height} px need {needed / 1e6:.0f} MB, allowed are "
            f"{allowed_mem / 1e6:.0f}; use --set output.format=tiff, or raise plan.allowed_mem"
        )


def guess_s(settings: Settings, nbytes: int) -> float:
    """Seconds that an image in a file of so many bytes should take, whose header is not known yet."""
    return _guessed_s(settings, 1 << (nbytes // _GUESSED_NBYTES + 1).bit_length())


@lru_cache(maxsize=256)
def _guessed_s(settings: Settings, nbytes: int) -> float:
    side = max(1, isqrt(int(nbytes * _GUESSED_NBYTES / _BYTE_PX)))
    try:
        return cost_s(settings.plan(ImageSpec(side, side, 3, "uint8")))
    except RefineError:
        return BATCH_S
