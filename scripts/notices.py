#!/usr/bin/env python3
"""Writes the licences of every crate that a release of `mtcae` has inside, and of its FFmpeg.

    scripts/notices.py FFMPEG-PREFIX > NOTICES.txt
"""

import json
import pathlib
import subprocess
import sys

NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")


def shipped():
    """Packages that the program and the Python package are linked of on this machine, but for
    those of this workspace."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host()]
    meta = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    packages = {p["id"]: p for p in meta["packages"]}
    nodes = {n["id"]: n for n in meta["resolve"]["nodes"]}
    members = set(meta["workspace_members"])
    todo = [i for i in members if packages[i]["name"] in ("mtcae-cli", "mtcae-python")]
    seen = set()
    while todo:
        this = todo.pop()
        if this in seen:
            continue
        seen.add(this)
        for dep in nodes[this]["deps"]:
            if any(kind["kind"] is None for kind in dep["dep_kinds"]):
                todo.append(dep["pkg"])
    return sorted((packages[i] for i in seen - members), key=lambda p: (p["name"], p["version"]))


def host():
    text = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return next(line.split(": ")[1] for line in text.splitlines() if line.startswith("host: "))


def texts(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    files = [f for f in sorted(folder.iterdir()) if f.is_file() and f.name.upper().startswith(NAMES)]
    return [f.read_text(errors="replace").strip() for f in files]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    prefix = pathlib.Path(sys.argv[1])
    rule = "=" * 78
    print("What `mtcae` has inside that others made, and on which terms.\n")
    print(rule)
    print(f"FFmpeg ({(prefix / 'version').read_text().strip()}), LGPL 2.1 or later, unchanged but for what")
    print("`scripts/ffmpeg.sh` of the program's source configures, by which it can be built and")
    print("linked again, also from another version. OpenH264 and dav1d are within it.\n")
    for file in sorted((prefix / "licences").iterdir()):
        print(f"--- {file.name}\n\n{file.read_text(errors='replace').strip()}\n")
    print(rule)
    weights = pathlib.Path(__file__).parents[1] / "crates/mtcae-faces/weights"
    print("\n\n".join((weights / name).read_text().strip() for name in ("NOTICE", "LICENSE")) + "\n")
    alike = {}
    for package in shipped():
        name = f"{package['name']} {package['version']} ({package['license'] or 'see below'})"
        found = texts(package) or [f"{package['license']}; its package holds no text of it. {package['repository'] or ''}"]
        alike.setdefault("\n\n".join(found), []).append(name)
    for text, names in sorted(alike.items(), key=lambda item: item[1]):
        print(rule)
        print("\n".join(names) + "\n\n" + text + "\n")


if __name__ == "__main__":
    main()
