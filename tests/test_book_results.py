import json
import re
from pathlib import Path

import numpy as np
import pytest
from book_pages import label_cells
from book_results import (
    BASE,
    System,
    difference,
    dots,
    latency,
    lengths,
    measured_on,
    minutes,
    parameters,
    systems,
    table,
)

ROOT = Path(__file__).resolve().parents[1]

PROVENANCE = {"machine": "two <cores>", "torch": "2.14", "date": "2030-01-31", "seconds": 60.0}


def digits(numbers) -> str:
    return "".join(np.base_repr(int(number), 36).lower() for number in numbers)


def row(settings: dict, edits: np.ndarray | None = None, per: float = 0.2, **more) -> dict:
    result = {"per": per, "wer": 0.5, "by_length": {"1–5": per / 2, "15+": 2 * per}, **more}
    if edits is not None:
        size = np.full(len(edits), 10)
        result |= {"per": float(edits.sum() / size.sum()), "edits": digits(edits), "lengths": digits(size)}
    return {"settings": settings, "result": result, "first_losses": [], "provenance": PROVENANCE}


def write(folder: Path, name: str, *rows: dict) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"study": name, "rows": rows}))


@pytest.fixture
def records(tmp_path) -> Path:
    """A base, a variant that makes one edit more in every word, one that only wins by chance, and what is no result."""
    rng = np.random.default_rng(1)
    base = rng.integers(1, 11, size=400)
    write(tmp_path, "bottleneck-variants",
          *(row({"seed": seed}, base) for seed in (0, 1)),
          *(row({"context": "initial", "seed": seed}, base + 1) for seed in (0, 1)),
          *(row({"cell": "lstm", "seed": seed}, rng.permutation(base) - (np.arange(400) < 20)) for seed in (0, 1)))
    write(tmp_path, "bottleneck-g2p-en", row({"seed": 0}, per=0.08))
    write(tmp_path, "bottleneck-learning-rates", row({"lr": 0.1, "split": "validation", "seed": 0}, base))
    write(tmp_path, "bottleneck-translation", {**row({"seed": 0}), "result": {"bleu": 28.0}})
    return tmp_path


def test_the_base_stands_first_and_the_others_by_their_error(records):
    found = systems(records)
    assert found[0].name == BASE and len(found[0].rows) == 2
    assert [system.name for system in found[1:]] == [
        "g2p-en, published weights", "the same, LSTM cell", "the same, context vector at the start only"]


def test_a_difference_is_of_the_same_words(records):
    base, published, lstm, once = systems(records)
    assert difference(once, base) == "+10.0 (+10.0 to +10.0)"      # every word one edit of ten more: no doubt at all
    gap, low, high = (float(n.replace("−", "-")) for n in re.findall(r"[+−][\d.]+", difference(lstm, base)))
    assert low < 0 < high and gap == pytest.approx(-0.5, abs=0.051)  # other words: nothing to be sure of
    assert difference(published, base) == f"−{100 * (base.mean('per') - 0.08):.1f}"   # no words on record, no interval


def test_words_are_summed_over_the_seeds(records):
    base = systems(records)[0]
    edits, lengths = base.words().T
    assert lengths.tolist() == [20] * 400                           # lengths of ten, of two seeds
    assert edits.sum() / lengths.sum() == pytest.approx(base.mean("per"))


def test_the_table_links_to_the_files(records):
    html = table(systems(records), "https://example.org/records/")
    assert html.count("<tr>") == 5
    assert '<a href="https://example.org/records/bottleneck-variants.json">bottleneck-variants</a>' in html
    assert "bottleneck-learning-rates" not in html and "bottleneck-translation" not in html
    first = html.split("<tr>")[2]
    assert "<td></td>" in first                                     # the base is compared with nothing
    assert '<th scope="col">parameters</th><th scope="col">minutes</th>' in html
    assert "<td>2</td><td></td><td>1</td><td><a" in first           # two seeds, no count on record, a minute


@pytest.mark.parametrize(("seconds", "told"), [((60, 120), "2"), ((3600,), "60"), ((30,), "0.5"), ((1,), "&lt; 0.1")])
def test_minutes_are_those_of_the_longest_run(seconds, told):
    rows = [{"provenance": {"seconds": float(each)}, "result": {}} for each in seconds]
    assert minutes(System("any", {}, rows)) == told
    rows[-1]["provenance"]["accelerator"] = "NVIDIA T4"
    assert minutes(System("any", {}, rows)) == f"{told} GPU"
    assert parameters(System("any", {}, rows)) == ""
    rows[0]["result"]["parameters"] = 1_234_567
    assert parameters(System("any", {}, rows)) == "1.23 M"


def test_pictures_say_in_words_what_they_show(records):
    found = systems(records)
    html = dots(found)
    assert html.count("<i ") == 7 and html.count("<b ") == 4        # a dot for each seed, a bar for each system
    assert html.count("<s ") == 3                                   # an interval where the words are kept
    assert f"{BASE} {100 * found[0].mean('per'):.1f} %" in re.search(r'aria-label="([^"]*)"', html)[1]
    places = [float(x) for x in re.findall(r"left:([\d.]+)%", html)]
    assert max(places) <= 100 and min(places) >= 0
    bars = lengths(found)
    heights = [float(x) for x in re.findall(r"height:([\d.]+)rem", bars)]
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.05)
    assert "bars-key" in bars and "attention" not in bars           # which is not among these records
    assert measured_on(found) == "two <cores>, torch 2.14, 2030-01"
    found[0].rows[0]["provenance"] = {**PROVENANCE, "accelerator": "NVIDIA T4"}
    both = "NVIDIA T4 beside two <cores>, torch 2.14, 2030-01; two <cores>, torch 2.14, 2030-01"
    assert measured_on(found) == both


def test_times_stand_by_device_and_batch(tmp_path):
    times = {"AR": {"1": 9.0, "64": 1.25}, "A & B": {"1": 3.0, "64": 1.5}}
    fast = {name: {size: ms / 2 for size, ms in row.items()} for name, row in times.items()}
    rows = [{"provenance": {"machine": "Xeon, 16 cores"}, "result": {"milliseconds": times}},
            {"provenance": {"machine": "Xeon, 16 cores", "accelerator": "H1"}, "result": {"milliseconds": fast}}]
    (tmp_path / "nonautoregressive-latency.json").write_text(json.dumps({"rows": rows}))
    html = latency(tmp_path)
    heads = re.findall(r'<th scope="col">(.*?)</th>', html)
    assert heads == ["words at a time", "CPU, 1", "CPU, 64", "GPU, 1", "GPU, 64"]
    assert "<p>CPU: Xeon, one thread; GPU: H1.</p>" in html
    cells = [re.findall("<td>(.*?)</td>", row) for row in html.split("<tr>")[2:]]
    assert cells == [["AR", "9.00", "1.25", "4.50", "0.62"], ["A &amp; B", "3.00", "1.50", "1.50", "0.75"]]


def test_the_books_own_records_can_be_shown():
    found = systems(ROOT / "seq2seq/records")
    assert found[0].is_base and len(found) > 5
    assert len({system.name for system in found}) == len(found)     # two rows of one name would puzzle a reader
    assert not any(system.name.startswith(system.study) for system in found)
    pairs = re.findall(r"one vector (\d+) %, attention (\d+) %", lengths(found))
    assert len(pairs) == 4 and all(int(one) > int(other) for one, other in pairs)


TABLE = ('<table class="table"><thead><tr><th class="head"><p>A &amp; B</p></th><th>PER</th><th>WER</th></tr></thead>'
         "<tbody><tr><td><p>x</p></td><td>1</td><td>2</td></tr></tbody></table>")


def test_cells_are_named_for_the_phone():
    done = label_cells(f"<p>{TABLE}</p>{TABLE}")
    assert done.count('data-cards=""') == 2
    assert '<td data-label="A &amp; B"><p>x</p></td><td data-label="PER">1</td><td data-label="WER">2</td>' in done
    two = "<table><thead><tr><th>A</th><th>B</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table>"
    frame = TABLE.replace('class="table"', 'class="dataframe"')
    joined = TABLE.replace("<td>1</td><td>2</td>", '<td colspan="2">1</td>')
    assert label_cells(two + frame + joined) == two + frame + joined
