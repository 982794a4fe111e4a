"""Checks what starts Tidegate: `packaging.py ROOT BINARY [COMPOSE]`, where ROOT is the repository and COMPOSE Docker's
own compose command, if there is one.

Of the Dockerfiles, the compose files, the unit of systemd and the job of launchd: each command of Tidegate is one that
BINARY takes, each path is there, each image has a version, each service waits for something that says when it is ready,
each node file is good and finds its variables and its servers, and no password stands in clear. Says each fault in a
line, and ends with 1 if there is one.
"""

import functools
import json
import os
import pathlib
import plistlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

import yaml

root = pathlib.Path(sys.argv[1]).resolve()
binary = str(pathlib.Path(sys.argv[2]).resolve())
compose = shlex.split(sys.argv[3]) if len(sys.argv) > 3 else None
faults = []
counts = {}

VERSION = re.search(r'^version = "(.+)"$', (root / "Cargo.toml").read_text(), re.M)[1]
TOOLCHAIN = re.search(r'^channel = "(.+)"$', (root / "rust-toolchain.toml").read_text(), re.M)[1]
COMPOSE_FILES = ["docker-compose.yml", "examples/s3/docker-compose.yml"]
DOCKERFILES = ["Dockerfile", "examples/compose/ksqldb/Dockerfile"]
# Seconds; what stops a node waits longer.
DRAIN_DEADLINE = 25
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY")
VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_]\w*)(?::-([^}]*))?\})")


def fault(where, what):
    faults.append(f"{where}: {what}")


def count(what):
    counts[what] = counts.get(what, 0) + 1


@functools.cache
def refusal(words):
    """What the binary says against these arguments: it reads all of them before it prints its help."""
    asked = subprocess.run([binary, *words, "--help"], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    if asked.returncode == 0:
        return None
    return asked.stderr.strip().split("\n")[0]


def check_command(where, words):
    count("commands")
    said = refusal(tuple(words))
    if said:
        fault(where, f"`tidegate {' '.join(words)}`: {said}")


def check_image(where, image, versions):
    count("images")
    name, _, tag = image.partition(":")
    if not re.search(r"\d+\.\d+", tag):
        fault(where, f"image {image} has no version")
    elif versions.setdefault(name, tag) != tag:
        fault(where, f"image {image} is {versions[name]} elsewhere")


# Dockerfiles


def instructions(text):
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def check_dockerfile(name, versions):
    folder = (root / name).parent
    stages = {"scratch"}
    entrypoint, image_command, probe = [], [], None
    users = []
    for word, rest in instructions((root / name).read_text()):
        if word == "FROM":
            words = [w for w in rest.split() if not w.startswith("--")]
            if words[0] not in stages:
                check_image(name, words[0], versions)
            if len(words) == 3:
                stages.add(words[2])
        elif word == "COPY":
            words = rest.split()
            source = next((w.removeprefix("--from=") for w in words if w.startswith("--from=")), None)
            if source:
                if source not in stages:
                    fault(name, f"copies from {source}, which is no stage before")
            else:
                for path in [w for w in words if not w.startswith("--")][:-1]:
                    if "$" not in path and not (folder / path).exists():
                        fault(name, f"copies {path}, which is not there")
        elif word == "ENTRYPOINT":
            entrypoint = json.loads(rest)
        elif word == "CMD":
            image_command = json.loads(rest)
        elif word == "HEALTHCHECK":
            probe = json.loads(rest[rest.index("CMD") + 3 :])
        elif word == "USER":
            users.append(rest)
        elif word == "ARG" and rest.startswith("VERSION=") and rest != f"VERSION={VERSION}":
            fault(name, f"{rest}, but Cargo.toml says {VERSION}")
    if name == "Dockerfile":
        if not versions.get("rust", "").startswith(TOOLCHAIN + "-"):
            fault(name, f"rust is {versions.get('rust')}, but rust-toolchain.toml says {TOOLCHAIN}")
        if not users or any(re.match(r"(root|0)\b", user) for user in users):
            fault(name, f"runs as {users or 'root'}")
        if entrypoint != probe[:1]:
            fault(name, f"starts {entrypoint} and asks {probe[:1]} how it is")
        check_command(name, image_command)
        check_command(f"{name}, HEALTHCHECK", probe[1:])
    return probe is not None


# Compose files


def filled_in(value):
    """The value as Compose sees it where no variable is set."""
    if isinstance(value, str):
        return VARIABLE.sub(lambda m: "$" if m[1] else (m[3] or ""), value)
    if isinstance(value, list):
        return [filled_in(item) for item in value]
    if isinstance(value, dict):
        return {key: filled_in(item) for key, item in value.items()}
    return value


def services_of(path, raw=False):
    """The services with what they extend, as far as we use it."""
    text = yaml.safe_load(path.read_text())
    services = {}
    for name, service in text["services"].items():
        base = service.pop("extends", None)
        if base:
            other = path.parent / base["file"]
            inherited = services_of(other, raw=True)[base["service"]]
            inherited["volumes"] = [absolute(volume, other.parent) for volume in inherited.get("volumes", [])]
            targets = {volume.split(":")[1] for volume in service.get("volumes", [])}
            kept = [volume for volume in inherited["volumes"] if volume.split(":")[1] not in targets]
            environment = {**inherited.get("environment", {}), **service.get("environment", {})}
            service = {**inherited, **service, "environment": environment}
            service["volumes"] = kept + [v for v in service["volumes"] if v not in kept]
        services[name] = service
    return services if raw else filled_in(services)


def absolute(volume, folder):
    return f"{folder}/{volume}" if volume.startswith(".") else volume


def words_of(command):
    return shlex.split(command) if isinstance(command, str) else [str(word) for word in command]


def seconds(duration):
    parts = re.findall(r"(\d+)(m|s)", str(duration))
    return sum(int(number) * {"m": 60, "s": 1}[unit] for number, unit in parts)


def host_ports(port):
    """(address, port) for each port of this machine."""
    parts = str(port).split(":")
    address = parts[0] if len(parts) == 3 else None
    first, _, last = parts[-2].partition("-")
    return [(address, number) for number in range(int(first), int(last or first) + 1)]


def ignored(path):
    """Whether Git is told to ignore it: then it is made when the container starts."""
    asked = subprocess.run(["git", "-C", str(root), "check-ignore", "-q", f"{path}/"], capture_output=True)
    return asked.returncode == 0 or f"/{path.relative_to(root)}/" in (root / ".gitignore").read_text().splitlines()


def check_compose(name, versions):
    path = root / name
    text = yaml.safe_load(path.read_text())
    clear, services = services_of(path, raw=True), services_of(path)
    declared, used, taken = set(text.get("volumes") or {}), set(), {}
    for service, what in services.items():
        count("services")
        where = f"{name}, {service}"
        image = what.get("image")
        if not image:
            fault(where, "has no image")
            continue
        ours = image.startswith("tidegate:")
        check_image(where, image, versions)
        if image.startswith("tidegate:") and image != f"tidegate:{VERSION}":
            fault(where, f"image {image}, but Cargo.toml says {VERSION}")
        check_build(where, path.parent, what.get("build"))

        for key, value in clear[service].get("environment", {}).items():
            if SECRET.search(key) and not str(value).startswith("${"):
                fault(where, f"{key} stands in clear: give it a variable, with a default for development")

        for port in what.get("ports", []):
            for address, number in host_ports(port):
                if address != "127.0.0.1":
                    fault(where, f"port {port} is open to others than this machine")
                if taken.setdefault(number, service) != service:
                    fault(where, f"port {number} is {taken[number]}'s")

        for volume in what.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith((".", "/")):
                place = (path.parent / source).resolve()
                if not place.exists() and not ignored(place):
                    fault(where, f"mounts {source}, which is not there")
            else:
                used.add(source)
                if source not in declared:
                    fault(where, f"volume {source} is not declared")

        check_needs(where, what, services)
        if ours:
            check_node(where, what, services, path.parent)
    for volume in declared - used:
        fault(name, f"volume {volume} is nobody's")
    if compose:
        count("`docker compose config`")
        asked = subprocess.run(
            [*compose, "-f", str(path), "--profile", "*", "config", "--quiet"], capture_output=True, text=True
        )
        if asked.returncode or asked.stderr.strip():
            fault(name, f"compose says {asked.stderr.strip() or asked.returncode}")


def check_build(where, folder, build):
    if not build:
        return
    if isinstance(build, str):
        build = {"context": build}
    dockerfile = folder / build["context"] / build.get("dockerfile", "Dockerfile")
    if not dockerfile.exists():
        fault(where, f"is built by {dockerfile}, which is not there")
        return
    stages = re.findall(r"^FROM .* AS (\S+)$", dockerfile.read_text(), re.M)
    if "target" in build and build["target"] not in stages:
        fault(where, f"target {build['target']} is no stage of its Dockerfile")
    for argument in build.get("args", {}):
        if not re.search(rf"^ARG {argument}\b", dockerfile.read_text(), re.M):
            fault(where, f"its Dockerfile knows no {argument}")


def check_needs(where, what, services):
    needs = what.get("depends_on", {})
    if isinstance(needs, list):
        fault(where, "depends_on without conditions")
        return
    for needed, how in needs.items():
        other = services.get(needed)
        condition = how.get("condition")
        if not other:
            fault(where, f"needs {needed}, which is no service")
        elif set(other.get("profiles", [])) - set(what.get("profiles", [])):
            fault(where, f"needs {needed}, whose profile may be off")
        elif condition == "service_healthy":
            check = other.get("healthcheck") or {}
            if not check.get("test"):
                fault(where, f"waits for {needed} to be healthy, which has no check")
        elif condition == "service_completed_successfully":
            if other.get("restart", "no") not in ("no", "on-failure"):
                fault(where, f"waits for {needed} to end, which is always started again")
        else:
            fault(where, f"needs {needed}, with condition {condition}")


def check_node(where, what, services, folder):
    command = words_of(what.get("command", ["run"]))
    check_command(where, command)
    test = (what.get("healthcheck") or {}).get("test")
    if test:
        if test[:2] != ["CMD", "/usr/bin/tidegate"]:
            fault(where, f"its check is {test}, and the image has nothing but the binary")
        else:
            check_command(f"{where}, its check", test[2:])
    if not what.get("read_only") or what.get("cap_drop") != ["ALL"]:
        fault(where, "may write to its root, or has capabilities")
    if "no-new-privileges:true" not in what.get("security_opt", []):
        fault(where, "may get privileges")
    if re.match(r"(root|0)\b", str(what.get("user", ""))):
        fault(where, "runs as root")
    if command[0] == "run":
        if seconds(what.get("stop_grace_period", "10s")) <= DRAIN_DEADLINE:
            fault(where, "is killed before it has drained")
        if "container_name" in what:
            fault(where, "has a name, so that it cannot be scaled")

    # The node file as the container sees it.
    config = what.get("environment", {}).get("TIDEGATE_CONFIG", "/etc/tidegate/tidegate.yaml")
    mounts = {v.split(":")[1]: (folder / v.split(":")[0]).resolve() for v in what.get("volumes", [])}
    config = pathlib.PurePath(config)
    place = next((mounts[to] / config.relative_to(to) for to in mounts if config.is_relative_to(to)), None)
    if not place or not place.exists():
        fault(where, f"{config} is not mounted")
        return
    environment = what.get("environment", {})
    text = place.read_text()
    for variable in re.findall(r"\{env: (\w+)\}", text):
        if variable not in environment:
            fault(where, f"{place.name} wants {variable}, which its environment lacks")
    known = {"PATH": "/usr/bin:/bin", **{k: str(v) for k, v in environment.items()}}
    check = [binary, "config", "check", "--config", str(place)]
    asked = subprocess.run(check, capture_output=True, text=True, env=known)
    if asked.returncode:
        fault(where, f"{place.name}: {(asked.stdout + asked.stderr).strip()}")
    else:
        count("node files")
    uncommented = re.sub(r"^\s*#.*$", "", text, flags=re.M)
    named = [uncommented, *command]
    for host in re.findall(r"(?:bootstrap[:=] ?|//(?:[^@/\s]*@)?)([\w.-]+):\d+", "\n".join(named)):
        if host not in services:
            fault(where, f"{host} is no service")
    written = yaml.safe_load(text)
    if not str(written.get("volume", "")).startswith("/var/lib/tidegate"):
        fault(where, f"{place.name} has its volume where nothing may be written")
    if command[0] == "run" and test:
        port = re.search(r":(\d+)/", test[-1])
        if not port or port[1] != str(written.get("telemetry", {}).get("listen", "")).rpartition(":")[2]:
            fault(where, f"its check asks {test[-1]}, and {place.name} has telemetry at {written.get('telemetry')}")


# What lies beside the first compose file.


def check_beside():
    services = services_of(root / "docker-compose.yml")
    prometheus = yaml.safe_load((root / "examples/compose/prometheus.yaml").read_text())
    for job in prometheus["scrape_configs"]:
        for where in job["dns_sd_configs"]:
            for name in where["names"]:
                if name not in services:
                    fault("examples/compose/prometheus.yaml", f"{name} is no service")
        # The alerts and the dashboard know it by this name.
        if job["job_name"] != "tidegate":
            fault("examples/compose/prometheus.yaml", f"job {job['job_name']}")
    sources = yaml.safe_load((root / "examples/compose/grafana/datasources.yaml").read_text())
    for source in sources["datasources"]:
        host = re.match(r"http://([\w-]+):", source["url"])[1]
        if host not in services:
            fault("examples/compose/grafana/datasources.yaml", f"{host} is no service")
    boards = yaml.safe_load((root / "examples/compose/grafana/dashboards.yaml").read_text())
    mounted = [v.split(":")[1] for v in services["grafana"]["volumes"]]
    for provider in boards["providers"]:
        if provider["options"]["path"] not in mounted:
            fault("examples/compose/grafana/dashboards.yaml", f"{provider['options']['path']} is not mounted")
    # The feeds read what the generator publishes.
    generated = next(w for w in services["generator"]["command"] if w.startswith("--topics="))
    generated = set(generated.removeprefix("--topics=").split(","))
    for feed in sorted((root / "examples/compose/feeds").iterdir()):
        topic = yaml.safe_load(feed.read_text())["topic"]
        if topic not in generated:
            fault(f"examples/compose/feeds/{feed.name}", f"nobody publishes {topic}")
    if shutil.which("promtool"):
        count("Prometheus's configurations")
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / "prometheus.yaml"
            text = (root / "examples/compose/prometheus.yaml").read_text()
            copy.write_text(text.replace("/etc/prometheus/rules", str(root / "dist/prometheus")))
            asked = subprocess.run(["promtool", "check", "config", str(copy)], capture_output=True, text=True)
            if asked.returncode:
                fault("examples/compose/prometheus.yaml", (asked.stdout + asked.stderr).strip())


def check_s3():
    """examples/s3/containers.yaml is its tidegate.yaml, in containers."""
    plain = yaml.safe_load((root / "examples/s3/tidegate.yaml").read_text())
    there = yaml.safe_load((root / "examples/s3/containers.yaml").read_text())
    plain["kafka"]["bootstrap"] = "kafka:19092"
    plain["lake"]["url"] = "/data_lake"
    plain["warehouse"]["url"] = plain["warehouse"]["url"].replace("localhost", "postgres")
    plain["api"]["listen"] = "0.0.0.0:8080"
    plain["telemetry"] = {"listen": "0.0.0.0:9464"}
    plain["volume"] = "/var/lib/tidegate"
    if there != plain:
        fault("examples/s3/containers.yaml", "differs from tidegate.yaml in more than places")


# Services


def check_systemd():
    name = "dist/systemd/tidegate.service"
    text = (root / name).read_text()
    unit = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.M):
        unit.setdefault(key, []).append(value)
    commands = [*unit["ExecStartPre"], *unit["ExecStart"]]
    for line in commands:
        words = shlex.split(line)
        if words[0] != "/usr/bin/tidegate":
            fault(name, f"starts {words[0]}")
        check_command(name, words[1:])
    if seconds(unit["TimeoutStopSec"][0]) <= DRAIN_DEADLINE:
        fault(name, "kills it before it has drained")
    if unit["User"][0] == "root" or unit["ProtectSystem"] != ["strict"]:
        fault(name, "runs as root, or may write anywhere")
    if not re.search(r"^u tidegate ", (root / "dist/systemd/tidegate.sysusers.conf").read_text(), re.M):
        fault("dist/systemd/tidegate.sysusers.conf", "makes no user tidegate")
    if shutil.which("systemd-analyze"):
        count("units that systemd takes")
        with tempfile.TemporaryDirectory() as folder:
            # It wants the program to be there.
            copy = pathlib.Path(folder) / "tidegate.service"
            copy.write_text(text.replace("/usr/bin/tidegate", binary))
            asked = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True)
            said = [line for line in asked.stderr.splitlines() if "tidegate" in line]
            if asked.returncode or said:
                fault(name, " ".join(said) or asked.stderr.strip())


def check_launchd():
    name = "dist/launchd/tidegate.node.plist"
    job = plistlib.loads((root / name).read_bytes())
    if job["Label"] + ".plist" != pathlib.Path(name).name:
        fault(name, f"is called {job['Label']}")
    check_command(name, job["ProgramArguments"][1:])
    if job["ExitTimeOut"] <= DRAIN_DEADLINE:
        fault(name, "kills it before it has drained")
    if job.get("UserName", "root") == "root":
        fault(name, "runs as root")


images = {}
for dockerfile in DOCKERFILES:
    check_dockerfile(dockerfile, images)
for file in COMPOSE_FILES:
    check_compose(file, images)
check_beside()
check_s3()
check_systemd()
check_launchd()
for line in faults:
    print(line)
print(", ".join(f"{number} {what}" for what, number in sorted(counts.items())) + f": {len(faults)} faults")
sys.exit(1 if faults else 0)
