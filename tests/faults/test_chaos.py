"""Everything at once: several workers and runs, and every few shards something dies.

`CHAOS=4` in the environment lets everything happen four times as often.
"""

import os
import random
import signal
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from uuid import UUID

import pytest

from evaluator.store import RunState, ShardState
from evaluator.store.rows import ShardRow
from tests.faults.conftest import empty
from tests.faults.order import PROTOCOL, assert_all_in_order, end
from tests.faults.site import Site
from tests.servers import Server
from tests.workers import Evaluation, Worker, send

WORKERS = 3
TIMES = int(os.environ.get("CHAOS", "1"))
_LONGER = replace(PROTOCOL.flatness, attack=replace(PROTOCOL.flatness.attack, steps=300))
PROTOCOLS = [replace(PROTOCOL, name=f"chaos-{seed}", seed=seed, flatness=_LONGER) for seed in range(1 + TIMES)]
_ONCE = {
    "kill a measuring process": 2,
    "kill a claiming process": 1,
    "kill a listening process": 1,
    "kill a worker": 1,
    "freeze a worker": 1,
    "empty the broker": 1,
    "kill the broker": 1,
    "send messages twice": 1,
    "kill the database": 1,
    "restart the database": 1,
}
ACTS = Counter({act: TIMES * count for act, count in _ONCE.items()})


class Chaos:
    """What harms a place, and how often it did."""

    def __init__(self, place: Evaluation, database: Server, broker: Server, runs: list[UUID], dice: random.Random):
        self._place, self._database, self._broker, self._runs, self._dice = place, database, broker, runs, dice
        self.workers = {f"worker-{number}": place.start(f"worker-{number}") for number in range(WORKERS)}
        self._frozen: list[tuple[int, ShardRow]] = []

    def do(self, act: str) -> None:
        match act:
            case "kill a measuring process":
                self._place.until(lambda: send(self._victim()[0].measuring, signal.SIGKILL))
            case "kill a claiming process":
                self._place.until(lambda: send(self._victim()[0].claiming, signal.SIGKILL))
            case "kill a listening process":
                self._victim()[0].kill()
            case "kill a worker":
                self._victim()[0].kill_all()
            case "freeze a worker":
                worker, shard = self._victim()
                pid = worker.claiming
                if send(pid, signal.SIGSTOP):
                    self._frozen.append((pid, shard))
            case "empty the broker":
                empty(self._broker)
            case "kill the broker":
                self._broker.kill()
                self._broker.start()
            case "send messages twice":
                for run_id in self._runs * 2:
                    self._place.send_message(run_id)
            case "kill the database":
                self._database.kill()
                self._database.start()
            case "restart the database":
                self._database.stop()
                self._database.start()

    def mend(self) -> None:
        """Do what a supervisor does, start again who has ended, and wake the frozen whom others have replaced."""
        for name, worker in self.workers.items():
            if worker.poll() is not None:
                worker.kill_all()  # whoever is left of it
                self.workers[name] = self._place.start(name)
        for pid, shard in list(self._frozen):
            (now,) = (s for s in self._place.shards(shard.run_id) if s.position == shard.position)
            if (now.attempt, now.state) != (shard.attempt, ShardState.RUNNING):
                send(pid, signal.SIGCONT)
                self._frozen.remove((pid, shard))

    @property
    def calm(self) -> bool:
        return not self._frozen

    def _victim(self) -> tuple[Worker, ShardRow]:
        """Return who is at work, and at what: not at what failed before, so that chance alone fails no run."""
        found: list[tuple[Worker, ShardRow]] = []

        def find() -> bool:
            self.mend()
            by_pid = {worker.claiming: worker for worker in self.workers.values()}
            frozen = [pid for pid, _ in self._frozen]
            for run_id in self._runs:
                for shard in self._place.shards(run_id):
                    pid = int(str(shard.worker).rpartition(":")[2]) if shard.state is ShardState.RUNNING else None
                    if pid is not None and pid in by_pid and pid not in frozen and shard.failures == 0:
                        found.append((by_pid[pid], shard))
            return bool(found)

        self._place.until(find)
        return self._dice.choice(found)


@pytest.mark.slow
def test_chaos_changes_no_number(place: Evaluation, database: Server, broker: Server, dice, capsys):
    started = time.monotonic()
    place.variables["LEASE_SECONDS"] = "6"
    site = Site(place)
    runs = site.submit(*PROTOCOLS)
    acts = list(ACTS.elements())
    dice.shuffle(acts)

    def done() -> int:
        return sum(place.done(run_id) for run_id in runs)

    with ExitStack() as at_the_end:
        sweeping = site.sweeping()
        at_the_end.callback(sweeping.wait)
        at_the_end.callback(sweeping.kill)
        chaos = Chaos(place, database, broker, runs, dice)
        at_the_end.callback(lambda: [worker.kill_all() for worker in chaos.workers.values()])
        for act in acts:
            aim = done() + dice.randint(1, 3)

            def reached(aim: int = aim) -> bool:
                chaos.mend()
                return done() >= aim

            place.until(reached)
            time.sleep(dice.random() / 4)
            chaos.do(act)

        def ended() -> bool:
            chaos.mend()
            return chaos.calm and all(place.store.run(run_id).state.ended for run_id in runs)

        place.until(ended)
        end(*chaos.workers.values())
    states = Counter(place.store.run(run_id).state for run_id in runs)
    shards = [shard for run_id in runs for shard in place.shards(run_id)]
    with capsys.disabled():
        print(
            f"\nchaos: {sum(ACTS.values())} acts ({', '.join(f'{count} × {act}' for act, count in ACTS.items())}); "
            f"{len(shards)} shards by {len({shard.worker for shard in shards})} processes in "
            f"{sum(shard.attempt for shard in shards)} attempts, {sum(shard.failures for shard in shards)} of them "
            f"lost; runs: {', '.join(f'{count} {state}' for state, count in states.items())}; "
            f"{time.monotonic() - started:.0f} s"
        )
    assert len(shards) >= 15 * len(runs)
    # A database that is away for longer than a lease costs each shard at work an attempt. Where a machine is so busy
    # that one shard meets with that and more, its run fails, and says why; all others have the right numbers.
    assert states[RunState.COMPLETE] >= len(runs) - 1
    assert_all_in_order(place)
    site.sweep()
    complete = [run_id for run_id in runs if place.store.run(run_id).state is RunState.COMPLETE]
    assert site.entries() == {run_id: len(place.store.result(run_id).measurements) for run_id in complete}
