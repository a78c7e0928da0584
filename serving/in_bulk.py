"""Refusals for want of time, by the hundred a second: as cheap as they can be.

    Overloaded -> the answer that others got in this second, as bytes -> one line in the log for all

Whoever refuses three requests for every one that it judges has no time to write a problem and two
lines of log for each of them. The `instance` of such a problem stands for all of one second.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from serving import problems

if TYPE_CHECKING:
    from starlette.responses import Response

    from serving.errors import Overloaded
    from serving.metrics import Metrics

FOR_S: Final = 1.0
"""How long one answer is used again."""

log = logging.getLogger("serving")


@dataclass(slots=True, kw_only=True)
class _Made:
    problem: problems.Problem
    instance: str
    response: Response
    count: int = 0


class InBulk:
    """Answers to those who come while too much waits. Used on the event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._made: dict[int | None, _Made] = {}

    def answer(self, error: Overloaded) -> Response:
        """The answer for one more; alike for all that may come again after the same time."""
        made = self._made.get(error.retry_after_s)
        if made is None:
            problem = problems.problem_of(error)
            instance = problems.new_instance()
            response = problem.named(instance)
            made = _Made(problem=problem, instance=instance, response=response)
            self._made[error.retry_after_s] = made
            if len(self._made) == 1:
                asyncio.get_running_loop().call_later(FOR_S, self.tell)
        made.count += 1
        self._metrics.rejected(error.code)
        return made.response

    def tell(self) -> None:
        """Write down how many were refused, and make new answers from now on."""
        made, self._made = self._made, {}
        for each in made.values():
            each.problem.tell(each.instance, count=each.count)
