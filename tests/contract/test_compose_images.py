"""The Dockerfiles, the locks they install and the wheel they build."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from tests.support.compose import APPS, IMAGES, ROOT, dockerfile, final_stage, is_pinned

OUR_PACKAGES = {f"shopstream_{name}" for name in (*APPS, "shared", "stack")}
BUILD_SECONDS = 120


@pytest.mark.parametrize("app", IMAGES)
def test_every_base_image_is_pinned(app: str) -> None:
    for instruction in dockerfile(app):
        if instruction.name == "FROM":
            assert is_pinned(instruction.words[0]), instruction.text


@pytest.mark.parametrize("app", IMAGES)
def test_the_image_does_not_run_as_root(app: str) -> None:
    users = [each.text for each in final_stage(app) if each.name == "USER"]

    assert users
    assert not users[-1].startswith(("0", "root"))


@pytest.mark.parametrize("app", IMAGES)
def test_the_image_runs_its_program_itself_so_that_signals_reach_it(app: str) -> None:
    (entry,) = [each for each in final_stage(app) if each.name == "ENTRYPOINT"]
    (stop,) = [each.text for each in final_stage(app) if each.name == "STOPSIGNAL"]

    assert entry.exec_form
    assert stop == ("SIGQUIT" if app == "web" else "SIGTERM")


@pytest.mark.parametrize("app", IMAGES)
def test_the_image_has_a_health_check_without_a_shell(app: str) -> None:
    (check,) = [each for each in final_stage(app) if each.name == "HEALTHCHECK"]

    assert check.exec_form


@pytest.mark.parametrize("app", IMAGES)
def test_what_the_image_copies_exists_and_is_sent_to_the_builder(app: str) -> None:
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for each in dockerfile(app):
        if each.name != "COPY" or each.words[0].startswith("--from"):
            continue
        for source in each.words[:-1]:
            assert (ROOT / source).exists(), source
            parents = {source, *(str(parent) for parent in Path(source).parents)}
            assert parents & allowed, f"{source} is left out by .dockerignore"


@pytest.mark.parametrize("app", APPS)
def test_the_image_installs_its_own_locked_requirements_only(app: str) -> None:
    runs = " ".join(each.text for each in dockerfile(app) if each.name == "RUN")

    assert f"--require-hashes -r requirements/{app}.lock" in runs
    installs = re.findall(r"pip install [^&]+", runs)
    assert all("--require-hashes" in each or "--no-index" in each for each in installs)


@pytest.mark.parametrize("app", APPS)
def test_the_images_program_is_an_entry_point_of_the_project(app: str) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (entry,) = [each for each in final_stage(app) if each.name == "ENTRYPOINT"]

    assert entry.exec_form[0] in scripts


def locked(name: str) -> dict[str, frozenset[str]]:
    """Requirement → hashes of a lock; markers aside, which depend on who else is in it."""
    found: dict[str, set[str]] = {}
    current = ""
    for line in (ROOT / name).read_text().splitlines():
        if line[:1].isalnum():
            current = line.removesuffix(" \\").split(" ;")[0].strip()
            found[current] = set()
        elif "--hash=" in line:
            found[current].add(line.strip().removesuffix(" \\"))
    return {requirement: frozenset(hashes) for requirement, hashes in found.items()}


@pytest.mark.parametrize("name", [*APPS, "build"])
def test_an_images_lock_is_part_of_the_projects_lock(name: str) -> None:
    """So that an image runs the versions that the tests ran. `make lock` writes both."""
    whole = locked("requirements.lock")

    for requirement, hashes in locked(f"requirements/{name}.lock").items():
        assert whole[requirement] == hashes, requirement


def imported(path: Path) -> Iterator[str]:
    """The full names that a module imports when it runs."""
    tree = ast.parse(path.read_text())
    for typing_only in [node for node in ast.walk(tree) if _is_typing_only(node)]:
        assert isinstance(typing_only, ast.If)
        typing_only.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            # What is imported from a package may be a module of it.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reached(app: str) -> set[str]:
    """What the app imports, and what the shared modules that it so reaches import in turn.

    Not all of shared: a part of it may need a library that only some images hold.
    """
    shared = ROOT / "packages" / "shared" / "src"
    waiting = [*(ROOT / "apps" / app / "src").rglob("*.py")]
    seen: set[Path] = set()
    names: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        found = set(imported(path))
        names |= found
        for name in found:
            if name.partition(".")[0] == "shopstream_shared":
                part = shared.joinpath(*name.split("."))
                waiting += [part.with_suffix(".py"), part / "__init__.py"]
    return names


def _is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


@pytest.mark.parametrize("app", APPS)
def test_an_image_holds_everything_that_its_code_imports(app: str) -> None:
    """Here all extras share one environment, so a missing one would show in the image only."""
    names = {canonicalize_name(each.split("==")[0]) for each in locked(f"requirements/{app}.lock")}
    distributions = packages_distributions()
    needed = {name.partition(".")[0] for name in reached(app)}
    assert "shopstream_shared" in needed

    for name in needed - OUR_PACKAGES - sys.stdlib_module_names:
        assert {canonicalize_name(each) for each in distributions[name]} & names, name


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as the images have it: its wheel, installed apart from this checkout."""
    work = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(work)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=BUILD_SECONDS)
    (wheel,) = work.glob("*.whl")
    target = work / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*install, "--target", str(target), str(wheel)], check=True, timeout=BUILD_SECONDS
    )
    return target


def run_installed(installed: Path, *command: str, **variables: str) -> tuple[int, str, str]:
    """Run in the installed project; anything of the checkout would come second on the path."""
    done = subprocess.run(
        [sys.executable, *command],
        env={"PATH": os.defpath, "PYTHONPATH": str(installed), **variables},
        cwd=installed.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_wheel_holds_what_the_code_reads_from_beside_it(installed: Path) -> None:
    code = """
from importlib import resources
import shopstream_shared
from shopstream_shared.events.registry import EVENT_TYPES
from shopstream_shared.events.schemas import load_schema
from shopstream_shared.topics import ALL_TOPICS, load_topics
assert set(load_topics("production")) == set(ALL_TOPICS)
assert (resources.files("shopstream_shared") / "topics.toml").is_file()
assert all(load_schema(kind) for kind in EVENT_TYPES.values())
print(shopstream_shared.__file__)
"""
    status, out, err = run_installed(installed, "-c", code)

    assert (status, err) == (0, "")
    assert out.startswith(str(installed))


def test_the_wheel_holds_every_file_of_the_packages(installed: Path) -> None:
    """Migrations, templates, markers: whatever lies below the packages."""
    sources = [*ROOT.glob("apps/*/src/shopstream_*"), *ROOT.glob("packages/*/src/shopstream_*")]
    files = {
        path.relative_to(source.parent)
        for source in sources
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert {source.name for source in sources} == OUR_PACKAGES
    assert [str(path) for path in files if not (installed / path).is_file()] == []


@pytest.mark.parametrize("app", APPS)
def test_the_program_of_the_image_starts_and_names_a_wrong_variable(
    installed: Path, app: str
) -> None:
    variable = "HEALTH_PORT" if app == "analytics" else "PORT"
    script = str(installed / "bin" / f"shopstream-{app}")

    code, out, err = run_installed(installed, script, **{variable: "many"})

    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert f"{variable}: " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "variable"),
    [("shopstream_shared.topic_admin", "KAFKA_BROKERS"), ("shopstream_analytics.archive", "PORT")],
)
def test_the_one_shot_commands_of_compose_exist(
    installed: Path, module: str, variable: str
) -> None:
    code, _, err = run_installed(installed, "-m", module, **{variable: "nowhere"})

    assert code == 2
    assert err.startswith("error: ")


def test_the_health_probe_says_what_is_wrong(installed: Path) -> None:
    code, _, err = run_installed(
        installed, "-m", "shopstream_shared.health_probe", "PORT", "1", PORT="2"
    )

    assert code == 1
    assert err.startswith("no answer on port 2")


def test_the_wheel_holds_nothing_but_the_packages(installed: Path) -> None:
    tops = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}

    assert tops - {"bin"} == OUR_PACKAGES
