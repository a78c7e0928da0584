"""Outside a terminal, progress is a few plain lines and never a long silence."""

from __future__ import annotations

import json

import pytest

from training.progress import JsonLines, PlainLines, reporter


def test_a_stage_begins_and_ends_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with reporter() as told:
        assert isinstance(told, PlainLines)  # pytest's stderr is no terminal
        for done in range(1, 101):
            told.progress("features", done, 100)
        told.progress("head", 5, 5)
        told.say("so far")
    out, err = capsys.readouterr()
    assert out == ""
    begun, ended, at_once, said = err.splitlines()
    assert begun == "features: 1 of 100"
    assert ended.startswith("features: 100 done in ")
    assert at_once.startswith("head: 5 done in ")
    assert said == "so far"


def test_long_stages_speak_every_half_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    told = PlainLines(lambda: now)
    for done in range(101):
        told.progress("fine-tuning", done, 200)
        now += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == [
        "fine-tuning: 15%, about 170 s left",
        "fine-tuning: 30%, about 140 s left",
        "fine-tuning: 45%, about 110 s left",
    ]


def test_a_stage_that_is_told_of_late_counts_from_the_end_of_the_one_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    told = PlainLines(lambda: now)
    now = 12.0
    told.progress("head", 5, 5)
    now = 15.0
    told.progress("test", 0, 2)  # said when it began: what lay between is not its own
    now = 16.0
    told.progress("test", 2, 2)
    assert capsys.readouterr().err.splitlines() == [
        "head: 5 done in 12.0 s",
        "test: 0 of 2",
        "test: 2 done in 1.0 s",
    ]


def test_a_stage_of_the_same_name_is_announced_again(capsys: pytest.CaptureFixture[str]) -> None:
    told = PlainLines()
    for _ in range(2):
        told.progress("test", 1, 2)
        told.progress("test", 2, 2)
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_programs_get_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    told = JsonLines(lambda: now)
    for done in range(5):
        told.progress("head", done, 4)
        now += 0.6
    told.say("epoch 1")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        {"stage": "head", "done": 0, "total": 4, "left_s": None},
        {"stage": "head", "done": 2, "total": 4, "left_s": 1.2},
        {"stage": "head", "done": 4, "total": 4, "left_s": 0.0},
        {"say": "epoch 1"},
    ]
