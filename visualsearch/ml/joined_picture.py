"""A picture of one space: photos at their place, each joined by a line to the point of its title."""

from __future__ import annotations

from html import escape

import numpy as np

from visualsearch.ml.data import Catalogue
from visualsearch.ml.judge import ImageTextEncoder
from visualsearch.ml.plane import lay_out
from visualsearch.ml.queries import sample
from visualsearch.ml.report import Report
from visualsearch.ml.thumbnails import data_uri

PRODUCTS = 220
WIDTH, HEIGHT, PHOTO, MARGIN = 1120, 760, 30, 24


def joined_picture(
    report: Report, encoder: ImageTextEncoder, catalogue: Catalogue, *, seed: int = 0
) -> tuple[str, str]:
    """An SVG and a sentence that explains it; both empty where there are no titles to join to.

    Short lines are what training is for: the photo and the words of a product in one place.
    """
    items = catalogue.items
    with_title = [i for i, item in enumerate(items) if item.texts]
    if report.vectors is None or len(with_title) < 3:
        return "", ""
    chosen = sample(with_title, key=lambda i: items[i].id, limit=PRODUCTS, seed=seed)
    titles = encoder.encode_text([items[i].texts[0] for i in chosen])
    images = report.vectors[chosen]
    # Photos and words stand in two clouds apart (the modality gap); their means are no neighbours.
    both = np.concatenate([images - images.mean(axis=0), titles - titles.mean(axis=0)])
    points, method = lay_out(both, seed=seed)
    points = MARGIN + points * [WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN]
    photos, words = points[: len(chosen)], points[len(chosen) :]
    lines, dots, pictures = [], [], []
    for index, photo, word in zip(chosen, photos, words, strict=True):
        title = escape(items[index].texts[0])
        lines.append(
            f'<line x1="{photo[0]:.1f}" y1="{photo[1]:.1f}" x2="{word[0]:.1f}" y2="{word[1]:.1f}"/>'
        )
        dots.append(
            f'<circle cx="{word[0]:.1f}" cy="{word[1]:.1f}" r="3.5"><title>{title}</title></circle>'
        )
        uri = data_uri(catalogue.pixels[items[index].images[0]], size=PHOTO + 10)
        x, y = photo - PHOTO / 2
        pictures.append(
            f'<g><title>{title}</title><image x="{x:.1f}" y="{y:.1f}" width="{PHOTO}" '
            f'height="{PHOTO}" href="{uri}"/></g>'
        )
    svg = (
        f'<svg class="plane" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Photos joined to their titles"><g class="joins">{"".join(lines)}</g>'
        f'<g class="photos">{"".join(pictures)}</g><g class="words">{"".join(dots)}</g></svg>'
    )
    said = (
        f"{len(chosen)} products by {method}, photos and titles centred. A line leads from a photo "
        "to the point of its title: the shorter the lines, the more one space holds both."
    )
    return svg, said
