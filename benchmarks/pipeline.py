"""A catalogue from file to search: load, train, judge, embed, index, with the seconds of each."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks import record, stack


def run(*, name: str, catalogue: Path | None, recipe: str, limit: int | None, keep: bool) -> None:
    """Fill `.run/NAME` and `var/NAME`, and write results/pipeline_NAME.json.

    Without a catalogue, 2,000 products are drawn. `keep` trains again on what is loaded.
    """
    if catalogue is not None and not catalogue.exists():
        raise SystemExit(f"{catalogue} does not exist: give a folder or zip of products.csv.")
    if not keep:
        stack.remove(name)
    seconds: dict[str, float] = {}
    with stack.start(name) as services:

        def step(label: str, *command: str) -> None:
            print(f"== {label}: manage.py {' '.join(command)}", flush=True)
            started = time.monotonic()
            services.manage(*command)
            seconds[label] = round(time.monotonic() - started, 1)

        step("migrate", "migrate", "--verbosity", "0")
        if not keep and catalogue is not None:
            some = ["--limit", str(limit)] if limit else []
            step("load", "shop_load", str(catalogue.resolve()), *some)
        elif not keep:
            step("draw", "shop_draw", "--products", str(limit or 2000))
        step("train, judge, embed, index, promote", "visualsearch_train", "--recipe", recipe)
        stages = services.query(
            "SELECT timings FROM visualsearch_trainingrun ORDER BY created_at DESC LIMIT 1"
        )
        figures = {
            "catalogue": catalogue.name if catalogue else "drawn",
            "recipe": recipe,
            "seconds": seconds,
            "seconds_of_training_run": stages,
        }
    print(f"written to {record.write(f'pipeline_{name}', figures)}")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="drawn", help="of the data's folders and the results")
    parser.add_argument("--catalogue", type=Path, help="folder or zip; without it one is drawn")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--limit", type=int, help="take only so many products")
    parser.add_argument("--keep", action="store_true", help="keep what is loaded and train again")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    arguments(parser)
    run(**vars(parser.parse_args()))
