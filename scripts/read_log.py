"""Judge the log of an Odoo that has run tests.

Says on standard error what failed, and what was logged that must not be; prints
"PASSED FAILED SKIPPED" on standard output. With a baseline, the log of the same tests without the
addon, only what the baseline does not show counts: Odoo's own tests need not all pass here.
"""

import argparse
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

RECORD = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \d+ "
    r"(?P<level>[A-Z]+) \S+ (?P<logger>[\w.]+): (?P<text>.*)"
)
STARTED = re.compile(r"Starting (\S+) \.\.\.")
SKIPPED = re.compile(r"skipped (.+?) : (.*)")
FAILED = re.compile(r"(?:FAIL|ERROR): (?:Subtest )?(setUpClass.*|tearDownClass.*|\S+)")
TOTAL = re.compile(r"\d+ failed, \d+ error\(s\) of \d+ tests when loading database")
# What Odoo says a second time, at level ERROR, after the failures themselves.
CONSEQUENCE = re.compile(
    r"odoo\.(tests\.result: \d+ failed, "
    r"|modules\.loading: (Module \S+: \d+ failures|At least one test failed))"
)
SHOWN_LINES = 24
# What timeout(1) returns, and what it returns when it had to kill.
TIMED_OUT = (124, 137)


@dataclass
class Record:
    level: str
    logger: str
    lines: list[str]

    def __str__(self):
        return f"{self.logger}: {self.lines[0].strip()}"

    @property
    def key(self):
        """The same for two runs: without ports, ids, times and addresses."""
        return self.level, re.sub(r"0x[0-9a-f]+|\d+", "#", str(self))

    @property
    def all_lines(self):
        return [f"{self.level} {self}", *self.lines[1:]]


def show(lines):
    """The beginning says what it is and the end of a traceback says why."""
    if len(lines) > SHOWN_LINES:
        lines = [lines[0], "...", *lines[-SHOWN_LINES:]]
    if text := "\n".join(f"    {line.rstrip()}" for line in lines).rstrip():
        print(text, file=sys.stderr)


def read_records(lines):
    records = []
    for line in lines:
        if match := RECORD.match(line):
            records.append(Record(match["level"], match["logger"], [match["text"]]))
        elif records:
            records[-1].lines.append(line)
    return records


@dataclass
class Run:
    """What one log says: test names, and the records that must not be there."""

    started: dict = field(default_factory=dict)  # in order; the values say nothing
    skipped: dict = field(default_factory=dict)
    failed: dict = field(default_factory=dict)
    unexpected: list = field(default_factory=list)
    ended: bool = False
    last_lines: list = field(default_factory=list)

    @property
    def passed(self):
        unfinished = [] if self.ended else list(self.started)[-1:]
        return self.started.keys() - self.skipped.keys() - self.failed.keys() - set(unfinished)

    def add(self, record, allowed):
        text = record.lines[0]
        if record.level == "INFO" and (match := STARTED.match(text)):
            self.started[f"{record.logger}.{match[1]}"] = True
        elif record.level == "INFO" and (match := SKIPPED.match(text)):
            self.skipped[f"{record.logger}.{match[1]}"] = match[2].strip()
        elif record.level == "ERROR" and (match := FAILED.match(text)):
            self.failed.setdefault(f"{record.logger}.{match[1].strip()}", record)
        elif TOTAL.search(text):
            self.ended = True
        elif record.level in ("ERROR", "CRITICAL"):
            if not CONSEQUENCE.match(str(record)):
                self.unexpected.append(record)
        elif record.level == "WARNING" and not any(
            pattern.search("\n".join([str(record), *record.lines[1:]])) for pattern in allowed
        ):
            self.unexpected.append(record)


def read_run(path, allowed):
    lines = path.read_text(errors="replace").splitlines()
    run = Run(last_lines=lines[-SHOWN_LINES:])
    for record in read_records(lines):
        run.add(record, allowed)
    return run


def read_allowed(path):
    lines = path.read_text().splitlines()
    return [re.compile(line) for line in lines if line.strip() and not line.startswith("#")]


def test_problems(run, baseline):
    """Yield (what failed, the lines that show it)."""
    for name in sorted(run.failed.keys() - baseline.failed.keys()):
        yield name, run.failed[name].all_lines
    for name in sorted(baseline.passed - run.started.keys()):
        yield f"{name}: was not run, but is without the addon", []
    known = {record.key for record in baseline.unexpected}
    times = Counter(record.key for record in run.unexpected)
    for key, record in {record.key: record for record in run.unexpected}.items():
        if key not in known:
            yield f"in the log, times seen: {times[key]}", record.all_lines


def end_problems(run, exit_code):
    last = next(reversed(run.started), "no test at all")
    if exit_code in TIMED_OUT:
        yield f"Odoo hung or was too slow, in {last}; the log ends with its threads' stacks", []
    elif not run.ended:
        yield f"Odoo ended, exit code {exit_code}, in {last}; its last words:", run.last_lines
    elif exit_code and not run.failed and not run.unexpected:
        yield f"Odoo ended with exit code {exit_code}", run.last_lines
    elif not run.passed and not run.failed:
        yield "no test ran", []


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--exit-code", type=int, default=0, help="what Odoo's process returned")
    parser.add_argument("--allowed", type=Path, required=True, help="file of expected warnings")
    parser.add_argument("--baseline", type=Path, help="log of the same tests without the addon")
    options = parser.parse_args()

    allowed = read_allowed(options.allowed)
    run = read_run(options.log, allowed)
    baseline = read_run(options.baseline, allowed) if options.baseline else Run()
    problems = [*test_problems(run, baseline), *end_problems(run, options.exit_code)]
    for what, lines in problems:
        print(f"  FAILED {what}", file=sys.stderr)
        show(lines)
    for name in sorted(run.failed.keys() & baseline.failed.keys()):
        print(f"  fails without the addon too: {name}", file=sys.stderr)
    for name, reason in sorted(run.skipped.items()):
        print(f"  skipped {name}: {reason}", file=sys.stderr)
    print(len(run.passed), len(problems), len(run.skipped))


if __name__ == "__main__":
    main()
