"""Session-parallel mini-batches: nothing skipped, nothing twice, slots filled as in the reference."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.data.sessions import Sessions
from gru4rec.training.session_parallel.schedule import SessionParallelSchedule

session_lists = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=9), min_size=1, max_size=40)


def stepped_plainly(sessions: list[list[int]], batch_size: int) -> list[list[tuple[int, int, bool]]]:
    """The steps of an epoch, as (input, target, session starts) per live slot, by stepping through slot after slot."""
    waiting = [session for session in sessions if len(session) > 1]
    slots: list[list[int] | None] = []
    places: list[int] = []
    while waiting and len(slots) < batch_size:
        slots.append(waiting.pop(0))
        places.append(0)
    steps = []
    while any(slot is not None for slot in slots):
        step = []
        for number, slot in enumerate(slots):
            if slot is not None:
                place = places[number]
                step.append((slot[place], slot[place + 1], place == 0))
                places[number] += 1
        steps.append(step)
        for number, slot in enumerate(slots):
            if slot is not None and places[number] == len(slot) - 1:
                slots[number] = waiting.pop(0) if waiting else None
                places[number] = 0
    return steps


def steps_of(sessions: list[list[int]], batch_size: int, steps_per_block: int) -> list[list[tuple[int, int, bool]]]:
    schedule = SessionParallelSchedule(Sessions.from_lists(sessions), batch_size)
    steps = []
    for block in schedule.blocks(steps_per_block):
        assert block.first_step == len(steps)
        for begin, end in pairwise(block.bounds):
            assert (np.diff(block.slots[begin:end]) > 0).all()
            columns = (block.inputs[begin:end], block.targets[begin:end], block.starts[begin:end])
            steps.append(list(zip(*(column.tolist() for column in columns), strict=True)))
    assert len(steps) == schedule.n_steps
    return steps


@given(session_lists, st.integers(1, 50), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_every_pair_is_in_exactly_one_step(sessions, batch_size, steps_per_block):
    steps = steps_of(sessions, batch_size, steps_per_block)
    trained = sorted((pair[0], pair[1]) for step in steps for pair in step)
    expected = sorted(pair for session in sessions for pair in pairwise(session))
    assert trained == expected
    assert all(0 < len(step) <= batch_size for step in steps)


@given(session_lists, st.integers(1, 50), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_steps_are_those_of_stepping_slot_by_slot(sessions, batch_size, steps_per_block):
    assert steps_of(sessions, batch_size, steps_per_block) == stepped_plainly(sessions, batch_size)


def test_more_slots_than_sessions_leave_no_gap():
    assert steps_of([[1, 2, 3], [4, 5]], batch_size=10, steps_per_block=100) == [
        [(1, 2, True), (4, 5, True)],
        [(2, 3, False)],
    ]


def test_slot_that_becomes_free_takes_the_next_session_and_says_so():
    assert steps_of([[1, 2], [3, 4, 5], [6, 7]], batch_size=2, steps_per_block=100) == [
        [(1, 2, True), (3, 4, True)],
        [(6, 7, True), (4, 5, False)],
    ]


def test_single_clicks_have_nothing_to_train_on():
    schedule = SessionParallelSchedule(Sessions.from_lists([[1], [2]]), 4)
    assert schedule.n_steps == schedule.n_sessions == 0
    assert list(schedule.blocks(10)) == []
