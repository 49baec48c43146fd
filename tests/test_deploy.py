"""The examples in deploy/: they parse, and every option that they use is one of the command line."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from pipelines import cli, metrics
from pipelines.runs import Totals, ended_run, now
from pipelines.summary import Summary

DEPLOY = Path(__file__).parents[1] / "deploy"


def unit(name):
    """A unit of systemd: sections of keys, some of them given more than once."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=", comment_prefixes="#")
    parser.optionxform = str
    parser.read_string((DEPLOY / "systemd" / name).read_text(encoding="utf-8"))
    return parser


def cron_line():
    """The one line of the table that is a job: five times, a user, a command."""
    lines = (DEPLOY / "cron/refine-catalog").read_text(encoding="utf-8").splitlines()
    (job,) = [line for line in lines if re.match(r"[\d*]", line)]
    return job.split(maxsplit=6)


def cron_job():
    """The CronJob."""
    return yaml.safe_load((DEPLOY / "kubernetes/cronjob.yaml").read_text(encoding="utf-8"))


def container():
    """Its one container."""
    (found,) = cron_job()["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return found


def known_metrics():
    """The names of all metrics that a run writes."""
    asked = {"source": "a", "root": "/a", "target": "/b", "settings": {}, "workers": 1}
    text = metrics.text(ended_run(now(), Summary(), before=Totals(), **asked))
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


COMMANDS = {
    "cron": lambda: shlex.split(cron_line()[6]),
    "systemd": lambda: shlex.split(unit("refine-catalog.service")["Service"]["ExecStart"]),
    "kubernetes": lambda: [*container()["command"], *container()["args"]],
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_command_is_one_that_refine_takes(kind):
    """The words after `refine` are a command of it, with options that it has and values that it takes."""
    words = COMMANDS[kind]()
    at = next(index for index, word in enumerate(words) if Path(word).name == "refine")
    name, *rest = words[at + 1 :]
    command = cli.refine.commands[name]
    context = command.make_context(name, list(rest))
    assert isinstance(command, click.Command)
    assert str(context.params["target"]) == rest[1]
    assert context.params["metrics"].suffix == ".prom"


def test_cron_job_is_locked():
    """Cron runs it as a user of its own, at a time of day, and only where no earlier night is still at work."""
    *times, user, command = cron_line()
    assert len(times) == 5
    assert user != "root"
    assert shlex.split(command)[:2] == ["flock", "--nonblock"]
    assert "%" not in command, "which is a line end to cron"


def test_service_and_timer_belong_together():
    """The timer is installed and has the service's name; the service stops by the signal that refine expects."""
    service, timer = unit("refine-catalog.service"), unit("refine-catalog.timer")
    assert timer["Install"]["WantedBy"] == "timers.target"
    assert re.fullmatch(r"\*-\*-\* \d\d:\d\d:\d\d", timer["Timer"]["OnCalendar"])
    assert service["Service"]["Type"] == "oneshot"
    assert service["Service"]["KillSignal"] == "SIGINT"
    assert int(service["Service"]["SuccessExitStatus"]) == cli.FAILED
    words = COMMANDS["systemd"]()
    assert words[2] in service["Service"]["ReadOnlyPaths"]
    assert words[3] in service["Service"]["ReadWritePaths"]


def test_cron_job_of_kubernetes_runs_one_at_a_time():
    """One pod at a time, started again where it was killed, but not where refine itself says that it is no use."""
    job = cron_job()
    assert (job["kind"], job["apiVersion"]) == ("CronJob", "batch/v1")
    assert len(job["spec"]["schedule"].split()) == 5
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    template = job["spec"]["jobTemplate"]["spec"]
    (rule,) = template["podFailurePolicy"]["rules"]
    assert set(rule["onExitCodes"]["values"]) == {cli.FAILED, cli.WRONG}
    assert rule["onExitCodes"]["containerName"] == container()["name"]
    pod = template["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "as podFailurePolicy wants it"
    mounted = {mount["name"]: mount for mount in container()["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
    assert mounted["photos"]["readOnly"]
    for word in container()["args"]:
        if word.startswith("/"):
            assert any(word.startswith(mount["mountPath"]) for mount in mounted.values())


def test_alerts_are_about_metrics_that_there_are():
    """Each rule has its parts, and names a metric that a run writes."""
    rules = yaml.safe_load((DEPLOY / "prometheus/refine.rules.yaml").read_text(encoding="utf-8"))
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        assert {"alert", "expr", "labels", "annotations"} <= rule.keys()
        used = set(re.findall(r"refine_catalog_\w+", rule["expr"]))
        assert used
        assert used <= known_metrics()


def test_readme_names_every_example_and_metric():
    """The table of examples has every file, and the table of metrics every one that a run writes."""
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert path.relative_to(DEPLOY).as_posix() in text or f"`{path.suffix}`" in text
    for name in known_metrics():
        assert name.removeprefix("refine_catalog").removeprefix("_last_run") in text
