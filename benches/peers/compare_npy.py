#!/usr/bin/env python3
"""Compares the same-named .npy files of two folders.

Per file: the largest absolute difference, and that over the largest magnitude in B (the reference). Exits 1 if any of
these relative differences is above --tolerance, if shapes differ, if a name is in one folder only (but see --common),
or if either holds a NaN or infinity (but see --same-nan).
"""

import argparse
import pathlib
import sys

import numpy as np


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("a", type=pathlib.Path, metavar="A")
    p.add_argument("b", type=pathlib.Path, metavar="B", help="the reference")
    p.add_argument("--tolerance", type=float, default=2e-5, help="relative to absmax of B (default 2e-5)")
    p.add_argument("--common", action="store_true", help="compare the names both have, ignore the others")
    p.add_argument("--same-nan", action="store_true", help="accept non-finite values that stand at the same places")
    args = p.parse_args()

    names_a, names_b = ({f.name for f in d.glob("*.npy")} for d in (args.a, args.b))
    failures = 0
    if not args.common:
        for name in sorted(names_a ^ names_b):
            print(f"FAIL  {name}: only in {args.a if name in names_a else args.b}")
            failures += 1
    common = sorted(names_a & names_b)
    if not common:
        sys.exit(f"Error: {args.a} and {args.b} have no .npy name in common")
    width = max(map(len, common))
    print(f"      {'file':<{width}}  {'max |a-b|':>10}  {'/ absmax':>10}  {'absmax b':>10}")
    worst = 0.0
    for name in common:
        absolute, relative, absmax, trouble = compare(np.load(args.a / name), np.load(args.b / name), args.same_nan)
        worst = max(worst, relative)
        bad = trouble or not relative <= args.tolerance
        failures += bool(bad)
        print(f"{'FAIL' if bad else 'ok':<4}  {name:<{width}}  {absolute:10.3e}  {relative:10.3e}  {absmax:10.3e}  {trouble}".rstrip())
    print(f"{len(common)} compared, {failures} failed, worst relative difference {worst:.3e}, tolerance {args.tolerance:g}")
    sys.exit(1 if failures else 0)


def compare(a, b, same_nan):
    inf = float("inf")
    if a.shape != b.shape:
        return inf, inf, inf, f"shapes {a.shape} and {b.shape}"
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    trouble = ""
    if not finite.all():
        alike = np.array_equal(a[~finite], b[~finite], equal_nan=True)
        if not (alike and same_nan):
            trouble = f"{int((~finite).sum())} non-finite values" + (", alike in both" if alike else "")
    difference = np.abs(a - b)[finite]
    absolute = float(difference.max(initial=0.0))
    absmax = float(np.abs(b[finite]).max(initial=0.0))
    relative = absolute / absmax if absmax > 0 else (0.0 if absolute == 0 else inf)
    return absolute, relative, absmax, trouble


if __name__ == "__main__":
    main()
