#!/usr/bin/env python3
"""Makes JPEGs of a given size from a picture folder, keeping its class folders: what the loading comparison reads.

    make_jpegs.py SOURCE OUT [--size 128] [--count 4486] [--quality 90]

SOURCE/<class>/* is read in order and, where it holds fewer than --count pictures, again and again under new names. Bicubic
upscaling, Pillow's default 4:2:0 chroma, as most pictures of the web have.
"""

import argparse
import itertools
import pathlib
import sys

from PIL import Image


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", type=pathlib.Path)
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--size", type=int, default=128)
    p.add_argument("--count", type=int, default=4486)
    p.add_argument("--quality", type=int, default=90)
    args = p.parse_args()
    files = sorted(f for f in args.source.glob("*/*") if f.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        sys.exit(f"Error: no pictures in {args.source}/<class>/")
    for i, file in zip(range(args.count), itertools.cycle(files)):
        to = args.out / file.parent.name
        to.mkdir(parents=True, exist_ok=True)
        picture = Image.open(file).convert("RGB").resize((args.size, args.size), Image.BICUBIC)
        picture.save(to / f"{i:06}.jpg", quality=args.quality)
    print(f"{args.count} JPEGs of {args.size} x {args.size} in {args.out}")


if __name__ == "__main__":
    main()
