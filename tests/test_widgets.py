import math
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client import KernelManager
from nbclient import NotebookClient

from seq2seq.kit.widgets import explorer, live, plain, stepper, strip

ROOT = Path(__file__).resolve().parents[1]
VIEW = "application/vnd.jupyter.widget-view+json"
# Another Python whose kernel and ipywidgets are to be tested, such as that of tools/colab_check.py.
PYTHON = os.environ.get("WIDGETS_PYTHON", sys.executable)


def test_every_frame_is_there_without_a_script():
    html = stepper(["<b>one</b>", "two"], label="Counting").html()
    assert "<li><b>one</b></li>" in html and "<li>two</li>" in html
    assert '<div class="stepper-controls" hidden>' in html     # no dead buttons where no script runs


def test_the_slider_has_a_name_and_the_range_of_the_frames():
    html = stepper(["a", "b", "c"], label='Say "cat" & stop').html()
    assert 'type="range" min="1" max="3"' in html
    assert 'aria-label="Say &quot;cat&quot; &amp; stop"' in html


def test_text_alternative():
    assert repr(stepper(["<b>one</b> &amp; only", "two"], label="Counting")) == "Counting\n1. one & only\n2. two"
    assert repr(stepper(["<svg></svg>"], label="Picture", texts=["a cat"])) == "Picture\n1. a cat"
    assert plain("<p>a<br>b</p>") == "a b"


def test_bundle_offers_both_and_asks_no_other_host():
    bundle = stepper(["a"], label="x")._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "http" not in bundle["text/html"]


def test_bad_input_says_what():
    with pytest.raises(ValueError, match="at least one frame"):
        stepper([], label="x")
    with pytest.raises(ValueError, match="2 frames need 2 texts, not 1"):
        stepper(["a", "b"], label="x", texts=["a"])
    for frames, label in ((["a", " "], "x"), (["<svg></svg>"], "x"), (["a"], " ")):
        with pytest.raises(ValueError, match="a label, and words in every frame"):
            stepper(frames, label=label)
    assert "1. a line" in repr(stepper(["<svg></svg>"], label="x", texts=["a line"]))


def test_a_strip_says_what_it_shows():
    html = strip([0.5, -1.0, 0.0], label="state & context")
    assert 'aria-label="state &amp; context: 3 numbers between -1.00 and 0.50"' in html
    assert plain(html) == "1 −1 0 state & context 2"   # scale; first index, name, last index
    heights = [float(height) for height in re.findall(r'<rect x=[^>]* height="([\d.]+)"', html)]
    assert heights == [0.5, 1.0, 0.0] and html.count("<svg") == 1                    # one row, never wrapped
    assert '<rect x="0.08" y="0.500"' in html and '<rect x="1.08" y="1.000"' in html   # up from the middle, and down


def test_a_strip_scales_to_its_largest_number_or_to_what_it_is_told():
    assert plain(strip([0.1, 4.0], label="x")).startswith("4 −4")
    assert plain(strip([0.1, 4.0], label="x", limit=2.0)).startswith("2 −2")
    assert 'height="2.000"' in strip([0.1, 4.0], label="x", limit=2.0)               # cut, not drawn outside
    for bad in ([], [float("nan")], [float("inf")]):
        with pytest.raises(ValueError, match="at least one number, all of them finite"):
            strip(bad, label="x")
    with pytest.raises(ValueError, match="needs a label"):
        strip([1.0], label=" ")


def test_an_explorer_says_where_each_target_looks_without_a_script():
    html = explorer(["c", "<a>"], ["K", "AE"], [[1.0, 0.0], [0.25, 0.75]], label="cat & co", share=0.2)
    assert 'aria-label="cat &amp; co"' in html and "http" not in html
    assert "<li>K looks at c 100%</li><li>AE looks at &lt;a&gt; 75%, c 25%</li>" in html     # the most first
    assert html.count('<div class="explorer-row" hidden') == 2                              # no dead buttons
    assert 'data-weights="0.250 0.750" data-says="AE looks at &lt;a&gt; 75%, c 25%">AE</button>' in html
    assert plain(html) == "c <a> K AE K looks at c 100% AE looks at <a> 75%, c 25%"          # no style, no script
    assert "nothing in particular" in explorer(["a", "b"], ["X"], [[0.05, 0.0]], label="x")


def test_an_explorer_wants_a_weight_for_every_pair():
    for sources, targets, weights, label in (
        (["a"], ["X"], [[0.5, 0.5]], "x"), (["a", "b"], ["X", "Y"], [[0.5, 0.5]], "x"), ([], [], [], "x"),
        (["a"], ["X"], [[1.0]], " "),
    ):
        with pytest.raises(ValueError, match="a label, and for each of"):
            explorer(sources, targets, weights, label=label)
    for wrong in (-0.5, 1.5):
        with pytest.raises(ValueError, match="between 0 and 1"):
            explorer(["a"], ["X"], [[wrong]], label="x")


def say(word="", times=1):
    if not word.isascii():
        raise ValueError(f"{word} has letters that the model does not know")
    return f"<p>said: {' '.join([word.upper()] * times)}.</p>"


def test_without_a_kernel_the_examples_are_frames():
    shown = live(say, label="Say it", examples=["knight", ""], word="knight")
    assert shown.texts == ["word: knight said: KNIGHT.", "word: said: ."]
    several = live(say, label="Say it", examples=[{"word": "a<b", "times": 2}], word="x", times=(1, 3))
    assert "<p>word: <b>a&lt;b</b>, times: <b>2</b></p><p>said: A<B A<B.</p>" in several.html()
    assert VIEW not in shown._repr_mimebundle_()
    table = type("Table", (), {"_repr_html_": lambda self: "<p>a table</p>"})
    assert "a table" in live(lambda word: table(), label="x", examples=["a"], word="a").html()


def test_a_text_is_no_list_of_frames_texts_or_examples():
    for wrong in (lambda: stepper("abc", label="x"), lambda: stepper(["a", "b"], label="x", texts="ab"),
                  lambda: live(say, label="x", examples="cat", word="cat")):
        with pytest.raises(ValueError, match="list"):
            wrong()


@pytest.mark.parametrize("limit", [0, -1, math.nan, math.inf])
def test_a_strip_has_a_height(limit):
    with pytest.raises(ValueError, match="a number above 0"):
        strip([1.0, -2.0], label="x", limit=limit)


def test_live_says_what_is_wrong():
    with pytest.raises(ValueError, match="live needs a control"):
        live(say, label="x", examples=["a"])
    with pytest.raises(ValueError, match=r"an example is a dictionary, such as {'word': '…', 'times': '…'}"):
        live(say, label="x", examples=["a"], word="a", times=(1, 3))
    with pytest.raises(ValueError, match="at least one frame"):
        live(say, label="x", examples=[], word="a")
    with pytest.raises(ValueError, match="letters that the model does not know"):   # on the site the author must see it
        live(say, label="x", examples=["né"], word="a")


CELL = """
from seq2seq.kit.widgets import live

def say(word, times):
    print("asked for", word)
    if not word.isascii():
        raise ValueError(f"{word} <b>has</b> unknown letters")
    return f"<p>said: {' '.join([word.upper()] * times)}.</p>"

examples = [{"word": "box", "times": 1}, {"word": "né", "times": 1}]
live(say, label="Say it", examples=examples, word="knight", times=(1, 3))
"""


class Kernel:
    """A kernel as a notebook's front end meets it: cells run, and controls change by messages."""

    def __init__(self):
        self.manager = KernelManager()
        self.manager.kernel_cmd = [PYTHON, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SEQ2SEQ_WIDGETS": ""}   # as for a reader
        self.manager.start_kernel(env=environment)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)
        self.models: dict[str, dict] = {}                # comm id -> state, as the front end would keep it

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def answer(self, request: str) -> list[dict]:
        """All messages that a request causes, until the kernel is idle."""
        said = []
        while True:
            message = self.client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return said
            if kind == "comm_open" or (kind == "comm_msg" and content["data"].get("method") == "update"):
                self.models.setdefault(content["comm_id"], {}).update(content["data"]["state"])
            said.append({"kind": kind, **content})

    def run(self, code: str) -> list[dict]:
        return self.answer(self.client.execute(code))

    def set(self, description: str, value: object) -> str:
        """Change a control, as typing and Enter do; returns the HTML that then stands in the output."""
        [comm] = [name for name, state in self.models.items() if state.get("description") == description]
        data = {"method": "update", "state": {"value": value}, "buffer_paths": []}
        message = self.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        self.client.shell_channel.send(message)
        said = self.answer(message["header"]["msg_id"])
        assert [m["kind"] for m in said if m["kind"] in ("clear_output", "display_data", "error")] == [
            "clear_output", "display_data"]
        return next(m["data"]["text/html"] for m in said if m["kind"] == "display_data")


@pytest.fixture(scope="module")
def kernel():
    running = Kernel()
    yield running
    running.stop()


def test_in_a_kernel_the_model_answers_to_what_the_reader_types(kernel):
    said = kernel.run(CELL)
    assert "error" not in [m["kind"] for m in said]
    assert "said: KNIGHT KNIGHT." in next(m["data"]["text/html"] for m in said if m["kind"] == "display_data")
    bundle = next(m["data"] for m in said if m["kind"] == "execute_result")
    box = kernel.models[bundle[VIEW]["model_id"]]
    inside = [kernel.models[child.removeprefix("IPY_MODEL_")] for child in box["children"]]
    assert [state["_model_name"] for state in inside] == ["HTMLModel", "TextModel", "IntSliderModel", "OutputModel"]
    assert inside[0]["value"] == "<b>Say it</b>"
    assert [state["description"] for state in inside[1:3]] == ["word", "times"]
    assert [state["continuous_update"] for state in inside[1:3]] == [False, False]   # asked once, not at each key
    assert "said: QUEUE QUEUE." in kernel.set("word", "queue")
    assert "said: QUEUE QUEUE QUEUE." in kernel.set("times", 3)
    assert "said:   ." in kernel.set("word", "")
    assert "<summary>ValueError: é &lt;b&gt;has&lt;/b&gt; unknown letters</summary>" in kernel.set("word", "é")
    assert "said: BOX BOX BOX." in kernel.set("word", "box")                         # an error is not the end
    # What cannot show controls has the answers to the examples in the same output.
    assert "said: BOX." in bundle["text/html"] and "né &lt;b&gt;has" in bundle["text/html"]
    assert "1. word: box" in bundle["text/plain"]


def test_a_cell_may_run_twice(kernel):
    for _ in range(2):
        kernel.models.clear()
        assert any(VIEW in m.get("data", {}) for m in kernel.run(CELL))
        assert "said: TWICE TWICE." in kernel.set("word", "twice")


def test_in_a_kernel_without_ipywidgets_the_examples_are_frames(kernel):
    kernel.run("import seq2seq.kit.widgets as w; found, w.find_spec = w.find_spec, lambda name: None")
    said = kernel.run(CELL.replace('"né"', '"queue"'))
    kernel.run("w.find_spec = found")
    bundle = next(m["data"] for m in said if m["kind"] == "execute_result")
    assert VIEW not in bundle and "said: QUEUE." in bundle["text/html"]


@pytest.mark.skipif(sys.executable != PYTHON, reason="pages are built with the book's own environment")
def test_the_site_keeps_frames_and_no_state(monkeypatch):
    monkeypatch.setenv("SEQ2SEQ_WIDGETS", "static")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.replace('"né"', '"queue"'))])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert "widgets" not in notebook.metadata
    [result] = [output for output in notebook.cells[0].outputs if output.output_type == "execute_result"]
    assert set(result.data) == {"text/html", "text/plain"} and "said: QUEUE." in result.data["text/html"]


@pytest.mark.skipif(sys.executable != PYTHON, reason="tested by the book's own environment")
def test_a_notebook_that_is_run_as_a_whole_keeps_both(monkeypatch):
    monkeypatch.delenv("SEQ2SEQ_WIDGETS", raising=False)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL) for _ in range(2)])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for cell in notebook.cells:
        assert {VIEW, "text/html", "text/plain"} <= set(cell.outputs[-1].data)
