"""``proof/fuzz``: bytes that mean harm, for every parser of what comes from outside.

The one idea: each target (:mod:`.fuzz_targets`) gets a process of its own, in which libFuzzer, by
way of atheris, mutates inputs that reach code not reached before.  A finding is an exception
that the parser does not document, a property that does not hold, an input that takes longer
than ``--input-s``, or one that makes the process grow by more than ``--input-mb``.

atheris is no requirement of the addon: it is installed, once, into a folder of its own in the
cache (``requirements-fuzz.txt``).  Where that fails, hypothesis makes the inputs, without guidance.

What may go wrong: a finding is written to ``--findings`` and can be run again with ``--input``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from proof.lab import ending

HERE = pathlib.Path(__file__).parent
LIBRARY = (
    pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
    / 'tiered-cache'
    / f'fuzz-{sys.version_info.major}.{sys.version_info.minor}'
)

_PROGRESS = re.compile(r'^#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)/', re.MULTILINE)
_HYPOTHESIS = re.compile(r'^#(\d+) hypothesis$', re.MULTILINE)


def main() -> int:
    options = _options()
    engine = _engine(options)
    targets = _load(engine)
    names = options.target or list(targets)
    if options.input:
        targets[names[0]].run(pathlib.Path(options.input).read_bytes())
        print('verdict: nothing wrong with this input')
        return 0
    is_ours = not options.findings
    options.findings = options.findings or tempfile.mkdtemp(prefix='tc-fuzz-findings-')
    pathlib.Path(options.findings).mkdir(parents=True, exist_ok=True)
    seconds = options.minutes * 60 / len(names)
    how_much = f'{options.runs} inputs each' if options.runs else f'{seconds:.0f} s each'
    print(f'seed {options.seed}, {engine}, {len(names)} targets, {how_much}')
    print(
        f'{"target":10} {"inputs":>9} {"per s":>7} {"covered":>8} {"corpus":>7}  result', flush=True
    )
    wrong, total = [], 0
    try:
        for name in names:
            inputs, failed = _run(name, targets[name], engine, seconds, options)
            total += inputs
            wrong += [name] if failed else []
    finally:
        if is_ours and not wrong:
            shutil.rmtree(options.findings)
    print(f'{total} inputs')
    if wrong:
        print(f'findings in {options.findings}')
        print(f'verdict: WRONG: {", ".join(wrong)}')
        return 1
    print('verdict: nothing wrong: no crash, no input over its limit of memory or time')
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='proof/fuzz', description=__doc__.partition('\n')[0])
    parser.add_argument('--seed', type=int, default=1, help='of libFuzzer (1)')
    parser.add_argument('--minutes', type=float, default=10, help='for all targets together (10)')
    parser.add_argument('--runs', type=int, help='inputs for each target, instead of minutes')
    parser.add_argument('--target', action='append', help='only this one; may be repeated')
    parser.add_argument('--input', help='run one file of --findings through one --target')
    parser.add_argument('--findings', help='folder for inputs that are findings')
    parser.add_argument('--input-mb', type=int, default=256, help='memory for one input (256)')
    parser.add_argument('--input-s', type=int, default=5, help='time for one input (5)')
    parser.add_argument('--max-bytes', type=int, default=8192, help='of one input (8192)')
    parser.add_argument('--engine', choices=('atheris', 'hypothesis'), help='instead of the best')
    return parser.parse_args()


def _engine(options) -> str:
    """'atheris', installed if that is possible; else 'hypothesis'."""
    if options.engine:
        return options.engine
    if not (LIBRARY / 'atheris').is_dir():
        install = [sys.executable, '-m', 'pip', 'install', '--quiet', '--target', LIBRARY]
        requirements = ['--only-binary', ':all:', '-r', HERE / 'requirements-fuzz.txt']
        if subprocess.run([*install, *requirements], stdout=sys.stderr).returncode:
            print('atheris cannot be installed; hypothesis does without coverage', file=sys.stderr)
            return 'hypothesis'
    return 'atheris'


def _load(engine: str) -> dict:
    """The targets; with atheris, the code under test tells where it has been."""
    instrumented = contextlib.nullcontext()
    if engine == 'atheris':
        sys.path.insert(0, str(LIBRARY))
        import atheris  # noqa: PLC0415  installed a moment ago

        instrumented = atheris.instrument_imports(include=['services', 'redis._parsers'])
    with instrumented:
        from .fuzz_targets import make_targets  # noqa: PLC0415
    with instrumented:
        return make_targets()


# -- one target --------------------------------------------------------------------------------


def _run(name, target, engine, seconds, options) -> tuple[int, bool]:
    """Fuzz one target in a process of its own; returns how many inputs, and whether it failed."""
    log = pathlib.Path(options.findings, f'{name}.log')
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='tc-fuzz-corpus-') as folder:
        status = _in_a_process(name, target, engine, seconds, options, log, folder)
    took_s = time.monotonic() - started
    output = log.read_text(errors='replace')
    inputs, covered, _features, corpus = _figures(output)
    failed = status or not inputs  # that nothing was tried is no success
    result = f'FOUND, see {log}' if failed else 'ok'
    row = f'{name:10} {inputs:>9} {inputs / took_s:>7.0f} {covered:>8} {corpus:>7}  {result}'
    print(row, flush=True)
    if failed:
        print(output[-4000:], flush=True)
    return inputs, bool(failed)


def _in_a_process(name, target, engine, seconds, options, log, folder) -> int:
    """:return: its status, as of ``waitpid``"""
    pid = os.fork()
    if not pid:
        with open(log, 'wb') as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        search = _with_atheris if engine == 'atheris' else _with_hypothesis
        try:
            search(name, target, seconds, options, folder)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    try:
        _pid, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return status


def _figures(output: str) -> tuple[int, str, str, str]:
    """Inputs, points of the code that were reached, features, and inputs that were kept."""
    progress = _PROGRESS.findall(output)
    if progress:
        runs, *rest = progress[-1]
        return int(runs), *rest
    counted = _HYPOTHESIS.findall(output)
    return int(counted[-1]) if counted else 0, '-', '-', '-'


def _limited(run, input_mb: int):
    """``run``, and a finding if the process has grown by too much.

    A parser that takes all memory there is would report it as bad input; so the process
    itself may have twice as much, and no parser gets as far as that unseen.
    """

    def resident_mb() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def limited(data: bytes) -> None:
        before_mb = resident_mb()
        run(data)
        grown_mb = resident_mb() - before_mb
        if grown_mb > input_mb:
            raise MemoryError(f'one input took {grown_mb:.0f} MB')

    return limited


def _limit_addresses(input_mb: int) -> None:
    with open('/proc/self/statm') as file:
        now_bytes = int(file.read().split()[0]) * resource.getpagesize()
    limit_bytes = now_bytes + 2 * input_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def _with_atheris(name, target, seconds, options, folder) -> None:
    import atheris  # noqa: PLC0415

    corpus = pathlib.Path(folder)
    for number, seed in enumerate(target.seeds):
        (corpus / f'seed-{number}').write_bytes(seed)
    limit = f'-runs={options.runs}' if options.runs else f'-max_total_time={max(1, round(seconds))}'
    arguments = [
        'fuzz',
        f'-seed={options.seed}',
        f'-max_len={options.max_bytes}',
        f'-timeout={options.input_s}',
        f'-rss_limit_mb={4 * options.input_mb}',
        f'-artifact_prefix={options.findings}/{name}-',
        limit,
        str(corpus),
    ]
    _limit_addresses(options.input_mb)
    atheris.Setup(arguments, _limited(target.run, options.input_mb))
    atheris.Fuzz()  # ends the process


def _with_hypothesis(_name, target, seconds, options, _folder) -> None:
    from hypothesis import HealthCheck, given, settings  # noqa: PLC0415
    from hypothesis import seed as seeded  # noqa: PLC0415
    from hypothesis import strategies as st  # noqa: PLC0415

    counted = 0
    until = time.monotonic() + seconds
    run = _limited(target.run, options.input_mb)
    parts = st.binary(max_size=options.max_bytes) | st.sampled_from(target.seeds)

    @seeded(options.seed)
    @settings(
        max_examples=options.runs or 10**9,
        deadline=options.input_s * 1000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(target.seeds), st.integers(0, 9999), parts, st.integers(0, 9999))
    def feed(seed, start, part, stop):
        nonlocal counted
        if not options.runs and time.monotonic() > until:
            raise KeyboardInterrupt
        counted += 1
        run(seed[: start % (len(seed) + 1)] + part + seed[stop % (len(seed) + 1) :])

    _limit_addresses(options.input_mb)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            feed()
    finally:
        print(f'#{counted} hypothesis', flush=True)


if __name__ == '__main__':
    sys.exit(ending.run(main))
