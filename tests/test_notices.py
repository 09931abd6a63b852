"""Notices: everybody is told in order, and nobody who is slow or broken keeps others waiting."""

from __future__ import annotations

import threading

from ibs_core.notices import KINDS, Board, Notice


def notice(i):
    return Notice(KINDS[i % len(KINDS)], f"line {i}", i)


class Kept:
    def __init__(self):
        self.told, self.is_closed = [], False

    def tell(self, notice):
        self.told.append(notice)

    def close(self):
        self.is_closed = True


class Held(Kept):
    """Like a terminal on which somebody pressed Ctrl-S."""

    def __init__(self):
        super().__init__()
        self.go, self.is_held = threading.Event(), threading.Event()

    def tell(self, notice):
        self.is_held.set()
        self.go.wait()
        super().tell(notice)


class Broken(Kept):
    def tell(self, notice):
        super().tell(notice)
        raise ValueError("a mistake of its own")


def test_everybody_is_told_everything_in_order_before_the_end():
    subscribers = [Kept(), Broken(), Kept()]
    board = Board(*subscribers)
    notices = [notice(i) for i in range(500)]
    for each in notices:
        board.publish(each)
    board.close()
    assert [each.told for each in subscribers] == [notices] * 3
    assert all(each.is_closed for each in subscribers)
    assert board.dropped == 500


def test_one_that_is_held_keeps_nobody_waiting():
    held, other = Held(), Kept()
    board = Board(held, other)
    for i in range(10):
        board.publish(notice(i))
    assert held.is_held.wait(10)
    while len(other.told) < 10:
        assert not held.told
    held.go.set()
    board.close()
    assert len(held.told) == 10


def test_what_is_published_after_the_end_is_lost_in_silence():
    kept = Kept()
    board = Board(kept)
    board.close()
    board.publish(notice(1))
    board.close()
    assert kept.told == []
