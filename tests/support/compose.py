"""docker-compose.yml and the Dockerfiles, read as data."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
APPS: Final = ("api", "notifications", "analytics")
IMAGES: Final = (*APPS, "web")


@cache
def compose() -> Mapping[str, Any]:
    """The compose file, with its merge keys resolved; read once, so leave it as it is."""
    document: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def services() -> Mapping[str, dict[str, Any]]:
    """The services by name."""
    found: Mapping[str, dict[str, Any]] = compose()["services"]
    return found


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)

    @property
    def exec_form(self) -> list[str]:
        """The command as a JSON list. Raises ValueError for the shell form."""
        command: list[str] = json.loads(self.text[self.text.index("[") :])
        return command


def dockerfile(app: str) -> list[Instruction]:
    """The instructions of an app's Dockerfile."""
    lines = (ROOT / "apps" / app / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = text.replace("\\\n", " ").splitlines()
    return [Instruction(*line.split(None, 1)) for line in joined if line.strip()]


def final_stage(app: str) -> list[Instruction]:
    """The instructions of the stage that becomes the image."""
    instructions = dockerfile(app)
    start = max(n for n, each in enumerate(instructions) if each.name == "FROM")
    return instructions[start:]


def is_pinned(image: str) -> bool:
    """A name of the common registry with a version: no host in front, no moving tag."""
    name, _, tag = image.partition(":")
    return "." not in name.split("/", maxsplit=1)[0] and any(letter.isdigit() for letter in tag)
