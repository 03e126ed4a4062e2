"""The table of models and baselines for what `benchmarks.pipeline` trained, evaluated anew."""

from __future__ import annotations

import argparse
import json

from benchmarks import record, stack


def run(*, name: str) -> None:
    """Evaluate the live checkpoint of `name`; results/evaluation_NAME.json."""
    with stack.start(name) as services:
        output = services.data / "evaluation.json"
        services.manage("visualsearch_evaluate", "--json", str(output))
    evaluation = json.loads(output.read_text())
    print(f"written to {record.write(f'evaluation_{name}', evaluation)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="drawn")
    run(**vars(parser.parse_args()))
