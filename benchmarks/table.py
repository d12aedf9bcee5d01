"""The comparison as tables in Markdown, and in words."""

from collections.abc import Sequence

from benchmarks.contestants import OURS
from benchmarks.measurement import Measurement
from benchmarks.networks import Case
from benchmarks.summary import QUANTITIES, best_torch, peak_mib, ratio, shown_quantities
from flax_densenet.bench.measure import MIB
from flax_densenet.sample import Sample

_MEMORY_HEADER = (
    "contestant",
    "first step (s): cold / compiled before",
    "peak memory (MiB)",
    "x ours",
    "since the first step",
    "without compilation",
    "XLA: temporary / arguments",
)
_NONE = "-"


def comparison(case: Case, measurements: Sequence[Measurement]) -> str:
    """Returns tables and sentences about one network.

    Args:
      case: The network.
      measurements: All contestants.
    """
    names = [name for name in shown_quantities(measurements) if name != "memory"]
    speed = [_speed_row(case, names, one, measurements) for one in measurements]
    memory = [_memory_row(one, measurements) for one in measurements]
    lines = [
        *_table([_speed_header(names), *speed]),
        *_table([_MEMORY_HEADER, *memory]),
        *_verdicts(measurements),
        *_failures(measurements),
    ]
    n = max(len(one.train_seconds) for one in measurements)
    return "\n".join([f"### {case.title}, n = {n} steps each", "", *lines])


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return [*lines, ""]


def _speed_header(names: Sequence[str]) -> list[str]:
    cells = ["contestant"]
    for name in names:
        cells += [f"{QUANTITIES[name].name} (s): min / median / max", "x ours", "images/s"]
    return cells


def _speed_row(
    case: Case, names: Sequence[str], one: Measurement, measurements: Sequence[Measurement]
) -> list[str]:
    cells = [one.contestant]
    for name in names:
        quantity = QUANTITIES[name]
        seconds = Sample(quantity.of(one))
        if not seconds:
            cells += ["failed" if one.error else _NONE, _NONE, _NONE]
            continue
        cells += [
            f"{min(seconds):#.3g} / {seconds.median:#.3g} / {max(seconds):#.3g}",
            _number(ratio(quantity, one, measurements), ".2f"),
            f"{case.batch_size / seconds.median:.4g}",
        ]
    return cells


def _memory_row(one: Measurement, measurements: Sequence[Measurement]) -> list[str]:
    peak = Sample(peak_mib(one))
    known = one.framework_memory
    return [
        one.contestant,
        f"{_number(one.first_step_seconds, '.3g')} / "
        f"{_number(one.cached_first_step_seconds, '.3g')}",
        _number(peak.median if peak else None, ".0f"),
        _number(ratio(QUANTITIES["memory"], one, measurements), ".2f"),
        _mib(one.peak_bytes, one.start_bytes),
        _mib(one.cached_peak_bytes),
        f"{_mib(known['temporary_bytes'])} / {_mib(known['argument_bytes'])}"
        if "temporary_bytes" in known
        else _NONE,
    ]


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else format(value, form)


def _mib(size: int | None, start: int | None = 0) -> str:
    return _NONE if size is None or start is None else f"{(size - start) / MIB:.0f}"


def _verdicts(measurements: Sequence[Measurement]) -> list[str]:
    """Compares ours with the best mode of PyTorch, which may be another one for each quantity."""
    lines = []
    for dtype, ours in OURS.items():
        for quantity in QUANTITIES.values():
            best = best_torch(quantity, dtype, measurements)
            factor = best and ratio(quantity, best, measurements)
            if best and factor:
                words = quantity.verdict.format(ours=ours, factor=factor, best=best.contestant)
                lines.append(f"- {quantity.name}: {words}.")
    return lines


def _failures(measurements: Sequence[Measurement]) -> list[str]:
    return [
        f"- {one.contestant} failed{where}: {reason}"
        for one in measurements
        for where, reason in (("", one.error), (" in its second process", one.second_error))
        if reason
    ]
