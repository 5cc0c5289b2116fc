"""A catalogue: records by benchmark, scale and variant, ready to be put into tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qrkd_lab.benchmarks import BENCHMARKS, SCALES
from qrkd_lab.records.variants import DEFAULT, Variant, one_home_a_seed, variants
from qrkd_lab.report import order_arms
from qrkd_lab.runs import Run
from qrkd_lab.study import Study

__all__ = ["Catalogue"]


class Catalogue:
    """Which studies there are among many runs.

    Args:
        runs: of any benchmarks; where two are the same run, the first folder's comes first.

    Example:
        >>> Catalogue(ql.published_runs()).benchmarks                  # doctest: +SKIP
        ['mnist', 'cifar10', 'wikitext2', 'ptb', 'imdb']
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs: dict[str, dict[str, list[Run]]] = {}
        for run in runs:
            scales = self._runs.setdefault(run.settings["benchmark"], {})
            scales.setdefault(run.settings["scale"], []).append(run)
        self._variants: dict[tuple[str | None, str | None], dict[str, Variant]] = {}
        self._left_out: dict[tuple[str | None, str | None, str], int] = {}

    @property
    def benchmarks(self) -> list[str]:
        """Names: the kit's benchmarks in their order, then the others by name."""
        known = [name for name in BENCHMARKS if name in self._runs]
        return known + sorted(self._runs.keys() - set(known))

    def scales(self, benchmark: str | None) -> list[str]:
        """Scales with runs of a benchmark; none for one that is not there."""
        there = self._runs.get(benchmark, {})
        return [s for s in SCALES if s in there] + sorted(there.keys() - set(SCALES))

    def variants(self, benchmark: str | None, scale: str | None) -> Mapping[str, Variant]:
        """Label to variant, each seed's runs from one folder of records."""
        place = (benchmark, scale)
        if place not in self._variants:
            found = {v.label: v for v in variants(self._runs.get(benchmark, {}).get(scale, []))}
            kept = {name: one_home_a_seed(variant) for name, variant in found.items()}
            self._variants[place] = kept
            for name, variant in found.items():
                self._left_out[*place, name] = len(variant.runs) - len(kept[name].runs)
        return self._variants[place]

    def runs(self, benchmark: str | None, scale: str | None, label: str | None) -> list[Run]:
        """The runs of one variant by arm and seed; none where there is no such variant."""
        variant = self.variants(benchmark, scale).get(label)
        found = () if variant is None else variant.runs
        place = {arm: i for i, arm in enumerate(order_arms(r.settings["arm"] for r in found))}
        return sorted(found, key=lambda run: (place[run.settings["arm"]], run.settings["seed"]))

    def left_out(self, benchmark: str, scale: str, label: str) -> int:
        """How many runs of a variant are not in it, as their seed's others are elsewhere."""
        self.variants(benchmark, scale)
        return self._left_out.get((benchmark, scale, label), 0)

    def studies(self, scale: str, arm: str, reference: str) -> dict[str, Study]:
        """The two arms on each benchmark that has both at this scale, by name.

        With the default settings if it can be; where they are others, the name says so.
        """
        found = {}
        for benchmark in self.benchmarks:
            for label, variant in self.variants(benchmark, scale).items():
                runs = [r for r in variant.runs if r.settings["arm"] in (arm, reference)]
                if len({run.settings["arm"] for run in runs}) == 2:
                    name = benchmark if label == DEFAULT else f"{benchmark} ({label})"
                    found[name] = Study(tuple(runs))
                    break
        return found
