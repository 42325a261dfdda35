"""Compares the index of an Autobahn run with what expected.txt allows. Python 2.7 and 3.

Usage: judge.py INDEX.json EXPECTED.txt. Every case must be OK (or INFORMATIONAL, which the suite does not judge), in what it
did and in how it closed, unless a line `case result reason` of the second file says otherwise.
"""

from __future__ import print_function

import collections
import json
import sys

GOOD = ("OK", "INFORMATIONAL")


def expected(path):
    """Case -> allowed result."""
    lines = [line.split("#")[0].split(None, 2) for line in open(path)]
    return dict((line[0], line[1]) for line in lines if len(line) >= 2)


def main(index_path, expected_path):
    allowed = expected(expected_path)
    cases = list(json.load(open(index_path)).values())[0]
    results, wrong = collections.Counter(), []
    for case, result in cases.items():
        results[result["behavior"]] += 1
        for what in ("behavior", "behaviorClose"):
            if result[what] not in GOOD and not (what == "behavior" and allowed.get(case) == result[what]):
                wrong.append("%s: %s %s" % (case, what, result[what]))
    print("%d cases: %s" % (len(cases), ", ".join("%d %s" % (n, name) for name, n in sorted(results.items()))))
    for line in sorted(wrong):
        print(line)
    return 1 if wrong or not cases else 0


sys.exit(main(*sys.argv[1:]))
