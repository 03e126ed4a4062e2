"""Kinds and attribute values are told apart by the vectors of their names."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from tests.ml.catalogues import coloured_shapes
from tests.ml.recipes import tiny
from visualsearch.ml.coding import CodedCatalogue
from visualsearch.ml.encoders import VisualEncoder
from visualsearch.ml.objective import Objective, StepLoss
from visualsearch.ml.pairs import Batch
from visualsearch.ml.tokenizer import train as train_tokenizer

CODED = CodedCatalogue(coloured_shapes(designs=2))


def objective(**fields: float) -> Objective:
    texts = [text for item in CODED.catalogue.items for text in item.texts]
    tokens = train_tokenizer(texts, vocabulary_size=300, text_length=16)
    torch.manual_seed(0)
    recipe = tiny(value_weight=1.0, attribute_weight=0.0, **fields)
    network = VisualEncoder(recipe, vocabulary_size=tokens.vocabulary_size, weights=None)
    return Objective(network.eval(), tokens, CODED)


def step(made: Objective, vectors: torch.Tensor) -> StepLoss:
    products = np.arange(len(CODED.codes), dtype=np.int64)
    batch = Batch(products=products, images=products, wild=np.zeros(len(products), dtype=bool))
    result: StepLoss = made(vectors, batch)
    return result


def test_value_names__are_those_of_the_codes() -> None:
    for column in range(CODED.title_column):
        names = CODED.value_names(column)
        for item, code in zip(CODED.catalogue.items, CODED.codes[:, column], strict=True):
            value = item.attributes[CODED.names[column - 1]] if column else item.label
            assert names[code] == value.lower()


def test_values__an_image_at_the_names_of_its_values_loses_least() -> None:
    made = objective()
    names = [CODED.value_names(column) for column in range(CODED.title_column)]
    assert list(made.values.values()) == [each for each in names if len(each) > 1]
    with torch.no_grad():
        own = torch.zeros(len(CODED.codes), made.recipe.width)
        for column, values in made.values.items():
            own += made._encode_texts(values, own.device)[CODED.codes[:, column]]
        own = functional.normalize(own, dim=1)
        # Products come kind by kind, colour by colour: the other half has other values.
        others = own.roll(len(own) // 2 + 1, dims=0)
        right, wrong = (float(step(made, each).parts["values"]) for each in (own, others))
    assert right < wrong


def test_values__texts_learn_from_them_even_where_no_text_was_drawn() -> None:
    made = objective()
    vectors = functional.normalize(torch.randn(len(CODED.codes), made.recipe.width), dim=1)
    step(made, vectors).total.backward()
    assert made.network.text is not None
    assert any(each.grad is not None for each in made.network.text.parameters())


def test_own_scales__texts_compositions_and_views_each_learn_how_sharp_they_are() -> None:
    one, each = objective(), objective(own_scales=True)
    assert set(each.state_dict()) - set(one.state_dict()) == {
        "own_scales.composed",
        "own_scales.views",
    }
    for name in ("composed", "views"):
        assert one._scale(name) is one.log_scale
        assert each._scale(name) is not each.log_scale
        assert torch.equal(each._scale(name), each.log_scale)
