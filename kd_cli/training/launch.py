"""What torchrun tells each process that it starts, and which of them speaks to the user. Free of torch until then."""

import os
import signal
import time
from dataclasses import dataclass
from types import FrameType

PRECEDENCE_SECONDS = 1.0
"""How long the other processes wait for the first one to tell the user why the run ended."""

STORE_SECONDS = 5
"""How long to look for torchrun's store."""


@dataclass(frozen=True)
class Launch:
    """This process's place among those that one command was started as.

    Attributes:
        rank: its number, from 0, among all of them.
        size: how many there are, on all machines.
        local_rank: its number among those of this machine.
        restarts: how often torchrun has started the processes of this machine again.
        restarts_left: how often it still would.
        address: host and port of a store that all processes reach.
        has_store: whether torchrun keeps that store; otherwise the first process has to open it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    restarts: int = 0
    restarts_left: int = 0
    address: tuple[str, int] = ("", 0)
    has_store: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files, prints results and shows progress."""
        return self.rank == 0

    def may_tell(self) -> bool:
        """Whether this process is to tell the user why the run ended: it is asked once, and one of all is told so.

        The processes agree in the store that torchrun keeps for them, which outlives them. The first process goes
        first, as it knows what is kept; the others tell where it could not.
        """
        if self.size == 1:
            return True
        _ignore_signals()  # torchrun ends all processes as soon as one has ended
        if not self.is_first:
            time.sleep(PRECEDENCE_SECONDS)
        from datetime import timedelta

        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        try:
            store = TCPStore(*self.address, timeout=timedelta(seconds=STORE_SECONDS), wait_for_workers=False)
            return bool(store.add(f"kd/told/{self.restarts}", 1) == 1)
        except RuntimeError:  # a launcher without such a store: rather several lines than none
            return True

    def prepare(self) -> None:
        """Make one of several processes ready, before torch is imported.

        One Ctrl-C or SIGTERM interrupts it. More follow, as torchrun passes on what it gets. Of what torch's engine has
        to say, errors alone are shown, as every process would say it.
        """
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

        def interrupt(_: int, __: FrameType | None) -> None:
            _ignore_signals()
            raise KeyboardInterrupt

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupt)


def current_launch() -> Launch:
    """This process's place, by the environment variables that torchrun sets; without them it is the only process."""
    environment = os.environ
    try:
        rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        address = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        local_rank = int(environment.get("LOCAL_RANK", rank))
        restarts = int(environment.get("TORCHELASTIC_RESTART_COUNT", 0))
        most = int(environment.get("TORCHELASTIC_MAX_RESTARTS", 0))
    except (KeyError, ValueError):
        return Launch()
    has_store = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Launch(rank, size, local_rank, restarts, most - restarts, address, has_store)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
