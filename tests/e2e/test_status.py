"""``r1box status`` and ``r1box top`` on a running box: one page, JSON, and an exit code for scripts."""

from __future__ import annotations

import json
import subprocess

from tests.e2e.box import R1BOX, Box, Home


def test_one_page_for_people_and_scripts(prepared: tuple[Home, str, str], box: Box) -> None:
    home, model, _ = prepared
    page = home.run("status").stdout
    assert "Tiny-R1" in page
    assert "8 x 2k" in page
    assert "host" in page
    busy = json.loads(home.run("top", "--json").stdout)
    assert (busy["running"], busy["waiting"], busy["requests"]) == (0, 0, [])
    command = [str(R1BOX), "status", "--json", "--watch"]
    with subprocess.Popen(command, env=home.environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.terminate()
    assert [(line["schema"], line["serving"], line["models"][0]["id"]) for line in lines] == [(1, True, model)] * 2


def test_a_box_that_is_down(home: Home) -> None:
    result = home.run("status", check=False)
    assert result.returncode != 0
    assert "no admin socket of a running box" in result.stderr
