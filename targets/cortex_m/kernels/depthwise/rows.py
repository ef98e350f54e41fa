"""Assembly that computes rows of one channel from its plane: weights in registers, two rows by two columns at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..assembly import add_constant, naked_function

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .plan import Plan

__all__ = ["MOST_BLOCKS", "WEIGHTS", "row_function"]

WEIGHTS = ("r3", "r4", "r5", "r6", "r7", "r8")
_SUMS = ("r9", "r10", "r11", "r12")
MOST_BLOCKS = 6
"""Blocks of a row that are unrolled: more would not fit a small instruction cache."""

# Stack frame of the row function.
_BIAS, _ROUNDING, _ROWS_LEFT, _SAVED, _BLOCKS_LEFT, _FRAME = 0, 4, 20, 24, 40, 48


def row_function(plan: Plan, name: str, rows: int, columns: int, *, many: bool) -> str:
    """Computes groups of output rows of one channel from its plane."""
    view = plan.view
    words = plan.requantization.words.shape[1]
    weights = WEIGHTS[: len(plan.words.halves)]
    bias = WEIGHTS[len(weights)] if len(weights) < len(WEIGHTS) else None
    lines = ["push {r4-r11, lr}", f"sub sp, sp, #{_FRAME}"]
    lines += [f"str r3, [sp, #{_ROWS_LEFT}]"] if many else []
    lines.append(f"ldm r1!, {{{', '.join(weights)}}}")
    lines += [f"ldr {bias or 'r9'}, [r1], #4"] + ([] if bias else [f"str r9, [sp, #{_BIAS}]"])
    for number in range(words):
        lines += [f"ldr r9, [r1, #{4 * number}]", f"str r9, [sp, #{_ROUNDING + 4 * number}]"]
    if _spare_registers(plan)[2:]:
        lines += [f"str r3, [sp, #{_SAVED + 8}]"]
    lines += ["1:"] if many else []
    whole, tail = divmod(view.out_columns, columns)
    unrolled = _unrolled(whole)
    block_in, block_out = 4 * columns * view.stride[1], columns * view.out_column_bytes
    moved_in = moved_out = 0
    if whole > unrolled:
        loops = whole // unrolled
        lines += [f"mov lr, #{loops}", f"str lr, [sp, #{_BLOCKS_LEFT}]", "2:"]
        for block in range(unrolled):
            lines += _block(plan, rows, columns, block * block_in, block * block_out, weights, bias)
        lines += add_constant("r0", "r0", unrolled * block_in, "lr") + add_constant(
            "r2", "r2", unrolled * block_out, "lr"
        )
        lines += [f"ldr lr, [sp, #{_BLOCKS_LEFT}]", "subs lr, lr, #1", f"str lr, [sp, #{_BLOCKS_LEFT}]", "bne.w 2b"]
        moved_in, moved_out = loops * unrolled * block_in, loops * unrolled * block_out
        whole -= loops * unrolled
    for block in range(whole):
        lines += _block(plan, rows, columns, block * block_in, block * block_out, weights, bias)
    if tail:
        lines += _block(plan, rows, tail, whole * block_in, whole * block_out, weights, bias)
    if many:
        lines += add_constant("r0", "r0", 4 * plan.step * plan.width - moved_in, "lr")
        lines += add_constant("r2", "r2", rows * view.out_row_bytes - moved_out, "lr")
        lines += [f"ldr lr, [sp, #{_ROWS_LEFT}]", "subs lr, lr, #1", f"str lr, [sp, #{_ROWS_LEFT}]", "bne.w 1b"]
    lines += [f"add sp, sp, #{_FRAME}", "pop {r4-r11, pc}"]
    note = (
        f"One channel, {rows} output row{'s' if rows > 1 else ''} at a time"
        f"{', `groups` times' if many else ''}: `pairs` is the channel's plane, `channel` its constants.\n"
        f"{weights[0]}-{weights[-1]} weights, {_SUMS[0]}-{_SUMS[-1]} sums, r0 plane, r2 output, r1 and lr pairs."
    )
    parameters = ["const int32_t *pairs", "const int32_t *channel", "int8_t *output"] + ["int32_t groups"] * many
    return naked_function(name, parameters, note, lines)


def _unrolled(blocks: int) -> int:
    """Blocks that the body of the loop over a row holds."""
    if blocks <= MOST_BLOCKS:
        return max(blocks, 1)
    return next((n for n in range(MOST_BLOCKS, 2, -1) if blocks % n == 0), 4)


def _block(
    plan: Plan, rows: int, columns: int, offset: int, out_offset: int, weights: Sequence[str], bias: str | None
) -> list[str]:
    """Some rows by some columns of the output: at most four sums."""
    sums = {(row, column): _SUMS[row * columns + column] for row in range(rows) for column in range(columns)}
    uses = _uses(plan, sums, weights)
    places = sorted(uses)
    started: set[str] = set()
    lines = [] if bias else [f"ldr lr, [sp, #{_BIAS}]"]
    at = 0
    while at < len(places):
        alone = bias is None and len(started) < len(sums)
        together = [places[at]]
        if not alone and at + 1 < len(places):
            together.append(places[at + 1])
        temporaries = ("r1", "lr")[: len(together)]
        if len(together) == 2 and together[1] == together[0] + 4 and offset + together[0] <= 1020:
            lines.append(f"ldrd r1, lr, [r0, #{offset + together[0]}]")
        else:
            lines += [f"ldr {t}, [r0, #{offset + p}]" for t, p in zip(temporaries, together, strict=True)]
        for temporary, place in zip(temporaries, together, strict=True):
            for total, operation, weight in uses[place]:
                before = total if total in started else (bias or "lr")
                started.add(total)
                lines.append(f"{operation} {total}, {temporary}, {weight}, {before}")
        at += len(together)
    return lines + _finish(plan, sums, out_offset)


def _uses(
    plan: Plan, sums: dict[tuple[int, int], str], weights: Sequence[str]
) -> dict[int, list[tuple[str, str, str]]]:
    """For each word of the plane, by its byte offset: the sums that it goes into, by which instruction and weights."""
    down, across = plan.view.stride
    height, width, _ = plan.view.weights.shape
    uses: dict[int, list[tuple[str, str, str]]] = {}
    for (row, column), total in sums.items():
        first = down * row
        for dx in range(width):
            for pair in range(first // 2, (first + height - 1) // 2 + 1):
                taps = [pair * 2 - first, pair * 2 + 1 - first]
                inside = [0 <= tap < height for tap in taps]
                if all(inside):
                    operation, weight = "smlad", weights[plan.words.pair((taps[0], dx))]
                else:
                    lane = 0 if inside[0] else 1
                    number, half = plan.words.half((taps[lane], dx))
                    operation, weight = f"smla{'bt'[lane]}{half.lower()}", weights[number]
                place = 4 * (pair * plan.width + across * column + dx)
                uses.setdefault(place, []).append((total, operation, weight))
    return uses


def _spare_registers(plan: Plan) -> tuple[str, ...]:
    """Registers that requantization takes beyond the two that are free: they are saved around it."""
    extra = {"floor": 0, "signed": 1, "shifted": 2, "general": 3}[plan.requantization.form]
    return ("r0", "r2", "r3")[:extra]


def _finish(plan: Plan, sums: dict[tuple[int, int], str], out_offset: int) -> list[str]:
    """Requantizes the sums and stores them."""
    view, spare = plan.view, _spare_registers(plan)
    free = ("r1", "lr", *spare)
    words = plan.requantization.words.shape[1]
    lines = [f"str {r}, [sp, #{_SAVED + 4 * n}]" for n, r in enumerate(spare) if r != "r3"]
    lines.append(f"ldrd r1, lr, [sp, #{_ROUNDING}]")
    lines += [f"ldr {free[n]}, [sp, #{_ROUNDING + 4 * n}]" for n in range(2, words)]
    lines += plan.requantization.one_channel(tuple(sums.values()), free)
    lines += [f"ldr {r}, [sp, #{_SAVED + 4 * n}]" for n, r in enumerate(spare)]
    base = 0
    for (row, column), total in sums.items():
        place = out_offset + row * view.out_row_bytes + column * view.out_column_bytes
        if place <= 4095:
            lines.append(f"strb {total}, [r2, #{place}]")
            continue
        if not base <= place <= base + 4095 or base == 0:
            lines += add_constant("lr", "r2", place, "lr")
            base = place
        lines.append(f"strb {total}, [lr, #{place - base}]")
    return lines
