#!/usr/bin/env python3
"""Simulates how many allocations per second DynamoDB's partitions admit, for the present table and for variants of it.

    scripts/simulate-partitions.py                          # prints the tables
    scripts/simulate-partitions.py --check docs/scaling.md  # fails if the document has other lines

A model, not DynamoDB. A partition admits 1,000 write units per second and keeps unused units for up to 300 seconds
("burst capacity"), which AWS does not guarantee, so classes are shown with and without it. Key ranges that were too hot
for SPLIT_AFTER seconds are split in two, except where all writes have the same or an increasing sort key: there a split
does not help. An index that cannot admit a write makes the table reject it. A rejected write is retried after the
broker's backoff until the broker's time-out. The model is deterministic. The sources are in docs/scaling.md.
"""

import argparse
import dataclasses
import pathlib
import sys

PARTITION = 1000
BURST_SEC = 300
# AWS states that a hot partition is detected after several minutes.
SPLIT_AFTER = 300
TICK = 0.25
TOMBSTONE_PARTITIONS = 4
# ALLOCATE_TIMEOUT_MS.
TIME_LIMIT = 10
# Half of BACKOFF_MAX_MS, the mean of a pause that is uniformly distributed up to it.
BACKOFF = 0.5


@dataclasses.dataclass
class Range:
    """A key range whose writes are distributed evenly over its partitions."""

    name: str
    partitions: int
    units: float  # write units per play
    can_split: bool
    stored: float = 0
    left: float = 0
    hot_for: float = 0

    def tick(self, keeps):
        self.stored = min(self.stored + self.left, self.partitions * PARTITION * BURST_SEC) if keeps else 0
        self.left = self.partitions * PARTITION * TICK

    def room(self):
        return (self.left + self.stored) / self.units

    def write(self, plays):
        units = plays * self.units
        now = min(units, self.left)
        self.left -= now
        self.stored -= units - now

    def record_heat(self, rejected):
        self.hot_for = self.hot_for + TICK if rejected else 0
        if self.can_split and self.hot_for >= SPLIT_AFTER:
            self.partitions *= 2
            self.hot_for = 0


@dataclasses.dataclass
class Design:
    """A table design: the write units per key range, of an allocation or of the whole life of a sandbox."""

    name: str
    partitions: int = 4  # a new on-demand table or index has four
    shards: int = 1  # of the status index's hash key
    index_units: int = 1  # for a write of an item to an index: 1 up to 1 KB
    collide: bool = False  # `available` and `allocated` start in one partition

    def ranges(self, life):
        unit = self.index_units / self.shards
        # A class only allocates. Over its life each sandbox is inserted, allocated, released and cleaned up.
        table, companion, others, status = (7, 6, 3, 2) if life else (2, 2, 1, 1)
        yield Range("table", self.partitions, table, True)
        yield Range("companion", self.partitions, companion, True)
        if life:
            # The insertion checks the tombstone, and the deletion writes it. Ids rise, so a split does not help.
            yield Range("tombstones", TOMBSTONE_PARTITIONS, 4, False)
        # Every play has its own caller and key.
        yield Range("caller index", self.partitions, others * self.index_units, True)
        if self.collide:
            # A split can separate these two.
            yield Range("status: available, allocated", 1, 2 * status * unit, True)
        for name in ["available", "allocated"] + ["pending_deletion"] * life:
            yield Range(f"status: {name}", 1, status * unit, False)


def run(design, life, keeps, arrivals, seconds, count_from=0):
    """Simulates `arrivals(t)` plays per tick. Returns the waits of those that arrive from `count_from` on, how many gave
    up, and the range that rejected most."""
    ranges = list(design.ranges(life))
    for each in ranges:
        each.stored = each.partitions * PARTITION * BURST_SEC if keeps else 0
    waiting, waits, lost, blame = [], [], 0.0, {}
    tick = 0
    while tick * TICK < seconds or waiting:
        t = tick * TICK
        for each in ranges:
            each.tick(keeps)
        if t < seconds:
            waiting.append((tick, tick, arrivals(t)))
        due = [entry for entry in waiting if entry[0] <= tick]
        waiting = [entry for entry in waiting if entry[0] > tick]
        rejected_by = None
        for _, arrived, plays in due:
            tightest = min(ranges, key=Range.room)
            taken = min(plays, tightest.room())
            for each in ranges:
                each.write(taken)
            waited = (tick - arrived) * TICK
            if t >= count_from:
                waits.append((waited, taken))
            if plays - taken > 1e-6:
                rejected_by = tightest
                blame[tightest.name] = blame.get(tightest.name, 0) + plays - taken
                if waited + BACKOFF > TIME_LIMIT:
                    lost += plays - taken
                else:
                    waiting.append((tick + round(BACKOFF / TICK), arrived, plays - taken))
        for each in ranges:
            each.record_heat(each is rejected_by)
        tick += 1
    return waits, lost, max(blame, key=blame.get) if blame else "–"


def quantile(waits, part):
    total, seen = sum(plays for _, plays in waits), 0.0
    for wait, plays in sorted(waits):
        seen += plays
        if seen >= total * part - 1e-6:
            return wait
    return 0.0


def highest_rate(design, life, seconds):
    """Returns the highest rate, in steps of 10, at which no play waits over a second in the last 30 of so many seconds,
    and the range that limits it."""
    low, high, limit = 0, 20_000, "–"
    while low + 10 < high:
        rate = (low + high) // 20 * 10
        waits, _, by = run(design, life, False, lambda _t, rate=rate: rate * TICK, seconds, seconds - 30)
        if all(wait <= 1 for wait, plays in waits if plays > 1e-3):
            low = rate
        else:
            high, limit = rate, by
    return low, limit


AS_IT_IS = Design("as it is, new table")
WARM = Design("as it is, warm throughput 40,000", partitions=40)
DESIGNS = [
    Design("as it is, new table, both statuses in one partition", collide=True),
    AS_IT_IS,
    WARM,
    Design("items over 1 KB, warm", partitions=40, index_units=2),
    Design("`status` in 4 shards, new table", shards=4),
    Design("`status` in 4 shards, warm", shards=4, partitions=40),
    Design("`status` in 16 shards, warm", shards=16, partitions=40),
]


def tables():
    lines = ["| a class in one second | 99 of 100 wait at most | gave up | refused by | with burst capacity |", "|---|---|---|---|---|"]
    for design in (DESIGNS[0], AS_IT_IS, WARM, DESIGNS[5]):
        for students in (1_000, 3_000, 10_000):
            arrivals = lambda t, students=students: students * TICK if t < 1 else 0
            waits, lost, guilty = run(design, False, False, arrivals, 1)
            kept, kept_lost, _ = run(design, False, True, arrivals, 1)
            lines.append(
                f"| {students:,}, {design.name} | {quantile(waits, 0.99):.1f} s | {lost:,.0f} | {guilty} "
                f"| {quantile(kept, 0.99):.1f} s, {kept_lost:,.0f} |"
            )
    lines += ["", "| a second, for long | allocations | plays | plays after splits | then refused by |", "|---|---|---|---|---|"]
    for design in DESIGNS:
        allocations, _ = highest_rate(design, False, SPLIT_AFTER)
        plays, _ = highest_rate(design, True, SPLIT_AFTER)
        later, guilty = highest_rate(design, True, 6 * SPLIT_AFTER)
        lines.append(f"| {design.name} | {allocations:,} | {plays:,} | {later:,} | {guilty} |")
    return lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check")
    options = parser.parse_args()
    lines = tables()
    print("\n".join(lines))
    if options.check:
        text = pathlib.Path(options.check).read_text().splitlines()
        missing = [line for line in lines if line and line not in text]
        print(*(f"not in {options.check}: {line}" for line in missing), sep="\n", file=sys.stderr)
        return 1 if missing else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
