"""An image file without an engine: image.py DOCKERFILE FILES OWN OUT NAME:VERSION...

What is in the folder FILES is root's, what is in OWN the image's user's, below /var/lib. What the image says of
itself is read off the stages of the Dockerfile from `image` to `prebuilt`.
"""

import hashlib
import io
import json
import platform
import re
import shlex
import sys
import tarfile
from pathlib import Path

STAGES = ("image", "prebuilt")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def instructions(dockerfile, arguments):
    """(word, rest) of the stages, in which arguments are filled in."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.M).replace("\\\n", " ")
    stage = None
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(None, 1)
        if word == "FROM":
            stage = rest.split(" AS ")[-1]
        elif stage in STAGES and word == "ARG":
            name, _, default = rest.partition("=")
            arguments.setdefault(name, default)
        elif stage in STAGES:
            yield word, re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], rest)


def pairs(rest):
    return dict(pair.split("=", 1) for pair in shlex.split(rest))


def config_of(dockerfile, arguments):
    config = {"Env": [], "Labels": {}, "ExposedPorts": {}, "Volumes": {}}
    for word, rest in instructions(dockerfile, arguments):
        match word:
            case "ENV":
                config["Env"] += [f"{name}={value}" for name, value in pairs(rest).items()]
            case "LABEL":
                config["Labels"] |= pairs(rest)
            case "USER":
                config["User"] = rest
            case "WORKDIR":
                config["WorkingDir"] = rest
            case "EXPOSE":
                config["ExposedPorts"] |= {f"{port}/tcp": {} for port in rest.split()}
            case "VOLUME":
                config["Volumes"][rest] = {}
            case "ENTRYPOINT" | "CMD":
                config[word.capitalize()] = json.loads(rest)
            case "HEALTHCHECK" | "COPY":
                pass  # Of no use to a cluster; and what it would copy is in the folders.
            case _:
                sys.exit(f"nothing here knows of {word} in the Dockerfile")
    return config


def layer(files, own, user):
    """A tar of both folders, the same bytes for the same files."""
    out = io.BytesIO()

    def owned_by(number):
        def plain(entry):
            entry.uid = entry.gid = number
            entry.uname = entry.gname = ""
            entry.mtime = 0
            return entry

        return plain

    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder, below, number in ((files, ".", 0), (own, "./var/lib", user)):
            for path in sorted(Path(folder).rglob("*")):
                name = f"{below}/{path.relative_to(folder)}"
                tar.add(path, name, recursive=False, filter=owned_by(number))
    return out.getvalue()


def main(dockerfile, files, own, out, *tags):
    said = Path(dockerfile).read_text()
    user = int(config_of(said, {})["User"].split(":")[0])
    parts = {"layer.tar": layer(files, own, user)}
    digest = f"sha256:{hashlib.sha256(parts['layer.tar']).hexdigest()}"
    listed = []
    for number, tag in enumerate(tags):
        image = {
            "architecture": MACHINES[platform.machine()],
            "os": "linux",
            "config": config_of(said, {"VERSION": tag.rsplit(":", 1)[-1]}),
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
        parts[f"{number}.json"] = json.dumps(image).encode()
        listed.append({"Config": f"{number}.json", "RepoTags": [tag], "Layers": ["layer.tar"]})
    parts["manifest.json"] = json.dumps(listed).encode()
    with tarfile.open(out, "w") as tar:
        for name, content in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


main(*sys.argv[1:])
