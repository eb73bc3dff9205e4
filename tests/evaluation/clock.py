"""A clock that only calls move, so that what they are said to take is what they took."""


class Clock:
    """A clock that stands still until something takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        return self.now


class Call:
    """Takes so many milliseconds, the next one each time, and notes its name in a log."""

    def __init__(self, clock: Clock, *milliseconds: float, name: str = "", log: list[str] | None = None) -> None:
        self.clock, self.milliseconds, self.name, self.log = clock, milliseconds, name, log
        self.count = 0

    def __call__(self) -> None:
        self.clock.now += self.milliseconds[self.count % len(self.milliseconds)] / 1e3
        self.count += 1
        if self.log is not None:
            self.log.append(self.name)
