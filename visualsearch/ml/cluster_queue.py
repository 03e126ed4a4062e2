"""The clusters of a catalogue that are still to be drawn, a batch at a time, hard negatives together."""

from __future__ import annotations

from collections.abc import Callable

from visualsearch.ml.clusters import Cluster
from visualsearch.ml.hard_negatives import COMPANY, Nearest


class Queue:
    """Hands out every product once before any comes twice.

    A share `hard_negatives` of each batch are products in the company of their `nearest`, whose
    clusters come with them as far as they are left; the rest come as they stand.
    """

    def __init__(
        self,
        refill: Callable[[], list[Cluster]],
        *,
        hard_negatives: float = 0.0,
        nearest: Nearest | None = None,
    ) -> None:
        self.refill = refill
        self.hard_negatives = hard_negatives if nearest is not None else 0.0
        self.nearest = nearest
        self.waiting: dict[int, Cluster] = {}
        # by number; the last one is the next
        self.number: dict[int, int] = {}
        # of each product's cluster

    def take(self, room: int) -> list[Cluster]:
        """Clusters of `room` products in all; the last one is cut off where it does not fit."""
        chosen: list[Cluster] = []
        seeds = round(room * self.hard_negatives / (1 + COMPANY))
        if seeds and self.nearest is not None:
            self._fill()
            numbers = list(self.waiting)[-seeds:]
            firsts = [self.waiting[number].members[0] for number in numbers]
            for number, near in zip(numbers, self.nearest.of(firsts), strict=True):
                for each in (number, *[self.number[i] for i in near[:COMPANY]]):
                    if room and each in self.waiting:
                        room -= self._put(each, room, chosen)
        while room > 0:
            self._fill()
            room -= self._put(next(reversed(self.waiting)), room, chosen)
        return chosen

    def _put(self, number: int, room: int, chosen: list[Cluster]) -> int:
        cluster = self.waiting.pop(number)
        if len(cluster.members) > room:
            cluster = Cluster(cluster.members[:room], cluster.by)
        chosen.append(cluster)
        return len(cluster.members)

    def _fill(self) -> None:
        if not self.waiting:
            self.waiting = dict(enumerate(self.refill()))
            self.number = {
                product: number
                for number, cluster in self.waiting.items()
                for product in cluster.members
            }
