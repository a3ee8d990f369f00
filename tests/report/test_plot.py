"""Whole figures: layout, header, and what drawing must leave alone."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from fake_report import FakeReport, fake_report

from fdfast.report import plot

IMAGE_TITLES = [
    "Input", "Finite differences", "Autodiff", "Relative error at x", "Histogram of relative error at x",
    "Class of each tile",
]  # fmt: skip
VECTOR_TITLES = [
    "Input, shape (40,)", "Both gradients", "Relative error at x and class of each tile",
    "Histogram of relative error at x",
]  # fmt: skip


def first_lines(fig: Any) -> list[str]:
    return [ax.get_title().split("\n")[0] for ax in fig.axes]


def spoilt(**values: float) -> FakeReport:
    """A report whose gradients are all one value."""
    report = fake_report((6, 6, 1), faults=0)
    for name, value in values.items():
        getattr(report, name)[...] = value
    report.rel_error[...] = np.nan
    return report


REPORTS = {
    "image": fake_report(),
    "no channel axis": fake_report((20, 30)),
    "colours, together": fake_report((13, 17, 3), (1, 1, 3)),
    "colours, apart": fake_report((13, 17, 3), faults=3),
    "ragged tiles": fake_report((13, 17, 3), (5, 4, 3)),
    "vector": fake_report((40,)),
    "vector in tiles": fake_report((40,), (7,)),
    "long vector": fake_report((900,)),
    "scalar": fake_report((), faults=0),
    "four axes": fake_report((3, 4, 2, 2)),
    "batch": fake_report(batch=3),
    "batch of one": fake_report(batch=1),
    "batch of colours": fake_report((9, 9, 3), batch=2),
    "batch of vectors": fake_report((40,), batch=3),
    "all zero": spoilt(numeric=0.0, analytic=0.0),
    "autodiff zero": spoilt(analytic=0.0),
    "all NaN": spoilt(numeric=np.nan, analytic=np.nan),
    "long label": fake_report(label="an unreasonably long name for a model, " * 9),
    "inconclusive": fake_report((12, 12, 1), verdict="inconclusive"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_overlaps_and_all_is_inside(name: str) -> None:
    fig = plot.figure(REPORTS[name])
    fig.draw_without_rendering()
    inside = fig.bbox.padded(0.5)
    boxes = {i: ax.get_tightbbox() for i, ax in enumerate(fig.axes)}
    boxes |= {text.get_text(): text.get_window_extent() for text in fig.texts}  # the suptitle is one
    for box in boxes.values():
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1
    for (a, first), (b, second) in itertools.combinations(boxes.items(), 2):
        assert not first.padded(-1).overlaps(second.padded(-1)), (a, b)


def test_one_image() -> None:
    report = fake_report(faults=2)
    fig = plot.figure(report)
    assert first_lines(fig) == IMAGE_TITLES
    assert (fig.get_size_inches() * 150).round().tolist() == [1500, 950]
    legend = [text.get_text().split("\n") for text in fig.axes[5].get_legend().get_texts()]
    assert {name: int(n) for name, n in legend} == report.counts
    norms = [ax.images[0].norm for ax in fig.axes[1:3]]
    assert norms[0].vmax == norms[1].vmax == -norms[0].vmin == -norms[1].vmin > 0


def test_header_says_what_was_found_and_how() -> None:
    report = fake_report(faults=2, label="costs $5 and $6")
    report.near[0, 0, 0], report.classes[0, 0, 0] = True, "agree"
    fig = plot.figure(report)
    said = fig.get_suptitle()
    counts = report.counts
    for part in (
        "costs $5 and $6",
        f"agree {counts['agree']} (1 of them near x)",
        "wrong 2",
        f"kink {counts['kink']}",
        f"unresolved {counts['unresolved']}",
        f"coverage {plot.percent_text(report.coverage)}",
        "tile 1 × 1 ",
        "step 9.54e-07 = 2^-20",
        "engine difference",
        "float64",
    ):
        assert part in said
    assert [text.get_text() for text in fig.texts] == ["FAIL", said]
    assert plot.figure(report, title="mine").get_suptitle().startswith("mine\n")


def test_a_long_sentence_is_broken_and_not_cut() -> None:
    sentences = ["one element in a thousand is said to be missed with a chance below nothing at all " * 4 + "end."]
    fig = plot.figure(fake_report(caveats=sentences, verdict="inconclusive"))
    assert " ".join(sentences) in " ".join(fig.get_suptitle().split("\n"))
    fig.draw_without_rendering()
    assert all(text.get_window_extent().x1 <= fig.bbox.x1 for text in fig.texts)


def test_a_gradient_that_was_given_is_not_called_autodiff() -> None:
    given = {"rtol": 1e-4, "analytic": "given"}
    assert "Given gradient" in first_lines(plot.figure(fake_report(settings=given)))
    drawn = plot.figure(fake_report((40,), settings=given))
    assert "given" in [text.get_text() for text in drawn.axes[1].get_legend().get_texts()]
    assert "Autodiff" not in first_lines(plot.figure(fake_report(batch=2, settings=given)))


def test_one_vector() -> None:
    assert first_lines(plot.figure(fake_report((40,)))) == VECTOR_TITLES


def test_batch_has_one_row_per_example_with_most_wrong_ones_first() -> None:
    report = fake_report(batch=6, faults=0)
    report.classes[4, 3, 3, 0] = report.classes[4, 3, 4, 0] = report.classes[2, 3, 3, 0] = "wrong"
    fig = plot.figure(report)
    assert first_lines(fig) == (IMAGE_TITLES[:4] + IMAGE_TITLES[5:]) * 4
    assert [ax.get_ylabel() for ax in fig.axes[::5]] == [f"example {i}" for i in (4, 2, 0, 1)]
    assert "examples 4, 2, 0, 1 of 6 shown" in fig.get_suptitle()
    # Colours of errors can be compared between rows.
    assert len({(ax.images[0].norm.vmin, ax.images[0].norm.vmax) for ax in fig.axes[3::5]}) == 1


def test_save_writes_a_picture_of_the_asked_size(tmp_path: Path) -> None:
    plot.save(REPORTS["image"], tmp_path / "a.png")
    header = (tmp_path / "a.png").read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert [int.from_bytes(header[i : i + 4], "big") for i in (16, 20)] == [1500, 950]
    stream = io.BytesIO()
    plot.save(REPORTS["vector"], stream, dpi=50)
    assert stream.getvalue().startswith(b"\x89PNG")


def test_settings_of_the_caller_are_neither_used_nor_changed() -> None:
    with matplotlib.rc_context({"font.size": 31.0, "figure.facecolor": "black", "image.cmap": "jet"}):
        before = dict(matplotlib.rcParams)
        fig = plot.figure(REPORTS["image"])
        assert dict(matplotlib.rcParams) == before
        assert fig.get_facecolor() == (1, 1, 1, 1)
        assert fig.axes[0].xaxis.label.get_size() == 8


def test_report_is_untouched() -> None:
    report = fake_report((13, 17, 3), (5, 4, 3))
    before = {k: v.copy() for k, v in vars(report).items() if isinstance(v, np.ndarray)}
    plot.figure(report).draw_without_rendering()
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(report, name), value)


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    # Keras loads it, so that its figures are what would show that it was used.
    from matplotlib import pyplot

    plot.save(fake_report((6, 6, 1)), tmp_path / "one.png")
    plot.figure(fake_report((6, 6, 1)))
    assert pyplot.get_fignums() == []
    for path in Path(plot.__file__).parents[1].rglob("*.py"):
        assert "import pyplot" not in path.read_text(), path
        assert "matplotlib.pyplot" not in path.read_text(), path


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (20, 28, 3)])
def test_adversarial_figure(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(64, 192, shape) / 256  # sums and differences with 1/8 are exact
    moved = 0.125 * rng.choice([-1.0, 1.0], shape)
    before, after = np.eye(10)[7], np.full(10, 0.05)
    after[3] = 0.55
    fig = plot.adversarial_figure(x, x + moved, before, after, "FGSM, $\\epsilon$")
    fig.draw_without_rendering()
    titles = {ax.get_label(): ax.get_title() for ax in fig.axes}
    assert titles["clean"] == "clean: 7 (100.0 %)"
    assert titles["adversarial"] == "adversarial: 3 (55.0 %)"
    assert titles["moved"] == "perturbation, at most 0.125"
    axes = {ax.get_label(): ax for ax in fig.axes}
    shown = axes["moved"].images[0]
    assert (shown.norm.vmin, shown.norm.vmax) == (-0.125, 0.125)
    np.testing.assert_allclose(np.abs(shown.get_array()), 0.125)
    heights = [[bar.get_height() for bar in bars] for bars in axes["bars"].containers]
    np.testing.assert_allclose(heights, [before, after])


def test_adversarial_figure_without_perturbation_and_with_names() -> None:
    x = np.zeros((4, 4))
    fig = plot.adversarial_figure(x, x, [0.2, 0.8], [0.3, 0.7], labels=["cat", "$dog"])
    fig.draw_without_rendering()
    assert fig.axes[0].get_title() == "clean: $dog (80.0 %)"


@pytest.mark.parametrize(
    ("step", "text"),
    [(2.0**-20, "9.54e-07 = 2^-20"), (1e-3, "0.001"), (1.0, "1 = 2^0"), (0.0, "0"), (np.nan, "nan")],
)
def test_step_text(step: float, text: str) -> None:
    assert plot.step_text(step) == text


@pytest.mark.parametrize(("part", "text"), [(1.0, "100.0 %"), (0.99999, "99.9 %"), (0.57, "57.0 %"), (0.0, "0.0 %")])
def test_percent_text_never_rounds_up(part: float, text: str) -> None:
    assert plot.percent_text(part) == text


@pytest.mark.parametrize(
    ("shape", "tile", "axis", "text"),
    [
        ((28, 28, 1), (4, 4, 1), 2, "4 × 4"),
        ((28, 28, 3), (4, 4, 3), 2, "4 × 4, channels together"),
        ((28, 28, 3), (4, 4, 1), 2, "4 × 4, channels apart"),
        ((3, 28, 28), (1, 2, 4), 0, "2 × 4, channels apart"),
        ((28, 28, 4), (1, 1, 2), 2, "1 × 1, 2 of 4 channels together"),
        ((40,), (7,), None, "7"),
        ((), (), None, "1"),
    ],
)
def test_tile_text(shape: tuple[int, ...], tile: tuple[int, ...], axis: int | None, text: str) -> None:
    assert plot.tile_text(FakeReport(shape=shape, tile=tile, channel_axis=axis)) == text  # type: ignore[arg-type]


def test_a_notebook_shows_a_figure_that_ends_a_cell() -> None:
    picture = fake_report((6, 6, 1))
    drawn = plot.figure(picture)._repr_png_()
    assert drawn.startswith(b"\x89PNG\r\n")
