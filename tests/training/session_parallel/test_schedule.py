"""Session-parallel mini-batches: nothing skipped, nothing twice, lanes as the reference walks them."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gru4rec.data.sessions import Sessions
from gru4rec.training.session_parallel.schedule import SessionParallelSchedule

session_lists = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=9), min_size=1, max_size=40)


def walked_plainly(sessions: list[list[int]], batch_size: int) -> list[list[tuple[int, int, bool]]]:
    """The steps of an epoch, as (input, target, session starts) per live lane, by stepping lane after lane."""
    waiting = [session for session in sessions if len(session) > 1]
    lanes: list[list[int] | None] = []
    places: list[int] = []
    while waiting and len(lanes) < batch_size:
        lanes.append(waiting.pop(0))
        places.append(0)
    steps = []
    while any(lane is not None for lane in lanes):
        step = []
        for number, lane in enumerate(lanes):
            if lane is not None:
                place = places[number]
                step.append((lane[place], lane[place + 1], place == 0))
                places[number] += 1
        steps.append(step)
        for number, lane in enumerate(lanes):
            if lane is not None and places[number] == len(lane) - 1:
                lanes[number] = waiting.pop(0) if waiting else None
                places[number] = 0
    return steps


def steps_of(sessions: list[list[int]], batch_size: int, steps_per_block: int) -> list[list[tuple[int, int, bool]]]:
    schedule = SessionParallelSchedule(Sessions.from_lists(sessions), batch_size)
    steps = []
    for block in schedule.blocks(steps_per_block):
        assert block.first_step == len(steps)
        for begin, end in pairwise(block.bounds):
            assert (np.diff(block.lanes[begin:end]) > 0).all()
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
def test_steps_are_those_of_walking_lane_by_lane(sessions, batch_size, steps_per_block):
    assert steps_of(sessions, batch_size, steps_per_block) == walked_plainly(sessions, batch_size)


def test_more_lanes_than_sessions_leave_no_gap():
    assert steps_of([[1, 2, 3], [4, 5]], batch_size=10, steps_per_block=100) == [
        [(1, 2, True), (4, 5, True)],
        [(2, 3, False)],
    ]


def test_lane_that_becomes_free_takes_the_next_session_and_says_so():
    assert steps_of([[1, 2], [3, 4, 5], [6, 7]], batch_size=2, steps_per_block=100) == [
        [(1, 2, True), (3, 4, True)],
        [(6, 7, True), (4, 5, False)],
    ]


def test_single_clicks_have_nothing_to_train_on():
    schedule = SessionParallelSchedule(Sessions.from_lists([[1], [2]]), 4)
    assert schedule.n_steps == schedule.n_sessions == 0
    assert list(schedule.blocks(10)) == []
