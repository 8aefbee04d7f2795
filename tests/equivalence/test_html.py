"""The page of a report: complete, self-contained, escaped, and drawn by a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_bridge.equivalence.arrays import judge_array
from lstm_bridge.equivalence.html.axes import Scale, linear_scale, log_scale
from lstm_bridge.equivalence.html.elements import Markup, element, joined
from lstm_bridge.equivalence.report import ArrayResult, LayerResult, PartResult, Report

ORACLE = np.random.default_rng(0).normal(size=(3, 12, 4))
SVG = "svg"


def array(name: str, wrong_from: int | None = None, axis: int | None = 1) -> ArrayResult:
    source = ORACLE.astype(np.float32)
    ours = source.copy()
    if wrong_from is not None:
        ours[:, wrong_from:] += 0.25
    return judge_array(name, ours, source, ORACLE, 2.0**-23, axis)


def layer(path: str, *arrays: ArrayResult, **more: Any) -> LayerResult:
    reason = next((f"{a.name}: {a.verdict.reason}" for a in arrays if not a.verdict.passed), "")
    return LayerResult(
        path, "torch.nn.LSTM", "torch 2.13.0", "NumPy float64 oracle", arrays, reason=reason, **more
    )


GOOD = Report("port", (layer("encoder", array("output"), array("h_n", axis=None)),))
BAD = Report(
    "port",
    (
        layer(
            "decoder",
            array("output", 5),
            parts=(
                PartResult("gate", "Linear", (array("output"),)),
                PartResult("cell", "LSTMCell", (array("h", 5),), calls=12),
                PartResult("norm", "Norm", (), "not called in the port"),
            ),
            diagnosis="gates permuted",
        ),
    ),
)


def tree(page: str) -> ET.Element:
    """The page as XML: every element but ``meta`` is closed, so that it parses strictly."""
    body = page.removeprefix("<!DOCTYPE html>\n")
    return ET.fromstring(re.sub(r"(<meta [^>]*)>", r"\1/>", body))


def text_of(page: str) -> str:
    return " ".join("".join(tree(page).itertext()).split())


def test_the_page_says_what_the_report_says() -> None:
    good, bad = text_of(GOOD.to_html()), text_of(BAD.to_html())
    assert "✓ equivalent" in good
    assert "✗" not in good
    assert "✗ NOT equivalent" in bad
    assert "decoder.cell h at step 5" in bad
    assert "gates permuted" in bad
    assert "not called in the port" in bad
    assert "3 sub-modules" in bad
    for fact in ("lstm-bridge", "mlx", "numpy", "Python"):
        assert fact in good


def test_every_chart_is_there_and_named() -> None:
    charts = [svg.findtext("title") or "" for svg in tree(BAD.to_html()).iter(SVG)]
    assert [c.split(",")[0].split(":")[0] for c in charts] == [
        "Error of every layer at every time step",
        "Error of output over time",
        "Values of output at [0",
        "Errors of output in units in the last place",
    ]
    assert all(svg.get("role") == "img" for svg in tree(BAD.to_html()).iter(SVG))
    cells = [e for e in tree(BAD.to_html()).iter("rect") if "heat" in (e.get("class") or "")]
    assert len(cells) == 3 * 12  # gate, cell, and the layer itself
    wrong = [e for e in cells if e.get("class") in ("heat h6", "heat h7", "heat h8")]
    assert len(wrong) == 2 * 7
    crosses = [e for e in tree(BAD.to_html()).iter("text") if "cross" in (e.get("class") or "")]
    assert len(crosses) == len(wrong)  # not by colour alone


def test_the_page_needs_nothing_but_itself() -> None:
    page = BAD.to_html()
    assert "://" not in page
    for tag in ("script", "link", "img", "iframe", "object"):
        assert f"<{tag}" not in page
    assert "url(" not in page
    assert "@import" not in page


def test_names_are_escaped_wherever_they_stand() -> None:
    evil = '"><script>alert(1)</script>&'
    report = Report(
        evil,
        (
            layer(
                evil,
                array(evil, 5),
                parts=(PartResult(evil, evil, (array(evil, 3),), evil),),
                diagnosis=evil,
            ),
        ),
    )
    page = report.to_html(title=evil)
    assert "<script" not in page
    assert evil in "".join(tree(page).itertext())


def test_elements_escape_all_but_markup() -> None:
    assert element("b", "<&>", class_='"') == '<b class="&quot;">&lt;&amp;&gt;</b>'
    assert joined("<", Markup("<br>")) == "&lt;<br>"
    assert element("i", stroke_width=0.5, x=2.0, hidden=None) == '<i stroke-width="0.5" x="2"></i>'


def test_scales() -> None:
    scale = Scale(0, 10, 100, 200)
    assert (scale(0), scale(5), scale(99)) == (100, 150, 200)
    assert scale.ticks() == [0, 2, 4, 6, 8, 10]
    assert log_scale([3e-8, 2e-6]).low == 1e-8
    assert log_scale([3e-8, 2e-6]).high == pytest.approx(1e-5)
    assert log_scale([0.0]).low < log_scale([0.0]).high
    assert linear_scale([5.0, 5.0])(5.0) > 0
    assert len(log_scale([1e-38, 1e38]).ticks()) <= 14


def test_degenerate_reports_are_drawn_too() -> None:
    empty = np.zeros((0, 3, 2))
    nan = np.full((2, 3, 2), np.nan)
    odd = (
        judge_array("empty", empty, empty, empty, 2.0**-23, 1),
        judge_array("nan", nan, nan, nan, 2.0**-23, 1),
        judge_array("misplaced", nan, np.zeros_like(nan), np.zeros_like(nan), 2.0**-23, 1),
        judge_array("scalar", np.float32(1), np.float32(1), np.float64(1), 2.0**-23, None),
        judge_array("shapes", np.ones(2), np.ones(3), np.ones(3), 2.0**-23, 0),
        judge_array("zeros", np.zeros((1, 1, 1)), *[np.zeros((1, 1, 1))] * 2, 2.0**-23, 1),
    )
    for one in odd:
        assert one.name in text_of(Report("port", (layer("x", one),)).to_html())
    assert text_of(Report("port", ()).to_html())
    long = np.zeros((1, 5000, 1))
    many = judge_array("long", long + 1e-9, long, long, 2.0**-23, 1)
    assert len(Report("p", (layer("x", many),)).to_html()) < 400_000


def test_the_page_is_the_same_every_time_and_is_written(tmp_path: Path) -> None:
    page = BAD.to_html(tmp_path / "report.html")
    assert page == BAD.to_html()
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


def browser() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    mac = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    found = next((path for name in names if (path := shutil.which(name))), None)
    found = found or (mac if Path(mac).exists() else None)
    if found is None:
        pytest.skip("no Chromium or Chrome to open the page in")
    return found


def in_browser(page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            browser(),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--no-first-run", "--hide-scrollbars"),
            *("--enable-logging=stderr", f"--user-data-dir={page.parent / 'profile'}"),
            *arguments,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_real_browser_draws_the_page(tmp_path: Path, scheme: str) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "page.png"
    BAD.to_html(page)
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    shot = in_browser(page, *dark, "--window-size=1240,1600", f"--screenshot={picture}")
    assert "CONSOLE" not in shot.stderr  # neither errors nor refused requests
    colours = colours_of(picture)
    assert len(colours) > 100  # charts and letters, not an empty page
    ground = max(colours, key=lambda c: colours[c])
    assert (sum(ground) < 150) == (scheme == "dark")


def test_a_real_browser_reads_the_page_as_it_was_meant(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    BAD.to_html(page)
    dom = in_browser(page, "--dump-dom").stdout
    assert dom.count("<svg") == BAD.to_html().count("<svg")
    assert dom.count("<tr>") == BAD.to_html().count("<tr>")
    assert "decoder.cell h at step 5" in dom


def colours_of(picture: Path) -> dict[tuple[int, ...], int]:
    """How often each colour, in 255ths, is in a sample of the picture."""
    image = pytest.importorskip("matplotlib.image", reason="reads the screenshot").imread(picture)
    pixels = np.round(image.reshape(-1, image.shape[-1])[::7, :3] * 255).astype(int)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {tuple(map(int, c)): int(n) for c, n in zip(found, counts, strict=True)}


def test_the_page_is_made_without_matplotlib_or_rich() -> None:
    program = """
import sys
from lstm_bridge.equivalence.report import Report
Report("port", ()).to_html()
print(sorted({n.partition(".")[0] for n in sys.modules} & {"matplotlib", "rich", "torch", "keras"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
