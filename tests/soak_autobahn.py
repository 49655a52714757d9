"""Autobahn's websocket suite, some 250 cases of RFC 6455, against nbws's websocket class and against bare uvicorn.

    python tests/soak_autobahn.py                    all cases but those of compression, in a minute or two
    python tests/soak_autobahn.py --compression      some of those of compression
    python tests/soak_autobahn.py --cases '1.*' '7.*'

No case may be worse with nbws than without. The suite is on PyPI and needs Python 2.7, which is looked for in
NBWS_PYTHON27, on PATH and in ~/.pyenv; it is installed into .autobahn beside dev.py. Where it cannot be installed the
check says that it was skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from echoes import bare_uvicorn, nbws_server
from soak import Promises

ENVIRONMENT = Path(__file__).parent.parent / ".autobahn"
SUITE = "autobahntestsuite==25.10.1"
COMPRESSION = [f"12.{n}.{m}" for n in range(1, 6) for m in (1, 2)] + [f"13.{n}.1" for n in range(1, 8)]
"""Some of the 216 cases of compression, which send a thousand messages each and take a quarter of an hour."""
AGAIN = 3  #: times that cases are asked which were worse
RUN = "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite.wstest import run; run()"
GRADES = ("OK", "INFORMATIONAL", "NON-STRICT", "UNCLEAN", "WRONG CODE", "UNIMPLEMENTED", "FAILED")
"""Verdicts of the suite, from the best; one that is not here is worse than all."""


def python27() -> str | None:
    """A Python 2.7 with pip; None where there is none."""
    versions = sorted(Path.home().glob(".pyenv/versions/2.7.*/bin/python"))
    for found in (os.environ.get("NBWS_PYTHON27"), shutil.which("python2.7"), *map(str, versions)):
        if found and subprocess.run([found, "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return found
    return None


def installed() -> list[str] | None:
    """The suite's command, installed first where it is not; None where that is not possible, after saying why."""
    python = python27()
    if python is None:
        print("skipped: the suite needs Python 2.7 with pip; name one in NBWS_PYTHON27")
        return None
    command = [python, "-c", RUN, str(ENVIRONMENT)]
    if subprocess.run([*command, "--version"], capture_output=True).returncode == 0:
        return command
    print(f"installing {SUITE} into {ENVIRONMENT} ...", flush=True)
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(ENVIRONMENT), SUITE]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"skipped: the suite cannot be installed here: {done.stderr.strip()[-500:]}")
        return None
    return command


def verdicts(command: list[str], ports: dict[str, int], cases: list[str], seconds: float) -> dict[str, dict[str, str]]:
    """Agent -> case -> the worse of the suite's verdicts on what it did and on how it closed."""
    with tempfile.TemporaryDirectory() as folder:
        servers = [{"agent": agent, "url": f"ws://127.0.0.1:{port}"} for agent, port in ports.items()]
        spec = {
            "outdir": f"{folder}/reports",
            "servers": servers,
            "cases": cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (Path(folder) / "spec.json").write_text(json.dumps(spec))
        subprocess.run(
            [*command, "-m", "fuzzingclient", "-s", f"{folder}/spec.json"],
            check=True,
            timeout=seconds,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        index = json.loads((Path(folder) / "reports" / "index.json").read_text())
    return {
        agent: {case: max(found["behavior"], found["behaviorClose"], key=grade) for case, found in found_in.items()}
        for agent, found_in in index.items()
    }


def worse_cases(found: dict[str, dict[str, str]]) -> dict[str, str]:
    """Case -> what it is with bare uvicorn and with nbws."""
    theirs, ours = found["uvicorn"], found["nbws"]
    return {case: f"{theirs[case]} -> {ours[case]}" for case in theirs if grade(ours[case]) > grade(theirs[case])}


def grade(verdict: str) -> int:
    return GRADES.index(verdict) if verdict in GRADES else len(GRADES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", help="such as '6.*'")
    parser.add_argument("--compression", action="store_true", help="the cases of compression, which is on then")
    parser.add_argument("--seconds", type=float, default=900.0, help="after which it is given up")
    options = parser.parse_args()
    command = installed()
    if command is None:
        sys.exit(0)
    cases = options.cases or (COMPRESSION if options.compression else [f"{n}.*" for n in range(1, 11)])
    servers = {"uvicorn": bare_uvicorn, "nbws": nbws_server}
    with ExitStack() as stack:
        ports = {name: stack.enter_context(run(compression=options.compression)) for name, run in servers.items()}
        found = verdicts(command, ports, cases, options.seconds)
        for _ in range(AGAIN):
            # Whether an echo is out before a later frame fails the connection is a matter of time, in 4.1.5 and 4.2.5.
            if not (unlike := worse_cases(found)):
                break
            for agent, cases_again in verdicts(command, ports, list(unlike), options.seconds).items():
                for case, verdict in cases_again.items():
                    found[agent][case] = min(found[agent][case], verdict, key=grade)
    for agent, of_agent in found.items():
        print(f"{agent}: {len(of_agent)} cases, {dict(Counter(of_agent.values()))}")
    promises = Promises()
    promises.equal("cases that are worse than with bare uvicorn", worse_cases(found), {})
    promises.equal("the same cases of both", found["nbws"].keys() == found["uvicorn"].keys() != set(), True)
    promises.exit()


if __name__ == "__main__":
    main()
