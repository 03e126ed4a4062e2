"""Mining: the shares against a count by hand, and no false negative in any triplet."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.ml.catalogues import coloured_shapes
from tests.ml.test_published_recipes import tiny
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.mining import Census, TripletLoss
from visualsearch.ml.objective import Objective, StepLoss
from visualsearch.ml.pairs import Batch, batches
from visualsearch.ml.siamese import triplet_batches
from visualsearch.ml.tokenizer import train as train_tokenizer

KINDS = ["random", "easy", "semihard", "hard", "all"]


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(*shape, generator=generator), dim=1)


def by_hand(
    anchors: torch.Tensor,
    references: torch.Tensor,
    positives: torch.Tensor,
    ignored: torch.Tensor,
    margin: float,
) -> dict[str, int]:
    counts = {"easy": 0, "semihard": 0, "hard": 0}
    for a, n in itertools.product(range(len(anchors)), range(len(references))):
        p = int(positives[a])
        if n == p or ignored[a, n]:
            continue
        near = float((anchors[a].double() - references[p].double()).norm())
        far = float((anchors[a].double() - references[n].double()).norm())
        counts["hard" if far <= near else "semihard" if far <= near + margin else "easy"] += 1
    return counts


def test_census__agrees_with_a_count_by_hand() -> None:
    anchors, references = unit(9, 4), unit(13, 4, seed=1)
    positives = torch.randint(0, 13, (9,), generator=torch.Generator().manual_seed(2))
    ignored = torch.rand(9, 13, generator=torch.Generator().manual_seed(3)) < 0.3
    expected = by_hand(anchors, references, positives, ignored, 0.4)
    assert min(expected.values()) > 5
    census = Census(seed=0)
    loss = TripletLoss(margin=0.4, mining="all")
    loss(anchors, references, positives=positives, ignored=ignored, census=census)
    assert census.counts == expected
    shares = census.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["hard"] == expected["hard"] / sum(expected.values())
    # And a second part of the same step is added to the first.
    loss(anchors, references, positives=positives, ignored=ignored, census=census)
    assert census.counts == {name: 2 * count for name, count in expected.items()}


def test_census__without_a_triplet_has_no_shares() -> None:
    assert Census(seed=0).shares() == {}


@pytest.mark.parametrize("mining", ["semihard", "hard", "all"])
def test_loss__is_the_mean_of_the_hinge_over_the_mined_triplets(mining: str) -> None:
    anchors, references, margin = unit(6, 5), unit(8, 5, seed=1), 0.5
    positives = torch.tensor([0, 3, 5, 1, 7, 7])
    ignored = torch.zeros(6, 8, dtype=torch.bool)
    ignored[0, 1:4] = True
    hinges = []
    for a, n in itertools.product(range(6), range(8)):
        p = int(positives[a])
        if n == p or ignored[a, n]:
            continue
        near = float((anchors[a] - references[p]).norm())
        far = float((anchors[a] - references[n]).norm())
        kind = "hard" if far <= near else "semihard" if far <= near + margin else "easy"
        if kind == mining or (mining == "all" and kind != "easy"):
            hinges.append(max(near + margin - far, 0))
    assert len(hinges) > 3
    loss = TripletLoss(margin=margin, mining=mining)(
        anchors, references, positives=positives, ignored=ignored, census=Census(seed=0)
    )
    assert float(loss) == pytest.approx(np.mean(hinges), abs=1e-5)


@pytest.mark.parametrize("mining", KINDS)
def test_loss__a_false_negative_is_never_pushed_away(mining: str) -> None:
    anchors = unit(4, 3)
    references = unit(6, 3, seed=1).requires_grad_()
    ignored = torch.zeros(4, 6, dtype=torch.bool)
    ignored[:, 5] = True
    loss = TripletLoss(margin=1.9, mining=mining)(
        anchors,
        references,
        positives=torch.arange(4),
        ignored=ignored,
        census=Census(seed=0),
    )
    loss.backward()
    assert references.grad is not None
    assert (references.grad[5] == 0).all()
    assert (references.grad[:5] != 0).any()


@pytest.mark.parametrize("mining", KINDS)
def test_loss__of_anchors_without_any_negative_is_zero(mining: str) -> None:
    anchors = unit(2, 3).requires_grad_()
    loss = TripletLoss(margin=0.2, mining=mining)(
        anchors,
        unit(2, 3, seed=1),
        positives=torch.tensor([0, 1]),
        ignored=torch.ones(2, 2, dtype=torch.bool),
        census=Census(seed=0),
    )
    loss.backward()
    assert float(loss.detach()) == 0


def test_random__is_drawn_anew_for_each_batch_and_the_same_for_the_same() -> None:
    loss = TripletLoss(margin=0.5, mining="random")

    def of(seed: int) -> float:
        return float(
            loss(
                unit(8, 4),
                unit(20, 4, seed=1),
                positives=torch.arange(8),
                ignored=torch.zeros(8, 20, dtype=torch.bool),
                census=Census(seed=seed),
            )
        )

    assert of(1) == of(1)
    assert of(1) != of(2)


def test_mining__hard_leaves_other_shares_than_easy() -> None:
    def after(mining: str) -> dict[str, float]:
        anchors = torch.nn.Parameter(torch.randn(24, 8, generator=torch.Generator().manual_seed(0)))
        references = unit(24, 8, seed=1)
        optimizer = torch.optim.SGD([anchors], lr=1.0)
        loss = TripletLoss(margin=0.3, mining=mining)
        for step in range(60):
            census = Census(seed=step)
            value = loss(
                functional.normalize(anchors, dim=1),
                references,
                positives=torch.arange(24),
                ignored=torch.zeros(24, 24, dtype=torch.bool),
                census=census,
            )
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        return census.shares()

    hard, easy = after("hard"), after("easy")
    # The farthest negative keeps the margin soon, and the near ones are never looked at.
    assert hard["hard"] < easy["hard"] - 0.03


def _objective(name: str, **fields: object) -> tuple[Objective, CodedCatalogue]:
    coded = CodedCatalogue(coloured_shapes(designs=2))
    recipe = tiny(name, **fields)
    tokenizer = None
    if recipe.text != "none":
        texts = [text for item in coded.catalogue.items for text in item.texts]
        tokenizer = train_tokenizer(texts, vocabulary_size=300, text_length=16)
    count = tokenizer.vocabulary_size if tokenizer else 0
    torch.manual_seed(0)
    network = VisualEncoder(recipe, vocabulary_size=count, weights=None).eval()
    return Objective(network, tokenizer, coded), coded


def _step(objective: Objective, batch: Batch) -> tuple[StepLoss, torch.Tensor]:
    vectors = unit(len(batch.images), objective.recipe.width)
    with torch.no_grad():
        return objective(vectors, batch), vectors


def test_objective__reports_the_shares_of_all_triplets_in_both_directions() -> None:
    objective, coded = _objective("triplet-bigru")
    rng = np.random.default_rng(0)
    batch = next(batches(coded, size=24, second_views=0.25, kind_pairs=0.3, rng=rng))
    step, vectors = _step(objective, batch)
    assert set(step.parts) == {"text", "image"}
    assert objective.tokenizer is not None
    with torch.no_grad():
        texts = objective.network.encode_text(
            torch.from_numpy(objective.tokenizer.encode(batch.texts))
        )
    rows, right = torch.from_numpy(batch.text_rows), torch.from_numpy(batch.text_right)
    products = torch.from_numpy(batch.products)
    first = len(products) - len(batch.repeats)
    same = products[first:, None] == products[None, :first]
    margin = objective.recipe.margin
    counts = [
        by_hand(texts, vectors, rows, right, margin),
        by_hand(vectors[rows], texts, torch.arange(len(texts)), right.T[rows], margin),
        by_hand(vectors[first:], vectors[:first], torch.from_numpy(batch.repeats), same, margin),
    ]
    total = sum(sum(each.values()) for each in counts)
    assert right.sum() > len(texts), "no text is right for two products: nothing is masked here"
    for name, share in step.shares.items():
        assert share == pytest.approx(sum(each[name] for each in counts) / total, abs=2e-3)
    assert sum(step.shares.values()) == pytest.approx(1)


def test_objective__without_triplets_there_are_no_shares() -> None:
    objective, coded = _objective("tirg")
    rng = np.random.default_rng(0)
    batch = next(batches(coded, size=16, second_views=0.0, kind_pairs=0.3, rng=rng))
    step, _ = _step(objective, batch)
    assert step.shares == {}
    assert step.parts["composed"] > 0


def test_objective__of_drawn_triplets_is_their_hinge() -> None:
    objective, coded = _objective("siamese")
    rng = np.random.default_rng(0)
    batch = next(triplet_batches(coded, size=24, in_class_negatives=0.5, wild_views=0, rng=rng))
    step, vectors = _step(objective, batch)
    query, positive, negative = (vectors[torch.from_numpy(rows)] for rows in batch.triplets.T)
    near, far = (query - positive).norm(dim=1), (query - negative).norm(dim=1)
    expected = (near + objective.recipe.margin - far).clamp(min=0).mean()
    assert float(step.total) == pytest.approx(float(expected), abs=1e-5)
    assert sum(step.shares.values()) == pytest.approx(1)
