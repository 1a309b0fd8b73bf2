"""Launch lines of docs/launch: what they start, with stand-ins for the engines and the program."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from absl import flags

from imitation_refinement import cli
from imitation_refinement.runtime.shard import Shard, parse_shard

LAUNCH = Path(__file__).parents[2] / "docs" / "launch"
PROGRAM = """#!/bin/bash
printf '%q ' "$@" >>"$LOG"; echo >>"$LOG"
exit ${STATUS:-0}
"""
# Runs the tasks of an array one after the other, and what is wrapped, as Slurm would.
SBATCH = """#!/bin/bash
wrap= script=
while [ $# -gt 0 ]; do
  case "$1" in
    --wrap=*) wrap=${1#--wrap=};;
    --dependency=*) echo "$1" >>"$LOG.dependency";;
    --*) ;;
    *) script=$1; shift; break;;
  esac
  shift
done
if [ -n "$wrap" ]; then bash -c "$wrap"; exit; fi
last=$(sed -n 's/^#SBATCH --array=0-//p' "$script")
for task in $(seq 0 "$last"); do
  SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=$((last + 1)) bash "$script" "$@" >&2
  echo $? >>"$LOG.status"
done
echo "123;cluster"
"""


@pytest.fixture
def engines(tmp_path, monkeypatch) -> Path:
    """Stand-ins before everything else on the path; the program's log."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("imitation-refinement", PROGRAM), ("sbatch", SBATCH)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def run(script: str, *words: str) -> None:
    subprocess.run(["bash", str(LAUNCH / script), *words], check=True, timeout=60)


def started(log: Path) -> list[list[str]]:
    return [shlex.split(line) for line in log.read_text().splitlines()]


def assert_every_shard_and_a_merge(
    calls: list[list[str]], count: int, source: str, out: str, mode: str = "refine"
):
    *shards, merge = calls
    found = set()
    for words in shards:
        assert words[:3] == [f"--mode={mode}", f"--input={source}", f"--output={out}"]
        assert words[4:] == ["--wavelength=CuKa"]
        found.add(parse_shard(words[3].removeprefix("--shard=")))
    assert found == {Shard(number, count) for number in range(count)} and len(shards) == count
    assert merge == [f"--mode={mode}", "--merge", f"--output={out}"]


@pytest.mark.parametrize("script", sorted(path.name for path in LAUNCH.glob("*.sh")))
def test_scripts_are_bash(script):
    subprocess.run(["bash", "-n", str(LAUNCH / script)], check=True)


@pytest.mark.parametrize("status", [0, 3, 1])
def test_a_slurm_array_does_every_shard_once_and_merges(engines, tmp_path, monkeypatch, status):
    monkeypatch.setenv("STATUS", str(status))
    source, out = str(tmp_path / "my scans" / "*.xy"), str(tmp_path / "out put")
    words = ["bash", str(LAUNCH / "submit.sh"), source, out, "--wavelength=CuKa"]
    subprocess.run(words, timeout=60)
    assert_every_shard_and_a_merge(started(engines), 100, source, out)
    # What could not be used is no reason to call a task failed; anything else is.
    statuses = set(Path(f"{engines}.status").read_text().split())
    assert statuses == {"0" if status == 3 else str(status)}
    assert Path(f"{engines}.dependency").read_text() == "--dependency=afterany:123\n"


def test_a_slurm_array_of_another_mode(engines, tmp_path, monkeypatch):
    monkeypatch.setenv("MODE", "unmix")
    run("submit.sh", "wafers/*", "out", "--wavelength=CuKa")
    assert_every_shard_and_a_merge(started(engines), 100, "wafers/*", "out", "unmix")


@pytest.mark.skipif(not shutil.which("parallel"), reason="GNU parallel is not installed")
def test_parallel_does_every_shard_once_and_merges(engines, tmp_path):
    source, out = str(tmp_path / "my scans" / "*.xy"), str(tmp_path / "out put")
    run("parallel.sh", "5", source, out, "--wavelength=CuKa")
    assert_every_shard_and_a_merge(started(engines), 5, source, out)


def test_an_indexed_job_does_every_shard_once(engines, tmp_path, monkeypatch):
    job = yaml.safe_load((LAUNCH / "kubernetes.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed" and spec["parallelism"] <= spec["completions"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["restartPolicy"] == "Never"
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert int(environment["SHARDS"]) == spec["completions"]
    for index in range(spec["completions"]):
        own = environment | {"JOB_COMPLETION_INDEX": str(index), "STATUS": "3"}
        command = [*container["command"], *container["args"]]
        subprocess.run(command, env=os.environ | own, check=True, timeout=10)
    text = (LAUNCH / "kubernetes.yaml").read_text()
    (merge,) = re.findall(r"imitation-refinement (--mode=refine --merge .*)", text)
    calls = [*started(engines), shlex.split(merge)]
    assert_every_shard_and_a_merge(calls, spec["completions"], "/data/scans", "/data/refined")


def test_flags_of_the_launch_lines_exist():
    assert cli  # defines them
    for path in LAUNCH.iterdir():
        text = re.sub(r"\\\n", " ", path.read_text())
        for words in re.findall(r"^(?!.*pip install).*?imitation-refinement (.*)$", text, re.M):
            for name in re.findall(r"(?<=\s--)[a-z_]+", words):
                assert name in flags.FLAGS, (path.name, name)
