"""The training loop: steps over the batches of a catalogue, what it tells, and what it resumes from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visualsearch.exceptions import TrainingCancelledError
from visualsearch.ml.augment import augment
from visualsearch.ml.averaging import Average
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.data import Catalogue
from visualsearch.ml.distributed import World
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.epochs import Epochs
from visualsearch.ml.feeding import Fed, Feeder
from visualsearch.ml.hard_negatives import Nearest
from visualsearch.ml.noted_vectors import NotedVectors
from visualsearch.ml.objective import Objective
from visualsearch.ml.pairs import Batch
from visualsearch.ml.resume import State, StateFolder, optimizer_state, restore_optimizer
from visualsearch.ml.sampling import draw
from visualsearch.ml.schedule import Schedule, make_optimizer
from visualsearch.ml.stepping import Stepper
from visualsearch.ml.stream import Stream, step_seed
from visualsearch.ml.tokenizer import Tokenizer
from visualsearch.ml.validation import Validation
from visualsearch.ml.wild import wild

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands; handed to the callback, which may raise TrainingCancelledError."""

    stage: str
    # prepare, train, evaluate, export
    epoch: int
    epochs: int
    done: int
    total: int
    # steps of the stage
    loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    # the loss's parts; of the last epoch, the figures of validation and the shares of mining
    eta_s: float | None = None


ProgressCallback = Callable[[Progress], None]


class Loop:
    """Steps over the batches of a catalogue until the schedule ends; `history` keeps the losses.

    All that is random in a step follows from the seed and the step's number, so that what a run
    needs to go on exactly is weights and counters: see `state`.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        network: VisualEncoder,
        tokens: Tokenizer | None,
        *,
        place: torch.device,
        seed: int,
        budget_s: float | None,
        validation: Catalogue | None = None,
        states: StateFolder | None = None,
        world: World | None = None,
        stop: Callable[[], BaseException | None] = lambda: None,
    ) -> None:
        """`stop` is asked after each step; what it gives is raised once the state is saved."""
        recipe = network.recipe
        count = len(catalogue.items)
        # Small catalogues take smaller batches, hence more steps for the same arithmetic.
        size = min(recipe.batch, max(32, count // 4), count)
        self.recipe = recipe
        self.pixels = catalogue.pixels
        self.network = network
        self.place = place
        self.seed = seed
        self.states = states
        self.world = world or World()
        self.stop = stop
        self.steps_an_epoch = -(-count // size)
        self.steps = max(recipe.epochs * self.steps_an_epoch, recipe.min_steps)
        coded = CodedCatalogue(catalogue)
        # What is made here must not depend on what was drawn before: a stage that was resumed at
        # its end has drawn nothing.
        torch.manual_seed(step_seed(seed, 0))
        self.objective = Objective(network, tokens, coded).to(place)
        self.objective.world = self.world
        self.optimizer = make_optimizer(self.objective, recipe)
        self.stepper = Stepper(
            self.objective, self.optimizer, clip=recipe.clip, place=place, world=self.world
        )
        self.schedule = Schedule(
            self.optimizer, steps=self.steps, warmup=recipe.warmup, budget_s=budget_s
        )
        self.average = Average(network, decay=recipe.average) if recipe.average else None
        self.epochs = Epochs(
            -(-self.steps // self.steps_an_epoch),
            validation=Validation(validation) if validation is not None else None,
            patience=recipe.patience,
            tokens=tokens,
            place=place,
            world=self.world,
        )
        fresh = (
            size // 3 if recipe.sampler == "triplets" else size - int(size * recipe.second_views)
        )
        self.stream = Stream(
            lambda rng, number: draw(
                coded, recipe, size=size, rng=rng, nearest=self._nearest(number)
            ),
            seed=seed,
            steps_a_pass=-(-count // max(1, fresh)),
        )
        self.hard: NotedVectors | None = None
        if recipe.hard_negatives:
            self.hard = NotedVectors(
                coded, width=recipe.width, steps_a_pass=self.stream.steps_a_pass
            )
        self.history: list[dict[str, float]] = []

    @property
    def finished(self) -> bool:
        return self.schedule.finished or self.epochs.stopped_early

    @property
    def kept(self) -> VisualEncoder:
        """The network whose weights count now: the average, where there is one."""
        average: Any = self.average.network if self.average is not None else self.network
        return average

    def run(self, report: ProgressCallback) -> VisualEncoder:
        """Train to the end, from where the state folder says; the network that is to be kept."""
        if self.states is not None and (state := self.states.load()) is not None:
            self.restore(state)
            logger.info("Resumed after step %d of %d.", self.schedule.done, self.steps)
        self.network.train()
        # Often enough to look alive, seldom enough to cost nothing.
        every = max(1, self.steps // 100)
        first = self.schedule.done
        try:
            with Feeder(self.stream.after(first), self.prepare, first=first) as feeder:
                while not self.finished:
                    self.take(next(feeder))
                    if self.schedule.done % every == 0 or self.finished:
                        self._tell(report)
                    if (error := self.stop()) is not None:
                        raise error
                    if self.states is not None and self.states.due:
                        self.states.save_if_possible(self.state())
        except TrainingCancelledError:
            # Between two steps: what there is can be gone on from.
            if self.states is not None:
                self.states.save_if_possible(self.state())
            raise
        if self.states is not None and self.schedule.done > first:
            self.states.save_if_possible(self.state())
        self.network.load_state_dict(self.epochs.best_weights or self.kept.state_dict())
        self.world.copy_from_first(list(self.network.state_dict().values()))
        return self.network.eval()

    def take(self, fed: Fed) -> None:
        """One step, and what has to be noted of it."""
        # For what draws from the global generator (dropout), whoever else does so in between.
        torch.manual_seed(step_seed(self.seed, fed.step))
        loss = self.stepper(fed.images, fed.batch, number=fed.step + 1)
        self.schedule.step(share=self.world.from_first if self.schedule.budget_s else None)
        if self.average is not None:
            self.average.update(self.network)
        if self.hard is not None and loss.vectors is not None:
            first = len(fed.batch.products) - len(fed.batch.repeats)
            self.hard.note(
                fed.batch.products[:first], loss.vectors[:first], step=self.schedule.done
            )
        parts = {name: float(value) for name, value in loss.parts.items()}
        losses = {"loss": float(loss.total.detach()), **parts}
        self.history.append(losses)
        self.epochs.add(losses["loss"], loss.shares)
        if self.schedule.done % self.steps_an_epoch == 0 or self.schedule.finished:
            self.epochs.end(self.kept)

    def prepare(self, step: int, batch: Batch) -> Tensor:
        """This process's images of a batch, varied: float [b, 3, s, s], channels last."""
        encoder = self.network.image
        mine = self.world.part(len(batch.images))
        seed = step_seed(self.seed, step, rank=1 + self.world.rank)
        generator = torch.Generator(device=self.place).manual_seed(seed)
        pixels = torch.from_numpy(np.array(self.pixels[batch.images[mine]])).to(self.place)
        with torch.no_grad():
            if batch.wild[mine].any():
                rows = torch.from_numpy(batch.wild[mine]).to(self.place)
                pixels[rows] = wild(pixels[rows], generator=generator)
            white = (1 - encoder.mean) / encoder.std
            # Two thirds of the size at first: more than twice as fast (Howard, 2018).
            size = self.recipe.image_size
            images = augment(
                encoder.normalise(pixels),
                white=white,
                generator=generator,
                size=size * 2 // 3 if self._is_small(step) else size,
            )
            return images.contiguous(memory_format=torch.channels_last)

    def _nearest(self, number: int) -> Nearest | None:
        usable = self.hard is not None and self.hard.used
        return self.hard.nearest(number) if self.hard is not None and usable else None

    def _is_small(self, step: int) -> bool:
        # By the clock, where that decides when the run ends.
        by_clock = self.schedule.budget_s is not None
        share = self.schedule.share if by_clock else step / self.steps
        return share < self.recipe.small_first

    def state(self) -> State:
        """All that the next step depends on, and what has been told so far."""
        tensors, numbers = optimizer_state(self.optimizer)
        tensors = {f"optimizer/{name}": value for name, value in tensors.items()}
        tensors |= {f"model/{k}": v for k, v in self.objective.state_dict().items()}
        if self.average is not None:
            averaged = self.average.network.state_dict()
            tensors |= {f"average/{name}": value for name, value in averaged.items()}
        for name, value in (self.epochs.best_weights or {}).items():
            tensors[f"best/{name}"] = value
        if self.hard is not None:
            tensors |= {f"hard/{name}": value for name, value in self.hard.state().items()}
        values = {
            "optimizer": numbers,
            "schedule": self.schedule.state(),
            "averaged": self.average.count if self.average is not None else 0,
            "parts": self.stepper.parts,
            "epochs": self.epochs.state(),
            "history": self.history,
        }
        return State(tensors, values)

    def restore(self, state: State) -> None:
        """Go on from what `state` of a loop of the same recipe gave."""

        def below(prefix: str) -> dict[str, Tensor]:
            return {
                k.removeprefix(prefix): v for k, v in state.tensors.items() if k.startswith(prefix)
            }

        values = state.values
        self.objective.load_state_dict(below("model/"))
        restore_optimizer(self.optimizer, below("optimizer/"), values["optimizer"])
        self.schedule.restore(values["schedule"])
        if self.average is not None:
            self.average.network.load_state_dict(below("average/"))
            self.average.count = values["averaged"]
        if self.hard is not None:
            self.hard.restore(below("hard/"))
        self.stepper.parts = values["parts"]
        self.epochs.restore(values["epochs"], best_weights=below("best/") or None)
        self.history = list(values["history"])

    def _tell(self, report: ProgressCallback) -> None:
        recent = [entry["loss"] for entry in self.history[-20:]]
        done = self.schedule.done
        progress = Progress(
            stage="train",
            epoch=min(self.epochs.count, 1 + done // self.steps_an_epoch),
            epochs=self.epochs.count,
            done=done,
            total=self.steps,
            loss=sum(recent) / len(recent),
            metrics=self.history[-1] | self.epochs.last,
            eta_s=self.schedule.remaining_s(),
        )
        error: BaseException | None = None
        if self.world.is_first:
            try:
                report(progress)
            except BaseException as raised:
                error = raised
        if self.world.from_first(error is not None):
            raise error or TrainingCancelledError("The first process has stopped the run.")
