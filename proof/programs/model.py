"""The model-based test, long: random operations over real connections and processes.

The one idea: :mod:`.model_walk` draws operations, :mod:`.model_machine` carries them out, and every
answer of the cache is compared with what the same transaction computes with the cache off.  Every
few hundred operations everything is put back to the beginning, so that the script of a failure is
short enough to be replayed.

The short form, with hypothesis, is ``tests/test_model.py``.
"""

import argparse
import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path

from bench import databases
from bench.common import ServerFailed
from proof.lab import ending

from . import model_machine, model_plants, model_scripts, model_walk

EPISODE = 400
"""Operations between two resets."""

FOCUS = 60
"""Operations for which the same pages and users are read."""

PROGRESS_S = 30
MINIMISE = 60


def main():
    options = _options()
    print(f'seed {options.seed}', flush=True)
    if options.plant:
        return model_plants.run(options.plant, options.minutes, options.seed)
    with _database(options.database) as database, _machine(database, options) as machine:
        if options.replay:
            return _replay(machine, options.replay)
        if options.scripts:
            return _scripts(machine)
        return Walk(machine, options).run()


def _options():
    parser = argparse.ArgumentParser(prog='proof/model', description=__doc__.partition('\n')[0])
    parser.add_argument('--seed', type=int, default=1, help="of the random operations (1)")
    parser.add_argument('--hits', type=int, help="stop after so many checked hits")
    parser.add_argument('--minutes', type=float, help="stop after so many minutes (2)")
    parser.add_argument('--workers', type=int, default=2, help="worker processes, at least 2 (2)")
    parser.add_argument(
        '--scripts', action='store_true', help="run the scripts written by hand instead"
    )
    parser.add_argument(
        '--reads',
        type=int,
        default=model_walk.MANY_READS,
        help="weight of reads among the operations; the others weigh 58 together (150)",
    )
    parser.add_argument('--replay', metavar='FILE', help="run the operations of a file instead")
    parser.add_argument(
        '--plant',
        nargs='+',
        metavar='NAME',
        help="walk over copies with a planted fault of proof/mutants each, to see that it is "
        "found within so many minutes; 'all' for a choice of them",
    )
    parser.add_argument(
        '--database', help="one with the addon installed, kept (a new one, dropped)"
    )
    parser.add_argument('--script', default=None, help="where a failing script is written to")
    parser.add_argument(
        '--told',
        action='store_true',
        help="background work only when an operation says so, as in the tests",
    )
    parser.add_argument(
        '--minimise', type=int, default=MINIMISE, help="replays that a failure is worth (60)"
    )
    options = parser.parse_args()
    if options.workers < 2:
        parser.error("some operations need a second worker")
    if options.hits is None and options.minutes is None:
        options.minutes = 2.0
    if options.script is None:
        options.script = str(Path(tempfile.gettempdir()) / f'model-{options.seed}.script')
    return options


@contextlib.contextmanager
def _database(name):
    """The database to work on."""
    if name:
        yield name
        return
    name = f'tiered_cache_model_{time.time_ns() // 1_000_000}'
    print(f'installing the addon in a new database, {name}', flush=True)
    try:
        databases.install(name, 'tiered_cache')
        yield name
    finally:
        databases.drop(name)


def _machine(database, options):
    background = not (options.told or options.replay or options.scripts)
    return model_machine.Machine(database, options.workers, background)


def _replay(machine, path):
    script = model_machine.load(path)
    try:
        machine.run(script)
    except model_machine.Wrong as error:
        print(error)
        print(f'verdict: WRONG: operation {len(machine.script)} of {len(script)} fails')
        return 1
    print(machine.figures())
    print(f'verdict: nothing wrong in {len(script)} operations')
    return 0


def _scripts(machine):
    """The scripts written by hand."""
    wrong = []
    for name, script in model_scripts.SCRIPTS.items():
        try:
            machine.run(script)
        except model_machine.Wrong as error:
            wrong.append(name)
            print(f'{name}\n{error}', flush=True)
    print(machine.figures())
    if wrong:
        print(f"verdict: WRONG: {len(wrong)} scripts fail: {'; '.join(wrong)}")
        return 1
    print(f'verdict: nothing wrong in {len(model_scripts.SCRIPTS)} scripts')
    return 0


class Walk:
    """One long run.

    :param machine: :class:`.model_machine.Machine`
    :param options: of the command line
    """

    def __init__(self, machine, options):
        self.machine = machine
        self.options = options
        self.random = random.Random(options.seed)
        self.kinds = model_walk.kinds(options.reads)
        self.started = self.told = time.monotonic()
        machine.counts.clear()  # what it read to get going

    def run(self):
        """:return int: exit code"""
        try:
            while not self._is_enough():
                self._episode()
            print(f'at the end: {self.machine.stats()}')
            print(f"reads whose answer never changed: {'; '.join(self.machine.constant) or 'none'}")
        except KeyboardInterrupt:
            print('interrupted')
        except (ServerFailed, OSError) as error:
            self._say()
            print(
                f'{error}\nverdict: WRONG: a worker failed after {self.machine.hits:,} checked hits'
            )
            return 1
        except model_machine.Wrong as error:
            return self._failed(error)
        self._say()
        if not self.machine.hits:
            print('verdict: WRONG: the cache answered nothing, so nothing was checked')
            return 1
        print(f'verdict: nothing wrong in {self.machine.hits:,} checked hits')
        return 0

    def _is_enough(self):
        minutes = (time.monotonic() - self.started) / 60
        return (self.options.minutes is not None and minutes >= self.options.minutes) or (
            self.options.hits is not None and self.machine.hits >= self.options.hits
        )

    def _episode(self):
        machine, choose = self.machine, self.random.choice
        machine.reset()
        for number in range(EPISODE):
            if number % FOCUS == 0:
                focus = model_walk.Focus(choose)
            kind = choose(self.kinds)
            if kind == 'read':
                machine.apply(model_walk.reads_together(choose, focus, machine.count))
            else:
                machine.apply(model_walk.operation(choose, kind, focus, machine.count))
            if time.monotonic() - self.told > PROGRESS_S:
                self._say()
                if self._is_enough():
                    return

    def _say(self):
        self.told = time.monotonic()
        seconds = self.told - self.started
        rate = self.machine.hits / seconds
        print(f'{seconds:.0f} s, {rate:.0f} hits/s: {self.machine.figures()}', flush=True)

    def _failed(self, error):
        self._say()
        hits = self.machine.hits
        path = Path(self.options.script)
        path.write_text(model_machine.lines(error.script))
        print(f'a difference; the script of {len(error.script)} operations is made shorter')
        last = [error]

        def fails(script):
            try:
                self.machine.run(script)
            except model_machine.Wrong as again:
                last[0] = again
                path.write_text(model_machine.lines(again.script))
                return True
            return False

        with contextlib.suppress(KeyboardInterrupt):
            if not self.options.minimise:
                pass
            elif not fails(error.script):
                print('it does not fail again when replayed: it depends on when things happen')
            else:
                model_walk.minimise(last[0].script, fails, self.options.minimise)
        print(last[0])
        print(f'replay: proof/model --replay {path}')
        print(f'verdict: WRONG: a difference after {hits:,} checked hits')
        return 1


if __name__ == '__main__':
    sys.exit(ending.run(main))
