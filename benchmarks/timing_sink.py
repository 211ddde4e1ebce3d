"""A receiver that notes how long each event was on its way.

That is from the time in its data (`"at"`, nanoseconds of the machine's monotonic clock) to its arrival here. Answers
200, but requests below `/hang/` never. `GET /counts` answers the milliseconds by path as JSON and starts them again.
Run alone, it prints its port: python -m benchmarks.timing_sink [--port 0] [--cpu 1]
"""

import json
import re
import time
import urllib.request
from collections import defaultdict
from collections.abc import Sequence

from benchmarks.sink import COUNTS, OK, Receiver, json_answer, main, path_of

HANGING = "/hang/"
MODULE = "benchmarks.timing_sink"
_AT = re.compile(rb'"at": ?([0-9]+)')

Times = dict[str, list[float]]
"""Milliseconds of every request, by path."""


class TimingSink(Receiver):
    """One connection; `times` is shared by all."""

    __slots__ = ("_times",)

    def __init__(self, times: defaultdict[bytes, list[float]]) -> None:
        super().__init__()
        self._times = times

    def answer(self, data: bytes, start: int) -> bytes:
        """Answers 200 or not at all, or what was noted."""
        now = time.monotonic_ns()
        path = path_of(data, start)
        if path == COUNTS:
            answer = json_answer({path.decode("latin-1"): times for path, times in self._times.items()})
            self._times.clear()
            return answer
        at = _AT.search(data, start)
        assert at is not None, "an event without a time"
        self._times[path].append(round((now - int(at[1])) / 1e6, 3))
        return b"" if path.startswith(HANGING.encode()) else OK


def collect(port: int, wanted: int, seconds: float) -> Times:
    """What the receiver noted, once so many requests that it answers have come, or after so many seconds."""
    found: Times = defaultdict(list)
    deadline = time.monotonic() + seconds
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{COUNTS.decode()}", timeout=10) as answer:
            for path, times in json.loads(answer.read()).items():
                found[path] += times
        if len(answered(found)) >= wanted or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def answered(times: Times) -> list[float]:
    """The milliseconds of all requests but those that hang, the least first."""
    return sorted(one for path, some in times.items() if not path.startswith(HANGING) for one in some)


def percentile(ordered: Sequence[float], part: float) -> float:
    """The value below which this part of them is; nan for none."""
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


if __name__ == "__main__":
    noted: defaultdict[bytes, list[float]] = defaultdict(list)
    main(lambda: TimingSink(noted), __doc__)
