"""Decoding in disposable children: same pixels, and nothing an image does reaches the parent."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from visualsearch.exceptions import (
    EncoderBusyError,
    EncoderUnavailableError,
    ImageDecodeError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
    QueryError,
)
from visualsearch.photos import decoding, decoding_parent, images
from visualsearch.photos.decoding import Decoder


def picture(seed: int = 0, width: int = 120, height: int = 80) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def slow_picture() -> bytes:
    """A valid PNG that takes a good while to decode: 36 MP that do not compress to runs."""
    row = np.random.default_rng(0).integers(0, 256, (1, 6000, 3), np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(np.repeat(row, 6000, axis=0))
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pid: int, *, within: float = 8.0) -> None:
    deadline = time.monotonic() + within
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def kill_at_work(pid: int) -> None:
    """Kills a process once it has been computing for a tenth of a second."""

    def ticks() -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])

    before = ticks()
    while ticks() < before + os.sysconf("SC_CLK_TCK") // 10:
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder(processes=2, timeout_s=5.0) as made:
        yield made


def test_decode__gives_the_pixels_of_images(decoder: Decoder) -> None:
    data = picture(width=900, height=500)
    seen = decoder.decode(data, size=48)
    assert seen.dtype == np.uint8 and seen.shape == (48, 48, 3)
    assert np.array_equal(seen, images.to_pixels(images.open_image(data, size_hint=48), size=48))
    box = (0.1, 0.2, 0.6, 0.9)
    part = images.open_image(data, size_hint=48, box=box)
    assert np.array_equal(decoder.decode(data, size=48, box=box), images.to_pixels(part, size=48))


def test_decode__errors_keep_their_type_and_their_child(decoder: Decoder) -> None:
    decoder.decode(picture(), size=16)
    before = decoder.pids()
    with pytest.raises(ImageFormatError, match="a GIF"):
        decoder.decode(b"GIF89a" + bytes(99), size=16)
    with pytest.raises(ImageDecodeError, match="cut short"):
        decoder.decode(picture()[:-300], size=16)
    with pytest.raises(ImageFormatError, match="empty"):
        decoder.decode(b"", size=16)
    assert decoder.pids() == before


def test_decode__limits_are_those_of_the_decoder() -> None:
    with (
        Decoder(processes=1, max_pixels=1000) as small,
        pytest.raises(ImageTooLargeError, match="1,000"),
    ):
        small.decode(picture(), size=16)


def test_decode__impossible_requests_never_reach_a_child(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(QueryError, match="box"):
        decoder.decode(picture(), size=16, box=(1, 0, 0, 1))
    with pytest.raises(ValueError, match="size is 0"):
        decoder.decode(picture(), size=0)
    monkeypatch.setattr(decoding, "MAX_FILE_BYTES", 100)
    with pytest.raises(ImageTooLargeError, match="bytes"):
        decoder.decode(picture(), size=16)
    assert decoder.pids() == []
    with pytest.raises(ValueError, match="processes is 0"):
        Decoder(processes=0)


def test_decode__a_child_that_dies_on_an_image_is_an_error_and_the_next_image_is_fine(
    decoder: Decoder,
) -> None:
    decoder.decode(picture(), size=16)
    (pid,) = decoder.pids()
    killer = threading.Thread(target=kill_at_work, args=(pid,))
    killer.start()
    with pytest.raises(ImageDecodeError, match="SIGKILL"):
        decoder.decode(slow_picture(), size=16)
    killer.join()
    assert decoder.decode(picture(), size=16).shape == (16, 16, 3)
    assert pid not in decoder.pids() and not alive(pid)


def test_decode__a_child_that_died_while_idle_blames_no_image(decoder: Decoder) -> None:
    for pause in (0, 0, 0, 0.01, 0.1):
        decoder.decode(picture(), size=16)
        (pid,) = decoder.pids()
        os.kill(pid, signal.SIGKILL)
        time.sleep(pause)
        assert decoder.decode(picture(), size=16).shape == (16, 16, 3)


def test_decode__too_slow_an_image_costs_its_child() -> None:
    data = slow_picture()
    with Decoder(processes=1, timeout_s=0.1) as decoder:
        decoder.decode(picture(), size=16)
        (pid,) = decoder.pids()
        started = time.monotonic()
        with pytest.raises(ImageDecodeError, match=r"longer than 0\.1 s"):
            decoder.decode(data, size=16)
        assert time.monotonic() - started < 2
        wait_until_gone(pid)
        assert decoder.decode(picture(), size=16).shape == (16, 16, 3)


def test_decode__a_stopped_child_is_given_up_in_time() -> None:
    with Decoder(processes=1, timeout_s=0.3) as decoder:
        decoder.decode(picture(), size=16)
        (pid,) = decoder.pids()
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ImageDecodeError, match="longer than"):
            decoder.decode(picture(), size=16)
        wait_until_gone(pid)
        assert decoder.decode(picture(), size=16).shape == (16, 16, 3)


def test_decode__memory_is_limited_in_the_child_only() -> None:
    with Decoder(processes=1, memory_bytes=96 << 20) as decoder:
        assert decoder.decode(picture(), size=16).shape == (16, 16, 3)
        with pytest.raises(ImageError) as raised:
            decoder.decode(slow_picture(), size=16)  # 36 MP: 108 MB as RGB
        assert isinstance(raised.value, ImageTooLargeError | ImageDecodeError)
        assert decoder.decode(picture(), size=16).shape == (16, 16, 3)


def test_decode__the_child_is_confined(decoder: Decoder) -> None:
    decoder.decode(picture(), size=16)
    (pid,) = decoder.pids()
    rows = Path(f"/proc/{pid}/limits").read_text().splitlines()
    limits = {row[:26].strip(): row[26:].split()[0] for row in rows[1:]}
    assert limits["Max address space"] == str(1 << 30)
    assert limits["Max core file size"] == "0"
    assert limits["Max file size"] == "0"
    assert limits["Max open files"] == "16"
    assert int(limits["Max cpu time"]) <= 10
    environment = Path(f"/proc/{pid}/environ").read_bytes().decode()
    names = {entry.partition("=")[0] for entry in environment.split("\0") if entry}
    assert names <= {"PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "LC_CTYPE"}


def test_decode__processor_time_is_refreshed_for_every_image() -> None:
    with Decoder(processes=1, timeout_s=1.0) as decoder:
        decoder.decode(picture(), size=16)
        pids = decoder.pids()
        # Small enough that a busy machine does not take the second that one may last.
        data = picture(width=900, height=600)
        child = psutil.Process(pids[0])
        while child.cpu_times().user < 4:  # more than one image may have: 1 + 1 + rounding
            decoder.decode(data, size=600)
        assert decoder.pids() == pids


def test_decode__a_child_is_replaced_after_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "IMAGES_PER_CHILD", 3)
    with Decoder(processes=1) as decoder:
        seen = []
        for _ in range(6):
            decoder.decode(picture(), size=16)
            seen.append(decoder.pids())
        assert seen[0] == seen[1] != seen[3] == seen[4]


def test_decode__threads_share_the_children(decoder: Decoder) -> None:
    expected = {seed: decoder.decode(picture(seed), size=16) for seed in range(8)}
    wrong: list[int] = []

    def work(seed: int) -> None:
        for _ in range(20):
            if not np.array_equal(decoder.decode(picture(seed), size=16), expected[seed]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert 1 <= len(decoder.pids()) <= 2


def test_decode__outlives_the_thread_that_started_the_child(decoder: Decoder) -> None:
    thread = threading.Thread(target=decoder.decode, args=(picture(),), kwargs={"size": 16})
    thread.start()
    thread.join()
    time.sleep(0.2)
    (pid,) = decoder.pids()
    assert alive(pid)
    decoder.decode(picture(), size=16)
    assert decoder.pids() == [pid]


def test_decode__turns_away_when_every_child_stays_busy() -> None:
    with Decoder(processes=1, timeout_s=5) as decoder:
        decoder.decode(picture(), size=16)
        (pid,) = decoder.pids()
        os.kill(pid, signal.SIGSTOP)
        thread = threading.Thread(target=decoder.decode, args=(picture(),), kwargs={"size": 16})
        thread.start()
        time.sleep(0.1)
        with pytest.raises(EncoderBusyError, match="DECODER_PROCESSES"):
            decoder.decode(picture(), size=16, wait_s=0.1)
        os.kill(pid, signal.SIGCONT)
        thread.join()
        assert decoder.decode(picture(), size=16, wait_s=1).shape == (16, 16, 3)


def test_decode__a_decoder_that_cannot_start_blames_no_image(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Found before the installed package, and as broken as one that lost its files.
    (tmp_path / "visualsearch").mkdir()
    (tmp_path / "visualsearch" / "__init__.py").touch()
    with Decoder(processes=1) as decoder:
        monkeypatch.setattr(sys, "executable", "/nowhere/python3")
        with pytest.raises(EncoderUnavailableError, match="/nowhere/python3"):
            decoder.decode(picture(), size=16)
        monkeypatch.undo()
        monkeypatch.setattr(decoding_parent, "_environment", lambda: {"PYTHONPATH": str(tmp_path)})
        with pytest.raises(EncoderUnavailableError, match="No module named"):
            decoder.decode(picture(), size=16)
        monkeypatch.undo()
        assert decoder.decode(picture(), size=16).shape == (16, 16, 3)


def test_decode__a_child_that_answers_nonsense_is_replaced(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.decode(picture(), size=16)
    (pid,) = decoder.pids()
    unpack = decoding_parent.ANSWER.unpack

    class Lying:
        size = decoding_parent.ANSWER.size

        def unpack(self, header: bytearray) -> tuple[int, int]:
            kind, length = unpack(header)
            return kind, length + 1

    monkeypatch.setattr(decoding_parent, "ANSWER", Lying())
    with pytest.raises(ImageDecodeError):
        decoder.decode(picture(), size=16)
    monkeypatch.undo()
    assert decoder.decode(picture(), size=16).shape == (16, 16, 3)
    assert pid not in decoder.pids()


def test_decode_many__answers_in_order_with_an_error_for_each_bad_one(decoder: Decoder) -> None:
    datas = [picture(seed) if seed % 5 else b"GIF89a" + bytes(50) for seed in range(40)]
    answers = list(decoder.decode_many(datas, size=16))
    assert len(answers) == 40
    for seed, answer in enumerate(answers):
        if seed % 5:
            expected = images.to_pixels(images.open_image(datas[seed], size_hint=16), size=16)
            assert np.array_equal(answer, expected)
        else:
            assert isinstance(answer, ImageFormatError)
    assert len(decoder.pids()) == 2


def test_decode_many__reads_only_a_few_images_ahead(decoder: Decoder) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield picture()

    answers = decoder.decode_many(endless(), size=16)
    for _ in range(10):
        next(answers)
    assert taken <= 10 + 2 * decoder.processes
    answers.close()  # type: ignore[attr-defined]
    assert decoder.decode(picture(), size=16).shape == (16, 16, 3)


def test_decode_many__an_image_that_ends_its_child_costs_the_others_of_its_lot_nothing(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    datas = [picture(seed) for seed in range(20)]
    datas[5] = b"deadly" + picture()
    send, began = decoding_parent.Child.send, []

    def send_and_die(
        child: decoding_parent.Child, requests: Sequence[bytes], **options: Any
    ) -> None:
        send(child, requests, **options)
        if any(b"deadly" in request for request in requests):
            began.append(len(requests))
            child.process.kill()
            child.connection.shutdown(socket.SHUT_RDWR)
            raise TimeoutError

    monkeypatch.setattr(decoding_parent.Child, "send", send_and_die)
    answers = list(decoder.decode_many(datas, size=16, ahead=32))
    assert began == [8, 1]
    for seed, answer in enumerate(answers):
        if seed == 5:
            assert isinstance(answer, ImageDecodeError) and "longer than" in answer.message
        else:
            expected = images.to_pixels(images.open_image(datas[seed], size_hint=16), size=16)
            assert np.array_equal(answer, expected)


def test_decode_many__a_child_that_is_killed_over_a_lot_blames_none_that_decodes_alone() -> None:
    datas = [slow_picture(), *(picture(seed) for seed in range(7))]
    with Decoder(processes=1, timeout_s=30) as decoder:
        decoder.decode(picture(), size=16)
        killer = threading.Thread(target=kill_at_work, args=(decoder.pids()[0],))
        killer.start()
        answers = list(decoder.decode_many(datas, size=16, ahead=32))
        killer.join()
    assert [getattr(answer, "shape", answer) for answer in answers] == [(16, 16, 3)] * 8


def test_decode_many__files_too_large_to_share_a_lot_go_alone(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    datas = [picture(seed) for seed in range(12)]
    monkeypatch.setattr(decoding, "LOT_BYTES", len(datas[3]) + 1)
    monkeypatch.setattr(decoding, "AHEAD_BYTES", 2 * len(datas[3]))
    monkeypatch.setattr(decoding, "MAX_FILE_BYTES", max(map(len, datas)) + 1)
    datas[7] = bytes(max(map(len, datas)) + 2)
    answers = list(decoder.decode_many(datas, size=16, ahead=32))
    assert isinstance(answers.pop(7), ImageTooLargeError)
    assert [getattr(answer, "shape", answer) for answer in answers] == [(16, 16, 3)] * 11


def test_close__ends_the_children_and_a_later_image_starts_new_ones(decoder: Decoder) -> None:
    list(decoder.decode_many([picture()] * 10, size=16))
    pids = decoder.pids()
    decoder.close()
    assert decoder.pids() == [] and not any(alive(pid) for pid in pids)
    assert decoder.decode(picture(), size=16).shape == (16, 16, 3)


def test_fork__parent_and_child_use_children_of_their_own(decoder: Decoder) -> None:
    data, expected = picture(3), decoder.decode(picture(3), size=16)
    (pid,) = decoder.pids()
    forked = os.fork()
    if forked == 0:  # no assertion may escape into a second pytest
        try:
            same = all(np.array_equal(decoder.decode(data, size=16), expected) for _ in range(20))
            ours = decoder.pids()
            decoder.close()
            os._exit(0 if same and len(ours) == 1 and pid not in ours else 1)
        except BaseException:
            os._exit(2)
    for _ in range(20):
        assert np.array_equal(decoder.decode(data, size=16), expected)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    assert decoder.pids() == [pid] and alive(pid)


ORPHAN = """
import os, sys, time
from visualsearch.photos.decoding import Decoder
decoder = Decoder(processes=1)
try:
    decoder.decode(b"x", size=8)
except Exception:
    pass
if os.fork() == 0:          # a fork that keeps the socket open and never decodes
    os.close(1)
    time.sleep(20)
    os._exit(0)
print(*decoder.pids(), flush=True)
time.sleep(20)
"""


def test_children_end_with_a_killed_parent__even_when_a_fork_holds_the_socket() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        parent.wait()
        wait_until_gone(pid)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.stdout.close()


def test_children_outlive_the_signals_of_ctrl_c_and_of_a_stopping_service(decoder: Decoder) -> None:
    decoder.decode(picture(), size=16)
    pids = decoder.pids()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pids[0], number)
        assert decoder.decode(picture(), size=16).shape == (16, 16, 3)
    assert decoder.pids() == pids


def test_decoding__imports_neither_numpy_nor_django_nor_torch() -> None:
    code = "import sys, visualsearch.photos.decoding; print({'numpy', 'django', 'torch'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
