"""Container files: Dockerfile, .dockerignore, compose.yaml, dev container. No Docker is needed."""

import json
import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from mprnet_lit.cli.command_line import chosen_mode, translate
from mprnet_lit.config.groups import CONFIG_DIR, mode_keys

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
PORT = yaml.safe_load((CONFIG_DIR / "serve.yaml").read_text(encoding="utf-8"))["serve"]["port"]


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile in order, without flags such as ``--mount``."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    pairs = (line.split(None, 1) for line in text.splitlines() if line.strip())
    return [(name, re.sub(r"--mount=\S+\s+", "", rest)) for name, rest in pairs]


def arguments(name: str) -> list[str]:
    """Return the arguments of all instructions with a name."""
    return [rest for each, rest in instructions() if each == name]


DEFAULTS = {k: v for k, _, v in (rest.partition("=") for rest in arguments("ARG"))}


def in_context(path: Path) -> bool:
    """Return whether .dockerignore leaves a path of the repository in the build context."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        names = [path.as_posix(), *(parent.as_posix() for parent in path.parents)]
        if line and line[0] != "#" and any(fnmatch(name, pattern) for name in names):
            kept = line.startswith("!")
    return kept


def copied() -> list[str]:
    found = [shlex.split(rest)[:-1] for rest in arguments("COPY") if "--from" not in rest]
    return [source for sources in found for source in sources]


def test_every_copied_file_exists_and_is_in_the_small_context() -> None:
    for source in copied():
        assert (ROOT / source).exists() and in_context(Path(source)), source
    assert not in_context(Path("tests/conftest.py")) and not in_context(Path(".git/config"))
    assert not in_context(Path("src/mprnet_lit/__pycache__/x.pyc"))


def test_image_has_all_files_that_the_wheel_needs() -> None:
    hatch = PROJECT["tool"]["hatch"]
    wheel = hatch["build"]["targets"]["wheel"]
    needed = [PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]]
    needed += [hatch["version"]["path"], *wheel["packages"], *wheel["force-include"]]
    for name in needed:
        assert any(Path(name).is_relative_to(source) for source in copied()), name


def test_torch_has_its_own_step_with_the_pinned_version() -> None:
    steps = [rest for rest in arguments("RUN") if "pip install" in rest]
    assert len(steps) == 2 and all("-c constraints.txt" in step for step in steps)
    assert steps[0].split()[-1] == "torch" and "https://download.pytorch.org/whl/" in steps[0]
    assert DEFAULTS["TORCH"] == "cpu" and "${TORCH}" in steps[0]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert any(pin.startswith("torch==") for pin in pins)
    extras = DEFAULTS["EXTRAS"].split(",")
    assert set(extras) <= PROJECT["project"]["optional-dependencies"].keys()
    assert {"serve", "report"} <= set(extras)


def test_python_version_is_one_that_the_workflows_test() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    assert DEFAULTS["PYTHON"] in workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert all("${PYTHON}" in rest for rest in arguments("FROM"))
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert f":{DEFAULTS['PYTHON']}-" in container["image"]


def test_container_runs_the_command_as_another_user_than_root() -> None:
    (entry,) = json.loads(arguments("ENTRYPOINT")[-1])
    assert entry in PROJECT["project"]["scripts"]
    assert arguments("USER")[-1] not in ("root", "0")
    assert instructions()[-1][0] == "CMD" and arguments("EXPOSE") == [str(PORT)]


def test_compose_file_fits_the_dockerfile_and_the_commands() -> None:
    services = COMPOSE["services"]
    page, train = services["page"], services["train"]
    for service in (page, train):
        assert service["build"]["args"].keys() <= DEFAULTS.keys()
        assert service["cap_drop"] == ["ALL"] and service["init"] is True
    assert page["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
    assert chosen_mode(page["command"]) == "serve" and "shm_size" in train
    assert services["train-gpu"]["extends"]["service"] == "train"
    for service in (page, train):
        words = [*service.get("entrypoint", ["mprnet_lit"])[1:], *service["command"]]
        overrides = translate(words)
        keys = mode_keys(chosen_mode(overrides)) | {"mode"}
        assert {override.partition("=")[0] for override in overrides} <= keys


def test_proxy_forwards_to_the_replicas_and_accepts_the_largest_photo() -> None:
    replica, proxy = (COMPOSE["services"][name] for name in ("replica", "proxy"))
    (volume,) = proxy["volumes"]
    settings = (ROOT / volume.split(":")[0]).read_text(encoding="utf-8")
    assert f"server replica:{PORT};" in settings and "hash $remote_addr consistent;" in settings
    (name,) = re.findall(r"server_name ([\w.]+);", settings)
    assert f"serve.allowed_hosts=[{name}]" in replica["command"]
    (megabytes,) = re.findall(r"client_max_body_size (\d+)m;", settings)
    serve = yaml.safe_load((CONFIG_DIR / "serve.yaml").read_text(encoding="utf-8"))["serve"]
    assert int(megabytes) * 2**20 > serve["max_mb"] * 1e6 + 16384
    assert "proxy_buffering off;" in settings and "proxy_read_timeout 1h;" in settings
    assert mode_keys("serve") >= {each.partition("=")[0] for each in replica["command"][1:]}


def test_docker_commands_of_the_documentation_exist() -> None:
    page = (ROOT / "docs/containers.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^(?:TORCH=cu130 )?docker (.+)$", page, re.MULTILINE)
    assert len(commands) == 8
    for command in commands:
        words = shlex.split(command, comments=True)
        for argument in re.findall(r"--build-arg (\w+)=", command):
            assert argument in DEFAULTS
        names = [word for word in words if word in (*COMPOSE["services"], "mprnet_lit")]
        if words[0] == "build" or not (given := words[words.index(names[0]) + 1 :]):
            continue
        overrides = translate([*(["train"] if "train" in names[0] else []), *given])
        keys = mode_keys(chosen_mode(overrides)) | {"mode"}
        assert {override.partition("=")[0] for override in overrides} <= keys, command


def test_dev_container_installs_with_the_makefile() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert container["updateContentCommand"] == "make .venv/.installed"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "VENV ?= .venv" in makefile and "INSTALLED := $(VENV)/.installed" in makefile
    assert container["remoteUser"] != "root" and container["forwardPorts"] == [PORT]
