"""Writes what the licences of the libraries ask for that are linked into the program: each with its
version, its licence, and the notices that stand in its source.

Those are meant that `cargo metadata` reaches by normal dependencies, for this platform.
"""

import json
import pathlib
import re
import subprocess

NOTICES = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)", re.I)


def cargo_metadata():
    host = re.search(r"^host: (.*)$", subprocess.run(
        ["rustc", "-vV"], check=True, capture_output=True, text=True).stdout, re.M)[1]
    return json.loads(subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", host,
         "--features", "package"],
        check=True, capture_output=True, text=True).stdout)


def linked(metadata):
    """The ids of what is linked: not what only builds or tests."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    own = metadata["resolve"]["root"]
    seen, waiting = set(), [own]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            is_normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_normal and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    return seen


def main():
    metadata = cargo_metadata()
    ids = linked(metadata)
    packages = [package for package in metadata["packages"] if package["id"] in ids]
    # Many have the same text: each stands once, below the names of all that have it.
    texts = {}
    for package in sorted(packages, key=lambda package: (package["name"], package["version"])):
        name = f"{package['name']} {package['version']} ({package['license'] or 'see below'})"
        folder = pathlib.Path(package["manifest_path"]).parent
        files = sorted(path for path in folder.iterdir() if path.is_file() and NOTICES.match(path.name))
        # Of "A OR Apache-2.0" the text of Apache-2.0 is known, and no notice of its own.
        files = [path for path in files if "apache" not in path.name.lower()] or files
        authors = ", ".join(re.sub(r" *<.*?>", "", author) for author in package["authors"])
        if not files:
            texts.setdefault(f"Authors: {authors or 'see the source'}", []).append(name)
        for path in files:
            text = path.read_text(encoding="utf-8", errors="replace").strip().replace("\r\n", "\n")
            texts.setdefault(text, []).append(name)
    print("bitsd is linked with these libraries, whose sources cargo fetches by these names.")
    for text, names in texts.items():
        print("\n" + "=" * 80)
        print("\n".join(names) + "\n\n" + text)


main()
