"""Assembly that computes rows of one channel from its plane, four sums at once.

Weights of small windows stand in six registers. Those of larger ones are brought as they are needed, each for all sums
that it goes into; what then is left of the registers holds words of the plane for as long as they are needed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..assembly import add_constant, load_words, shared_function

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .plan import Plan

__all__ = ["MOST_BLOCKS", "WEIGHTS", "Product", "products_of", "row_function"]

WEIGHTS = ("r3", "r4", "r5", "r6", "r7", "r8")
"""Registers of a small window's weights."""

_SUMS = ("r9", "r10", "r11", "r12")
_BROUGHT = ("r4", "r5")
_KEPT = ("r1", "r6", "r7", "r8", "lr")
"""Registers of a large window's weights and of words of the plane; its weights begin where r3 points."""

MOST_BLOCKS = 6
_MOST_LINES = 280
"""Blocks of a row that are unrolled, and their instructions: more would not fit a small instruction cache."""

_FAR_PAIR = 1020
"""Furthest byte at which LDRD loads."""

# Stack frame of the row function.
_BIAS, _ROUNDING, _ROWS_LEFT, _SAVED, _BLOCKS_LEFT, _FRAME = 0, 4, 20, 24, 40, 48


def row_function(plan: Plan, rows: int, columns: int, *, many: bool) -> tuple[str, str]:
    """(name, source): computes output rows of one channel from its plane; groups of rows where `many`."""
    view = plan.view
    words = plan.requantization.words.shape[1]
    held = len(plan.words.halves)
    bias = WEIGHTS[held] if held < len(WEIGHTS) else None
    lines = ["push {r4-r11, lr}", f"sub sp, sp, #{_FRAME}"]
    lines += [f"str r3, [sp, #{_ROWS_LEFT}]"] if many else []
    lines += ["ldr r9, [r1], #4", f"mov {bias}, r9" if bias else f"str r9, [sp, #{_BIAS}]"]
    for number in range(words):
        lines += ["ldr r9, [r1], #4", f"str r9, [sp, #{_ROUNDING + 4 * number}]"]
    lines.append("mov r3, r1" if plan.streamed else load_words("r1", WEIGHTS[:held]))
    if _spare_registers(plan)[2:]:
        lines += [f"str r3, [sp, #{_SAVED + 8}]"]
    lines += ["1:"] if many else []
    whole, tail = divmod(view.out_columns, columns)
    length = len(_block(plan, rows, columns, 0, 0, bias))
    unrolled = _unrolled(whole, max(_MOST_LINES // length, 1))
    block_in, block_out = 4 * columns * view.stride[1], columns * view.out_column_bytes
    moved_in = moved_out = 0
    if whole > unrolled:
        loops = whole // unrolled
        lines += [f"mov lr, #{loops}", f"str lr, [sp, #{_BLOCKS_LEFT}]", "2:"]
        for block in range(unrolled):
            lines += _block(plan, rows, columns, block * block_in, block * block_out, bias)
        lines += add_constant("r0", "r0", unrolled * block_in, "lr")
        lines += add_constant("r2", "r2", unrolled * block_out, "lr")
        lines += [f"ldr lr, [sp, #{_BLOCKS_LEFT}]", "subs lr, lr, #1", f"str lr, [sp, #{_BLOCKS_LEFT}]", "bne.w 2b"]
        moved_in, moved_out = loops * unrolled * block_in, loops * unrolled * block_out
        whole -= loops * unrolled
    for block in range(whole):
        lines += _block(plan, rows, columns, block * block_in, block * block_out, bias)
    if tail:
        lines += _block(plan, rows, tail, whole * block_in, whole * block_out, bias)
    if many:
        lines += add_constant("r0", "r0", 4 * plan.step * plan.width - moved_in, "lr")
        lines += add_constant("r2", "r2", rows * view.out_row_bytes - moved_out, "lr")
        lines += [f"ldr lr, [sp, #{_ROWS_LEFT}]", "subs lr, lr, #1", f"str lr, [sp, #{_ROWS_LEFT}]", "bne.w 1b"]
    lines += [f"add sp, sp, #{_FRAME}", "pop {r4-r11, pc}"]
    where = f"{WEIGHTS[0]} weights" if plan.streamed else f"{WEIGHTS[0]}-{WEIGHTS[max(held, 1) - 1]} weights"
    note = (
        f"One channel, {rows} output row{'s' if rows > 1 else ''} at a time"
        f"{', `groups` times' if many else ''}: `pairs` is the channel's plane, `channel` its constants.\n"
        f"{where}, {_SUMS[0]}-{_SUMS[-1]} sums, r0 plane, r2 output, r1 and lr pairs of rows."
    )
    parameters = ["const int32_t *pairs", "const int32_t *channel", "int8_t *output"] + ["int32_t groups"] * many
    return shared_function("depthwise_rows", parameters, note, lines)


def _unrolled(blocks: int, most: int) -> int:
    """Blocks that the body of the loop over a row holds."""
    most = min(most, MOST_BLOCKS)
    if blocks <= most:
        return max(blocks, 1)
    return next((n for n in range(most, 2, -1) if blocks % n == 0), min(most, 4))


def _block(plan: Plan, rows: int, columns: int, offset: int, out_offset: int, bias: str | None) -> list[str]:
    """Some rows by some columns of the output: at most four sums."""
    sums = {(row, column): _SUMS[row * columns + column] for row in range(rows) for column in range(columns)}
    products = products_of(plan, tuple(sums))
    lines = _streamed(products, sums, offset) if plan.streamed else _in_registers(products, sums, offset, bias)
    return lines + _finish(plan, sums, out_offset)


def _in_registers(
    products: Sequence[Product], sums: Mapping[tuple[int, int], str], offset: int, bias: str | None
) -> list[str]:
    """Goes over the words of the plane: each into all sums that it belongs to."""
    places = sorted({product.place for product in products})
    started: set[str] = set()
    lines = [] if bias else [f"ldr lr, [sp, #{_BIAS}]"]
    at = 0
    while at < len(places):
        alone = bias is None and len(started) < len(sums)
        together = [places[at]]
        if not alone and at + 1 < len(places):
            together.append(places[at + 1])
        temporaries = ("r1", "lr")[: len(together)]
        if len(together) == 2 and together[1] == together[0] + 4 and offset + together[0] <= _FAR_PAIR:
            lines.append(f"ldrd r1, lr, [r0, #{offset + together[0]}]")
        else:
            lines += [f"ldr {t}, [r0, #{offset + p}]" for t, p in zip(temporaries, together, strict=True)]
        for temporary, place in zip(temporaries, together, strict=True):
            for product in products:
                if product.place != place:
                    continue
                total = sums[product.output]
                before = total if total in started else (bias or "lr")
                started.add(total)
                lines.append(f"{product.operation} {total}, {temporary}, {WEIGHTS[product.word]}, {before}")
        at += len(together)
    return lines


def _streamed(products: Sequence[Product], sums: Mapping[tuple[int, int], str], offset: int) -> list[str]:
    """Goes over the words of weights, and keeps those words of the plane that are needed again soonest."""
    totals = list(sums.values())
    lines = [f"ldr {totals[0]}, [sp, #{_BIAS}]", *(f"mov {total}, {totals[0]}" for total in totals[1:])]
    order = sorted(products, key=lambda product: product.word)
    numbers = sorted({product.word for product in products})
    brought: dict[int, str] = {}
    kept: dict[int, str] = {}
    for at, product in enumerate(order):
        if product.word not in brought:
            following = product.word + 1
            if following in numbers and 4 * product.word <= _FAR_PAIR:
                brought = {product.word: _BROUGHT[0], following: _BROUGHT[1]}
                lines.append(f"ldrd {_BROUGHT[0]}, {_BROUGHT[1]}, [r3, #{4 * product.word}]")
            else:
                brought = {product.word: _BROUGHT[0]}
                lines.append(f"ldr {_BROUGHT[0]}, [r3, #{4 * product.word}]")
        if product.place not in kept:
            later = [other.place for other in order[at:]]
            free = [register for register in _KEPT if register not in kept.values()]
            if not free:
                last = max(kept, key=lambda place: later.index(place) if place in later else len(later))
                free = [kept.pop(last)]
            kept[product.place] = free[0]
            lines.append(f"ldr {free[0]}, [r0, #{offset + product.place}]")
        total = sums[product.output]
        lines.append(f"{product.operation} {total}, {kept[product.place]}, {brought[product.word]}, {total}")
    return lines


@dataclass(frozen=True)
class Product:
    """One instruction's products.

    Attributes:
        output: (row, column) in the block, of the sum that they go into.
        place: Byte offset of the word of the plane.
        word: Number of the word of weights.
        operation: SMLAD, or SMLABB to SMLATT where only one row of the pair is seen.
    """

    output: tuple[int, int]
    place: int
    word: int
    operation: str


def products_of(plan: Plan, outputs: Sequence[tuple[int, int]]) -> list[Product]:
    """All products of a block of outputs, (row, column) each."""
    down, across = plan.view.stride
    height, width = plan.view.kernel
    apart, beside = plan.view.dilation
    products = []
    for row, column in outputs:
        for dx in range(width):
            # Each tap's row of the plane: its pair, and which half of it.
            seen: dict[int, dict[int, int]] = {}
            for tap in range(height):
                seen.setdefault((down * row + apart * tap) // 2, {})[(down * row + apart * tap) % 2] = tap
            for pair, taps in seen.items():
                if len(taps) == 2:
                    operation, word = "smlad", plan.words.pair((taps[0], dx))
                else:
                    ((lane, tap),) = taps.items()
                    word, half = plan.words.half((tap, dx))
                    operation = f"smla{'bt'[lane]}{half.lower()}"
                place = 4 * (pair * plan.width + across * column + beside * dx)
                products.append(Product((row, column), place, word, operation))
    return products


def _spare_registers(plan: Plan) -> tuple[str, ...]:
    """Registers that requantization takes beyond the two that are free: they are saved around it."""
    if plan.streamed:
        return ()
    extra = {"floor": 0, "signed": 1, "shifted": 2, "general": 3}[plan.requantization.form]
    return ("r0", "r2", "r3")[:extra]


def _finish(plan: Plan, sums: Mapping[tuple[int, int], str], out_offset: int) -> list[str]:
    """Requantizes the sums and stores them."""
    view, spare = plan.view, _spare_registers(plan)
    free = ("r1", "lr", *(_KEPT[1:4] if plan.streamed else spare))
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
