"""Polynomial networks fill, or fall short of, the space of polynomials.

**Claim.** Networks whose activation is a power parametrise algebraic varieties. Their dimension is
what parameters less rescalings lead to expect once the power is high, and falls short of it for
some architectures with low powers. Architectures that fill the space of all polynomials of their
degree are few, and a narrow layer keeps a network from filling it however wide the others are.
Kileel, J., Trager, M. and Bruna, J. (2019), *On the expressive power of deep polynomial neural
networks*, NeurIPS; that the expected dimension is reached from a power on that depends on the
widths alone, and by networks of equal widths with every power, was proved by Finkel, B., Rodriguez,
J. I., Wu, C. and Yahl, T. (2024), *Activation thresholds and expressiveness of polynomial neural
networks*, arXiv:2408.04569.

**Here.** Dimensions are ranks of Jacobians at random points modulo two primes near 2^31
(`geomprobe.algebraic.neurovariety_dimension`): a rank found so is never too large, and too small
with a probability of about one in a million. All 64 architectures with 2 or 3 inputs, two hidden
layers of 2 to 5 units and one or two outputs, with powers from 2 to 10, and with 6 m² - 6 m for m =
2 · 5 - 1, from which on Finkel et al. prove the expected dimension; those of equal widths up to 6
and depth up to 5, whose dimension with squares is L n² - (L - 1) n; and nine dimensions that were
published or computed by others. The table is of those with one output.

**What differs.** Nothing, these being theorems. The first run asked for the expected dimension from
power 6 on, where 8 of the 64 architectures still fall short of it.

**What it does not show.** Dimensions over the complex numbers say what generic functions of a
variety need. They do not say which real functions a network of that size expresses, nor whether
training finds them.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from reproduction import Check, reproduce

from geomprobe.algebraic import Neurovariety, neurovariety_dimension

#: Widths, power, and dimension.
PUBLISHED = (
    ((2, 2, 2), 2, 6),
    ((3, 3, 3), 2, 15),
    ((3, 2, 1), 2, 5),
    ((2, 2, 2, 1), 2, 5),
    ((2, 3, 3, 2), 2, 10),
    ((3, 3, 2, 1), 2, 11),
    ((4, 4, 4, 1), 2, 22),
    ((3, 4, 4, 1), 2, 15),
    ((2, 2, 3), 3, 8),
)


def share_of_defective(found: list[Neurovariety]) -> float:
    """Return the share of architectures that fall short of the expected dimension."""
    return float(np.mean([one.defect > 0 for one in found]))


def table(ax: Axes, by_power: dict[int, list[Neurovariety]]) -> None:
    """Draw the table of dimensions, one row an architecture, one column a power."""
    for column, found in enumerate(by_power.values()):
        for row, one in enumerate(found):
            color = "C0" if one.filling else "C1" if one.defect else "white"
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=color, alpha=0.35))
            ax.text(column, row, str(one.dimension), ha="center", va="center", fontsize=8)
    ax.set_xticks(range(len(by_power)), list(map(str, by_power)))
    ax.set(xlim=(-0.5, len(by_power) - 0.5), ylim=(len(found) - 0.5, -0.5), xlabel="power")


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Compute all dimensions."""
    published = sum(
        neurovariety_dimension(widths, power).dimension != dimension
        for widths, power, dimension in PUBLISHED
    )
    equal = [
        neurovariety_dimension((n,) * (layers + 1), 2).dimension - layers * n**2 + (layers - 1) * n
        for n in range(2, 4 if smoke else 7)
        for layers in range(2, 4 if smoke else 6)
    ]
    hidden, powers = range(2, 4 if smoke else 6), range(2, 4 if smoke else 11)
    widths = [(a, b, c, d) for a, b, c, d in product((2, 3), hidden, hidden, (1, 2))]
    by_power = {power: [neurovariety_dimension(one, power) for one in widths] for power in powers}
    defective = [share_of_defective(found) for found in by_power.values()]
    # A second layer of two units is a bottleneck of three inputs: of three variables, squares of
    # squares of two forms do not fill, whatever comes after.
    narrow = [
        neurovariety_dimension((3, 2, wide, 1), 2).filling
        for wide in ((4,) if smoke else (4, 8, 16))
    ]
    proved = 6 * (2 * max(hidden) - 1) ** 2 - 6 * (2 * max(hidden) - 1)
    beyond = share_of_defective([neurovariety_dimension(one, proved) for one in widths])
    checks = [
        Check("published dimensions that differ", published, at_most=0),
        Check("networks of equal widths off L n² - (L - 1) n", np.count_nonzero(equal), at_most=0),
        Check("share of defective architectures, squares", defective[0], at_least=0.01),
        Check(f"the same, power {proved}", beyond, at_most=0.0),
        Check("filling architectures behind a layer of two units", sum(narrow), at_most=0),
    ]
    figure, axes = plt.subplots(1, 2, figsize=(10, 6), layout="constrained")
    for ax, inputs in zip(axes, (2, 3), strict=True):
        rows = [row for row, one in enumerate(widths) if (one[0], one[3]) == (inputs, 1)]
        table(ax, {power: [found[row] for row in rows] for power, found in by_power.items()})
        ax.set_yticks(range(len(rows)), ["-".join(map(str, widths[row])) for row in rows])
    figure.suptitle("dimensions: of all polynomials (blue), short of the expected (orange)")
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
