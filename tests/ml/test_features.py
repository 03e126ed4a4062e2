"""A frozen trunk reads each photo once, whatever is interrupted, repeated or changed in between."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visualsearch.exceptions import TrainingCancelledError, TrainingError
from visualsearch.ml import features as module
from visualsearch.ml.features import Rows, Store, cached_features, pixel_hashes

CPU = torch.device("cpu")


class Mean(nn.Module):
    """Features: the mean colour, three times; counts what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.read += len(pixels)
        return (pixels.float().mean(dim=(1, 2)) / 255).repeat(1, 3)

    def __deepcopy__(self, _: object) -> Mean:
        return self  # the copy that is made for speed counts as well


def photos(count: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def wanted(pixels: np.ndarray) -> np.ndarray:
    return np.tile(pixels.mean(axis=(1, 2)) / 255, 3)


def read(trunk: Mean, pixels: np.ndarray, folder: Path, key: str = "mean", **more: object) -> Rows:
    return cached_features(trunk, key, pixels, pixel_hashes(pixels), folder, device=CPU, **more)  # type: ignore[arg-type]


def test_cached_features__are_the_trunks_and_computed_once(tmp_path: Path) -> None:
    pixels, trunk = photos(40), Mean()
    first = read(trunk, pixels, tmp_path)
    assert np.allclose(first, wanted(pixels), atol=2e-3) and first.dtype == np.float16
    seen = trunk.read
    again = read(trunk, pixels, tmp_path)
    assert trunk.read == seen
    assert isinstance(again, np.memmap)
    assert np.array_equal(first, again)


def test_cached_features__follow_the_content_not_the_order(tmp_path: Path) -> None:
    pixels, trunk = photos(40), Mean()
    read(trunk, pixels, tmp_path)
    trunk.read = 0
    mixed = np.concatenate([pixels[::-1], photos(2, seed=1), pixels[:3]])
    assert np.allclose(read(trunk, mixed, tmp_path), wanted(mixed), atol=2e-3)
    assert 0 < trunk.read <= 2 * 4  # the two new photos, and the trials of precisions


def test_cached_features__another_key_shares_nothing(tmp_path: Path) -> None:
    pixels, trunk = photos(10), Mean()
    read(trunk, pixels, tmp_path)
    trunk.read = 0
    read(trunk, pixels, tmp_path, key="other weights")
    assert trunk.read >= 10


def test_cached_features__an_interrupted_run_loses_no_more_than_it_had_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH_EVERY", 32)
    pixels, trunk = photos(100), Mean()

    def cancel(done: int, total: int) -> None:
        assert total == 100
        if done >= 64:
            raise TrainingCancelledError("Cancelled.")

    with pytest.raises(TrainingCancelledError):
        read(trunk, pixels, tmp_path, progress=cancel)
    told: list[int] = []
    rows = read(trunk, pixels, tmp_path, progress=lambda done, total: told.append(total))
    assert set(told) == {36}
    assert np.allclose(rows, wanted(pixels), atol=2e-3)


@pytest.mark.parametrize("torn", ["rows.f16", "hashes.bin"])
def test_cached_features__what_a_crash_left_half_written_is_computed_again(
    tmp_path: Path, torn: str
) -> None:
    pixels, trunk = photos(8), Mean()
    read(trunk, pixels, tmp_path)
    # A row without its hash, or half a hash: both are what a crash between two writes leaves.
    path = Store(tmp_path, "mean").folder / torn
    with path.open("ab") as file:
        file.write(b"\x01" * 7)
    more = np.concatenate([pixels, photos(5, seed=1)])
    assert np.allclose(read(trunk, more, tmp_path), wanted(more), atol=2e-3)
    assert np.allclose(read(trunk, more[::-1], tmp_path), wanted(more[::-1]), atol=2e-3)


def test_cached_features__two_writers_at_a_time_do_not_mix_their_rows(tmp_path: Path) -> None:
    one, other = Store(tmp_path, "mean"), Store(tmp_path, "mean")
    pixels = photos(4)
    hashes, rows = pixel_hashes(pixels), np.arange(8, dtype=np.float16).reshape(4, 2)
    one.append(hashes[:2], rows[:2])
    other.append(hashes[1:], rows[1:])
    assert np.array_equal(one.read(one.slots(hashes)), rows)


def test_cached_features__the_folder_stays_below_its_bound(tmp_path: Path) -> None:
    trunk, pixels = Mean(), photos(100)
    of_one = 100 * (9 * 2 + 16) + 16
    for number, key in enumerate(["old", "used", "new"]):
        read(trunk, pixels, tmp_path, key=key)
        os.utime(Store(tmp_path, key).folder, (number, number))
    os.utime(Store(tmp_path, "old").folder, (9, 9))  # used since
    read(trunk, pixels, tmp_path, key="now", max_bytes=int(2.5 * of_one))
    kept = {key for key in ("old", "used", "new", "now") if Store(tmp_path, key).folder.exists()}
    assert kept == {"old", "now"}
    rows = read(trunk, pixels, tmp_path, key="now", max_bytes=of_one // 2)
    assert np.allclose(rows, wanted(pixels), atol=2e-3)  # given all the same
    assert not Store(tmp_path, "now").folder.exists()


def test_cached_features__of_nothing_are_nothing(tmp_path: Path) -> None:
    assert len(read(Mean(), photos(0), tmp_path)) == 0


def test_cached_features__not_a_number_is_refused_and_not_stored(tmp_path: Path) -> None:
    class Broken(Mean):
        def forward(self, pixels: Tensor) -> Tensor:
            return super().forward(pixels) * float("nan")

    with pytest.raises(TrainingError, match="not finite"):
        read(Broken(), photos(4), tmp_path)
    assert not Store(tmp_path, "mean").folder.exists()


def test_pixel_hashes__differ_for_one_changed_value() -> None:
    pixels = photos(2)
    pixels[1] = pixels[0]
    same = pixel_hashes(pixels)
    assert same[0] == same[1] and len(same[0]) == module.HASH_BYTES
    pixels[1, 0, 0, 0] ^= 1
    assert pixel_hashes(pixels)[1] != same[0]
