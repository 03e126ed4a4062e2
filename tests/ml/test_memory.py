"""What training keeps of its memory, and gives back at its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own: the rest of the suite has memory of its own to keep.
PROGRAM = """
import gc, psutil
from visualsearch.ml.memory import give_back_memory, keep_memory

def resident():
    return psutil.Process().memory_info().rss // 2**20

keep_memory()
blocks = [bytearray(b"x") * 2**20 for _ in range(300)]
del blocks
gc.collect()
kept = resident()
give_back_memory()
print(kept, resident())
"""


def test_memory__is_kept_while_training_and_given_back_after() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )

    kept, after = map(int, done.stdout.split())
    assert kept > 300
    assert after < 100
