"""Stories in which some go first, some want much, and there is not room for all."""

from dataclasses import replace

import pytest

from peekserve.domain.messages import Answer, Arrived
from peekserve.domain.request import Outcome, Reason, Source
from peekserve.sim.campaign import drawn
from peekserve.sim.story import Story, live


def followed(story: Story) -> list[str]:
    """Every instant and what followed then."""
    seen: list[str] = []
    assert live(story, look=lambda event, now, commands: seen.append(repr((now, commands)))) is None
    return seen


def of_one_priority(story: Story, priority: int) -> Story:
    return replace(story, requests=tuple(replace(one, priority=priority) for one in story.requests))


@pytest.mark.parametrize("seed", range(1, 25))
def test_with_one_level_nothing_is_different(seed):
    """Apart from what a refusal says of the priority itself."""
    story = drawn(seed)
    story = replace(story, spec=replace(story.spec, max_rows=4096, max_bytes=1 << 30))
    assert followed(of_one_priority(story, 0)) == followed(of_one_priority(story, 3))


def test_in_some_stories_somebody_is_turned_away_for_others_and_answers_differ_by_floor():
    shed, by_peek, floors, levels = 0, 0, 0, set()
    for seed in range(40):
        story = drawn(seed)
        floors += sum(one.min_accuracy > 0.0 for one in story.requests)
        levels |= {one.level for one in story.requests}

        def look(event, now, commands):
            nonlocal shed, by_peek
            for answer in commands:
                if isinstance(event, Arrived) and isinstance(answer, Answer):
                    other = answer.request_id != event.request.id
                    shed += other and answer.reason is Reason.OVERLOADED
                    by_peek += (
                        other
                        and answer.outcome is Outcome.ANSWERED
                        and all(row.source is Source.PEEK for row in answer.rows)
                    )

        assert live(story, look=look) is None
    assert min(shed, floors) > 20
    assert by_peek > 0
    assert {1, 2, 8, 9, 16} <= levels
