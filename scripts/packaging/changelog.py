"""Writes a changelog as Debian has it, from CHANGELOG.md: the newest section, which is the one of
this version or has none yet, and those that are dated below it.

    changelog.py CHANGELOG.md VERSION

SOURCE_DATE_EPOCH is the time of a section without a date.
"""

import datetime
import os
import re
import sys
import textwrap

MAINTAINER = "The bitsd maintainers <maintainers@bitsd.example>"


def bullets(text):
    """The points of a section, each on one line."""
    points = []
    for line in text.splitlines():
        if line.startswith("- "):
            points.append(line[2:].strip())
        elif line.startswith("  ") and points:
            points[-1] += " " + line.strip()
    return [point.replace("`", "").replace("**", "") for point in points]


def main(path, version):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    sections = re.split(r"^## ", text, flags=re.M)[1:]
    entries = []
    for section in sections:
        heading, _, body = section.partition("\n")
        points = bullets(body)
        if not points:
            continue
        dated = re.fullmatch(r"\[?([0-9][^] ]*)\]? \(?([0-9]{4}-[0-9]{2}-[0-9]{2})\)?", heading.strip())
        if dated:
            day = datetime.datetime.fromisoformat(dated[2])
            own = dated[1] + "-1"
        else:
            day = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
            own = version
        entries.append((own, day, points))
    # What has come since the newest version, if that is the one that is packed again.
    if len(entries) > 1 and entries[0][0] == entries[1][0]:
        entries[:2] = [(version, entries[0][1], entries[0][2] + entries[1][2])]
    # The package at hand comes first, whatever its version is called.
    entries[0] = (version, *entries[0][1:])
    for own, day, points in entries:
        print(f"bitsd ({own}) unstable; urgency=medium\n")
        for point in points:
            print(textwrap.fill(point, 78, initial_indent="  * ", subsequent_indent="    ",
                                break_on_hyphens=False))
        print(f"\n -- {MAINTAINER}  {day:%a, %d %b %Y %H:%M:%S} +0000\n")


main(*sys.argv[1:])
