"""The HTML report without a browser: its numbers, its pictures, its safety."""

import base64
import gc
import hashlib
import json
import re
import weakref
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest

from tests.helpers.report import SCALARS, TUMORS, make_records, make_summary, written
from unet_jax.reporting.pictures import Picture, picture_record
from unet_jax.reporting.templates import NONE

MEASURES = ("iou", "dice", "pixel_accuracy", "precision", "sensitivity", "specificity", "volumetric_similarity")
SHOWN = (
    *("micro_iou", "micro_dice", "mean_iou", "mean_dice", "hd95", "assd", "nsd", "precision", "sensitivity"),
    *("specificity", "missed"),
)
COST = {"chosen": 0.25, "micro_iou": 0.61, "best_on_split": 0.35, "best_micro_iou": 0.64, "cost": 0.03}


def make_rows(n, pid="p{}"):
    """Rows of slices.csv in which no two values are equal, the native Dice falling with the slice number."""
    rows = []
    for i in range(n):
        row = {"slice": 10 + i, "pid": pid.format(i // 2), "tumor": TUMORS[i % 3]}
        for r, resolution in enumerate(("network", "native")):
            row |= {f"{resolution}_{m}": (n - i) / (n + 1 + r + j / 8) for j, m in enumerate(MEASURES)}
            row |= {f"{resolution}_hd95": 2.5 * i + r, f"{resolution}_assd": 0.75 * i + r, f"{resolution}_nsd": 0.5}
        row |= {"native_tumor_pixels": 1000 + i, "native_predicted_pixels": 2000 - i, "missed": int(i == n - 1)}
        rows.append(row | {"tumors": 1, "tumors_found": 1, "tumors_found_half": 0, "false_components": i % 2})
    return rows


def make_pictures(rows, side=32):
    """Pictures of noise, each with a square tumour and a prediction that stands beside it by a pixel."""
    for row in rows:
        rng = np.random.default_rng(row["slice"])
        mask = np.zeros((side, side), bool)
        y, x = rng.integers(2, side - 10, 2)
        mask[y : y + 6, x : x + 8] = True
        probs = (0.8 * np.roll(mask, 1, axis=1) + 0.2 * rng.random((side, side))).astype(np.float32)
        image = rng.integers(0, 256, (side, side)).astype(np.uint8)
        yield Picture(slice=row["slice"], image=image, mask=mask, pred=probs >= 0.5, probs=probs)


PLOTS = {
    "records": make_records([0.6] * 3),
    "thresholds": {"0.25": 0.5, "0.50": 0.4},
    "summary": make_summary(4, threshold_cost=COST),
}


def write(path, n=4, **changes):
    rows = make_rows(n)
    return written(path, **({"rows": rows, "pictures": make_pictures(rows)} | changes))


class Page(HTMLParser):
    """Elements as (tag, attributes, all text inside), and the rows of the table of scores."""

    def __init__(self, text):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), ""]
        self.elements.append(element)
        if tag not in ("meta", "link", "img", "input"):
            self._open.append(element)

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        for element in self._open:
            element[2] += data

    def all(self, tag, **attributes):
        return [e for e in self.elements if e[0] == tag and attributes.items() <= e[1].items()]

    def one(self, tag, **attributes):
        (element,) = self.all(tag, **attributes)
        return element

    def words(self, tag, **attributes):
        """The text of the one element, wherever its lines break."""
        return " ".join(self.one(tag, **attributes)[2].split())


def table(page):
    """The table of scores: (resolution, group) to column to the texts of its cell, and the whole numbers behind."""
    cells, resolution, group = {}, None, None
    for tag, attributes, text in page.elements:
        if tag == "tbody" and attributes.get("id", "").startswith("scores-"):
            resolution = attributes["id"].removeprefix("scores-")
        elif tag == "th" and attributes.get("scope") == "row" and resolution:
            group = text
        elif tag == "td" and "data-key" in attributes:
            column = cells.setdefault((resolution, group), {})
            column[attributes["data-key"]] = (text, [])
        elif tag == "data" and group and (resolution, group) in cells:
            list(cells[resolution, group].values())[-1][1].append((float(attributes["value"]), text))
        elif tag == "ul" and group:
            break
    return cells


def script_json(page, **attributes):
    return json.loads(page.one("script", **attributes)[2])


def test_every_number_of_the_table_is_that_of_the_summary(tmp_path):
    summary = make_summary(4)
    cells = table(Page(write(tmp_path / "r.html", summary=summary)))
    assert list(cells) == [(r, g) for r in ("native", "network") for g in ("All", *(t.capitalize() for t in TUMORS))]
    for (resolution, group), columns in cells.items():
        scores = summary[resolution]
        scores = scores if group == "All" else scores["by_tumor"][group.lower()]
        assert tuple(columns) == SHOWN
        for key, (_, numbers) in columns.items():
            assert [value for value, _ in numbers] == [scores[key], *scores["ci95"][key]], (resolution, group, key)
            for value, text in numbers:
                shown = (
                    f"{100 * value:.1f} %" if key == "missed" else f"{value:.{2 if key in ('hd95', 'assd') else 3}f}"
                )
                assert text == shown


def test_what_the_summary_lacks_is_an_en_dash(tmp_path):
    summary = make_summary(4)
    summary["native"]["by_tumor"]["glioma"] = {"n_slices": 0, "ci95": dict.fromkeys(SCALARS)} | dict.fromkeys(SCALARS)
    summary["native"]["hd95"] = None
    summary["network"]["ci95"]["assd"] = None
    summary["detection"]["found_half"] = None
    page = Page(write(tmp_path / "r.html", summary=summary))
    cells = table(page)
    assert all(text == NONE and not numbers for text, numbers in cells["native", "Glioma"].values())
    assert cells["native", "All"]["hd95"][0].startswith(NONE)
    assert len(cells["network", "All"]["assd"][1]) == 1
    assert "of them covered by half or more" in page.one("section", id="scores")[2]
    assert [d[2] for d in page.all("dd")].count(NONE) == 1


def test_slices_without_a_tumor_have_a_line_where_there_are_any(tmp_path):
    label = "Slices without a tumour; with anything predicted; with more than 0.1 % of the picture"
    assert label not in write(tmp_path / "a.html")
    free = {"n_slices": 7, "any": 0.5, "over_0.1_percent": 0.25, "mean_area": 0.125}
    page = Page(write(tmp_path / "b.html", summary=make_summary(4, tumor_free=free)))
    assert f"{label}7; 50.0 %; 25.0 %" in page.one("section", id="scores")[2]


def test_the_head_and_the_notes_say_how_it_was_scored(tmp_path):
    summary = make_summary(4, distance_unit="mm", spacing_mm=0.49, nsd_tolerance=1.0)
    page = Page(write(tmp_path / "r.html", summary=summary, title="runs/b"))
    assert page.one("h1")[2] == "runs/b" and page.one("title")[2] == "runs/b, test: evaluation"
    head = page.one("header")[2]
    for words in ("Splittest", "Slices4", "Patients2", "Threshold0.25", "Mask rulearea", "mm, 0.49 mm a pixel"):
        assert words in head
    assert "Research software, no medical device." in head
    notes = page.words("ul", **{"class": "notes"})
    for words in ("Two empty are one.", "over patients (1,000 resamples, seed 0)", "within 1 mm of each other."):
        assert words in notes
    found = page.one("section", id="scores")[2]
    for words in ("1,234", "87.5 %", "62.5 %", "0.44"):
        assert words in found
    # Several thresholds are all named.
    summary = make_summary(4, threshold=None, thresholds=[0.25, 0.4])
    page = Page(write(tmp_path / "r.html", summary=summary))
    assert "Threshold0.25, 0.4" in page.one("header")[2]
    assert script_json(page, id="data")["threshold"] is None


def test_the_plots_say_their_figures(tmp_path):
    page = Page(write(tmp_path / "r.html", **PLOTS))
    plots = page.words("section", id="plots")
    for words in ("Expected calibration error (ECE) 0.012 over all", "0.234 over the pixels"):
        assert words in plots
    assert (
        "Threshold 0.25 gives pooled IoU 0.610 on this split. The best for this split would be 0.35 with 0.640: to "
        "choose without a look at it costs 0.030."
    ) in plots
    images = [e[1] for e in page.all("img") if e[1]["src"].startswith("data:image/svg+xml")]
    assert len(images) == 4 and all(i["alt"] for i in images)
    for image in images:
        assert b"<svg" in base64.b64decode(image["src"].partition(",")[2])


def test_plots_of_nothing_are_left_out(tmp_path):
    page = Page(write(tmp_path / "r.html"))
    *plots, _ = [e[1]["alt"] for e in page.all("img")]  # the last one is the bar of colours
    reliability = "Fraction of tumour over predicted probability; ECE 0.012"
    assert plots == [reliability, "Native Dice of the slices of each tumour type"]
    page = Page(write(tmp_path / "r.html", summary=make_summary(4, threshold_cost=COST)))
    assert "without a look at it costs 0.030" in page.words("section", id="plots")
    # A threshold that was not compared costs nothing that is known.
    cost = COST | {"chosen": 0.33, "micro_iou": None, "cost": None}
    page = Page(write(tmp_path / "r.html", summary=make_summary(4, threshold_cost=cost)))
    words = "Threshold 0.33 is none of those compared; of them the best for this split would be 0.35 with 0.640."
    assert words in page.words("section", id="plots")


def test_every_slice_is_embedded(tmp_path):
    rows = make_rows(7)
    page = Page(write(tmp_path / "r.html", 7, rows=rows))
    pictures = list(make_pictures(rows))
    assert [e[1]["id"] for e in page.all("script", **{"class": "picture"})] == [f"p{p.slice}" for p in pictures]
    for picture in pictures:
        assert script_json(page, id=f"p{picture.slice}") == picture_record(picture)


def test_every_row_is_embedded_with_its_measures(tmp_path):
    rows = make_rows(7)
    data = script_json(Page(write(tmp_path / "r.html", 7, rows=rows)), id="data")
    assert [dict(zip(data["columns"], values, strict=True)) for values in data["rows"]] == rows
    assert {m["key"] for m in data["measures"]} == set(rows[0]) - {"slice", "pid", "tumor"}
    worst = {m["key"]: m["worst"] for m in data["measures"]}
    assert (worst["native_dice"], worst["network_hd95"], worst["missed"]) == ("lowest", "highest", "highest")


def test_text_from_outside_stays_text(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)><!--<script>"
    text = write(tmp_path / "r.html", title=evil, rows=make_rows(4, pid=evil), summary=make_summary(4, split=evil))
    page = Page(text)
    assert page.one("h1")[2] == evil and page.one("title")[2].startswith(evil)
    data = script_json(page, id="data")
    assert {row[data["columns"].index("pid")] for row in data["rows"]} == {evil}
    assert "<script>alert" not in text and "<img src=x" not in text
    for _, attributes, _ in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
    # A title that is no Unicode is written all the same.
    assert "<h1>runs/?</h1>" in write(tmp_path / "r.html", title="runs/\udcff")


def test_the_page_allows_itself_its_own_script_and_style_and_no_network(tmp_path):
    page = Page(write(tmp_path / "r.html"))
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"})[1]["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"

    def digest(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    (script,) = [e for e in page.all("script") if "type" not in e[1]]
    assert rules["script-src"] == digest(script[2])
    assert rules["style-src"] == digest(page.one("style")[2])
    for tag, attributes, _ in page.elements:
        assert "style" not in attributes, tag
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            if tag != "data" and name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes[name])
    assert not re.search(r"@import|url\(", page.one("style")[2])
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import)\b", script[2])


def test_the_same_input_gives_the_same_bytes(tmp_path):
    first = write(tmp_path / "a.html", **PLOTS)
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "none"}):
        assert write(tmp_path / "b.html", **PLOTS) == first


def test_pictures_are_not_kept(tmp_path):
    rows, alive, most = make_rows(5), [], 0

    def stream():
        nonlocal most
        for picture in make_pictures(rows):
            alive.append(weakref.ref(picture))
            yield picture
            del picture
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))

    write(tmp_path / "r.html", 5, rows=rows, pictures=stream())
    assert len(alive) == 5 and most <= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[:-1], "1 slices have no picture, 13 the first"),
        (lambda p: [*p, p[0]], "slice 10 has two pictures or no row"),
        (lambda p: [p[0], Picture(99, p[0].image, p[0].mask, p[0].pred, p[0].probs)], "slice 99 has two pictures"),
    ],
)
def test_pictures_that_are_not_those_of_the_rows_leave_the_old_report(change, message, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ValueError, match=message):
        write(path, pictures=iter(change(list(make_pictures(make_rows(4))))))
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"] and path.read_text() == "old"


def test_how_masks_were_made_is_told_where_it_is_not_the_usual_way(tmp_path):
    plain = write(tmp_path / "a.html", summary=make_summary(4, tta=False, postprocess=None))
    assert "Native masks" not in plain and "Test-time" not in plain
    cleaned = {"min_pixels": 25, "fill_holes": True}
    told = write(tmp_path / "b.html", summary=make_summary(4, tta=True, postprocess=cleaned))
    assert "<dt>Native masks</dt><dd>without components of under 25 pixels, holes filled</dd>" in told
    assert "<dt>Test-time augmentation</dt><dd>averaged with the mirror image</dd>" in told
    cleaned["fill_holes"] = False
    assert "<dd>without components of under 25 pixels</dd>" in write(
        tmp_path / "c.html", summary=make_summary(4, postprocess=cleaned)
    )
