"""Budgets, claims, seeds, devices, progress and plots; the rest of the kit has files of its own."""

import html
import io
import json
import random
import re
import warnings
from types import SimpleNamespace

import IPython.display
import nbclient
import nbformat
import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from matplotlib import pyplot as plt

from seq2seq.kit import ClaimError, budget, claim, device, plots, progress, seed_everything
from seq2seq.kit.progress import Progress

# budget


def test_the_budget_is_cpu_unless_told(monkeypatch):
    monkeypatch.delenv("SEQ2SEQ_BUDGET", raising=False)
    assert budget.name() == "cpu"


@pytest.mark.parametrize("name, chosen, steps, without_full", [
    ("smoke", 3, 2, 3), ("cpu", 5, 11, 11), ("full", 7, 13, 11),
])
def test_each_budget_chooses_its_own(monkeypatch, name, chosen, steps, without_full):
    monkeypatch.setenv("SEQ2SEQ_BUDGET", name)
    assert budget.choose(full=7, smoke=3, cpu=5) == chosen
    assert budget.steps(11, 13, smoke=2) == steps and budget.steps(11) == without_full


@pytest.mark.parametrize("name", ["quick", "CPU", ""])
def test_a_budget_that_does_not_exist_is_named(monkeypatch, name):
    monkeypatch.setenv("SEQ2SEQ_BUDGET", name)
    with pytest.raises(ValueError, match=rf"SEQ2SEQ_BUDGET is '{name}'; set it to one of smoke, cpu, full"):
        budget.steps(5)


@pytest.mark.parametrize("wrong", [{"cpu": 0}, {"cpu": -5}, {"cpu": 2.5}, {"cpu": "100"}, {"cpu": True},
                                   {"cpu": 5, "full": 0}, {"cpu": 5, "smoke": 0}])
@pytest.mark.parametrize("name", budget.NAMES)
def test_steps_are_whole_numbers_under_every_budget(monkeypatch, name, wrong):
    monkeypatch.setenv("SEQ2SEQ_BUDGET", name)
    with pytest.raises(ValueError, match="a whole number of steps, at least 1"):
        budget.steps(**wrong)
    assert budget.steps(cpu=np.int64(7), full=7, smoke=7) == 7


@pytest.mark.parametrize("name", budget.NAMES)
def test_one_step_is_enough(monkeypatch, name):
    monkeypatch.setenv("SEQ2SEQ_BUDGET", name)
    assert budget.steps(1, 1, smoke=1) == 1


# claims


@pytest.fixture
def at(monkeypatch):
    """Sets the budget and whether claims are strict."""

    def set_to(name: str, claims: str | None = None) -> None:
        monkeypatch.setenv("SEQ2SEQ_BUDGET", name)
        if claims is None:
            monkeypatch.delenv("SEQ2SEQ_CLAIMS", raising=False)
        else:
            monkeypatch.setenv("SEQ2SEQ_CLAIMS", claims)

    return set_to


@pytest.mark.parametrize("claims", [None, "strict"])
def test_a_claim_that_holds_is_silent_and_leaves_its_data(at, claims):
    at("cpu", claims)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = claim('A "<b>" beats B & C.', 3 > 2, measured="3 > 2")
    assert repr(result) == 'Claim holds: A "<b>" beats B & C. Measured: 3 > 2'
    box = result._repr_html_()
    assert 'class="claim claim-holds"' in box and "<b>" not in box
    data = json.loads(html.unescape(re.search(r'data-claim="([^"]*)"', box)[1]))
    assert data == {"text": 'A "<b>" beats B & C.', "verdict": "holds", "measured": "3 > 2"}


def test_a_claim_that_fails_warns_a_reader_at_the_readers_own_line(at):
    at("cpu")
    with pytest.warns(UserWarning, match=r"does not confirm: A beats B\. Measured: 1 and 2") as caught:
        result = claim("A beats B.", 1 > 2, measured="1 and 2")
    assert caught[0].filename == __file__
    assert "does not hold" in repr(result) and "claim-fails" in result._repr_html_()


@pytest.mark.parametrize("name", ["cpu", "full"])
def test_a_claim_that_fails_stops_a_strict_build(at, name):
    at(name, "strict")
    with pytest.raises(ClaimError, match=r"A beats B\. Measured: 1 and 2"):
        claim("A beats B.", np.bool_(False), measured="1 and 2")


@pytest.mark.parametrize("claims", ["strict", " STRICT", "1", "true", "Yes", "on"])
def test_strict_has_several_spellings(at, claims):
    at("cpu", claims)
    with pytest.raises(ClaimError):
        claim("A beats B.", False, measured="1 and 2")


@pytest.mark.parametrize("claims", ["lenient", "0", "False", "no", "off", ""])
def test_so_has_lenient(at, claims):
    at("cpu", claims)
    with pytest.warns(UserWarning, match="does not confirm"):
        claim("A beats B.", False, measured="1 and 2")


@pytest.mark.parametrize("budget_name", ["cpu", "smoke"])
def test_a_setting_that_means_neither_is_named(at, budget_name):
    at(budget_name, "stirct")
    with pytest.raises(ValueError, match="SEQ2SEQ_CLAIMS is 'stirct'; set it to strict or lenient"):
        claim("A beats B.", True, measured="2 and 1")


@pytest.mark.parametrize("holds", [float("nan"), [False], [], (x for x in "a"), None, 1, "yes", np.array([True]),
                                   torch.tensor(1.0)])
@pytest.mark.parametrize("budget_name", ["cpu", "smoke"])
def test_evidence_that_is_neither_true_nor_false_is_refused(at, budget_name, holds):
    at(budget_name)
    with pytest.raises(TypeError, match="a claim holds or not: give True or False"):
        claim("A beats B.", holds, measured="nothing")


@pytest.mark.parametrize("truth", [True, False])
def test_the_truth_of_numpy_and_of_torch_counts(at, truth):
    at("cpu", "lenient")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdicts = {repr(claim("A.", holds, measured="B.")) for holds in
                    (truth, np.bool_(truth), np.array(truth), torch.tensor(truth))}
    assert len(verdicts) == 1 and ("holds" in verdicts.pop()) is truth


@pytest.mark.parametrize("holds", [True, False])
def test_at_the_smoke_budget_no_claim_is_judged(at, holds):
    at("smoke", "strict")
    result = claim("A beats B.", holds, measured="nothing")
    assert "skipped" in repr(result) and "claim-skipped" in result._repr_html_()


# seeds and devices


@pytest.mark.parametrize(("text", "measured"), [("a", 5), (True, "b"), ("a", None), (None, "b")])
def test_a_claim_and_its_evidence_are_words(at, text, measured):
    at("cpu", "strict")
    with pytest.raises(TypeError, match="are words"):
        claim(text, True, measured)


def test_the_same_seed_draws_the_same():
    def draw() -> tuple:
        return random.random(), np.random.rand(), torch.rand(3).tolist()

    seed_everything(5)
    first, then = draw(), draw()
    seed_everything(5)
    assert draw() == first != then
    seed_everything(7)
    assert all(a != b for a, b in zip(draw(), first, strict=True))
    seed_everything(np.int64(5))
    assert draw() == first
    seed_everything()
    unnamed = draw()
    seed_everything(0)
    assert draw() == unnamed


@pytest.mark.parametrize("seed, error", [(-1, ValueError), (2**32, ValueError), (0.5, TypeError), ("1", TypeError)])
def test_a_seed_that_numpy_cannot_take_leaves_every_generator_alone(seed, error):
    seed_everything(2**32 - 1)
    state = random.getstate(), torch.get_rng_state().tolist()
    with pytest.raises(error):
        seed_everything(seed)
    assert (random.getstate(), torch.get_rng_state().tolist()) == state


@pytest.mark.parametrize("cuda, mps, kind", [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_device_there_is(gpus, cuda, mps, kind):
    gpus(cuda=cuda, mps=mps, broken=())
    assert device() == torch.device(kind)


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that there are GPUs, some of which this torch has no kernels for."""
    monkeypatch.delenv("SEQ2SEQ_DEVICE", raising=False)

    def pretend(*, cuda: bool, mps: bool, broken: tuple[str, ...]) -> None:
        def ones(*size, device):
            if device in broken:
                raise RuntimeError("CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA")
            return real(*size)

        real = torch.ones
        monkeypatch.setattr(torch, "ones", ones)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


def test_a_gpu_without_kernels_is_passed_over_with_a_sentence(gpus):
    gpus(cuda=True, mps=False, broken=("cuda",))
    with pytest.warns(UserWarning, match=r"the CPU is used; .* \(CUDA error: no kernel image is available\)") as caught:
        assert device() == torch.device("cpu")
    assert caught[0].filename == __file__


def test_a_gpu_computes_in_full_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    device()
    assert not torch.backends.cudnn.allow_tf32


def test_one_variable_forces_a_device(gpus, monkeypatch):
    gpus(cuda=True, mps=True, broken=())
    monkeypatch.setenv("SEQ2SEQ_DEVICE", "cpu")
    assert device() == torch.device("cpu")
    monkeypatch.setenv("SEQ2SEQ_DEVICE", "cuda:1")
    assert device() == torch.device("cuda", 1)
    monkeypatch.setenv("SEQ2SEQ_DEVICE", "")
    assert device() == torch.device("cuda")


@pytest.mark.parametrize("name", ["cuda", "gpu", "cpu:x"])
def test_a_device_that_does_not_work_is_named(monkeypatch, name):
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("here it works")
    monkeypatch.setenv("SEQ2SEQ_DEVICE", name)
    with pytest.raises(ValueError, match=f"SEQ2SEQ_DEVICE is '{name}', which does not work here; set it to cpu"):
        device()


# progress


class Cell:
    """One output cell, as IPython's display sees it."""

    def __init__(self):
        self.shown = []

    def __call__(self, bundle, raw, display_id):
        assert display_id and not self.shown, "a bar is displayed once and then rewritten"
        self.update(bundle, raw)
        return self

    def update(self, bundle, raw):
        assert raw and set(bundle) == {"text/html", "text/plain"}
        self.shown.append(bundle["text/html"])
        self.plain = bundle["text/plain"]


@pytest.fixture
def cell(monkeypatch) -> Cell:
    """What a notebook shows."""
    cell = Cell()
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", cell)
    return cell


def test_plain_python_is_no_notebook_and_a_log_file_stays_empty(capfd):
    assert not progress.in_notebook()
    steps = Progress(iter("abc"), "reading", total=3)
    seen = []
    for step in steps:
        seen.append(step)
        steps.note("loss 1.00")
    assert seen == ["a", "b", "c"] and capfd.readouterr() == ("", "")


class Terminal(io.StringIO):
    """Somebody is watching."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_with_its_label_and_the_last_note(monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    steps = Progress(iter("abc"), "reading", total=3)
    for step in steps:
        steps.note(f"at {step}")
    last = terminal.getvalue().rpartition("\r")[2]
    assert last.startswith("reading: 100%") and "3/3" in last and "at c" in last


def test_a_kernel_is_what_makes_a_notebook(monkeypatch):
    for shell, expected in ((None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel=1), True)):
        monkeypatch.setattr("IPython.get_ipython", lambda shell=shell: shell)
        assert progress.in_notebook() is expected


def test_a_notebooks_bar_is_one_output_that_is_empty_in_the_end(cell):
    steps = Progress(range(5), "a <b>", every=0.0)
    for step in steps:
        steps.note(f"loss {step} < 9")
        assert step == 0 or cell.plain.startswith(f"a <b>: {step} of 5 steps, 0 s")
    *bars, last = cell.shown
    assert last == "" and cell.plain == ""
    assert [int(re.search(r'value="(\d+)"', bar)[1]) for bar in bars] == [1, 2, 3, 4, 5]
    assert 'max="5"' in bars[-1] and "5 of 5 steps" in bars[-1] and "loss 4 &lt; 9" in bars[-1]
    assert 'aria-label="a &lt;b&gt;"' in bars[-1] and "<b>" not in bars[-1]


def test_an_interrupted_bar_stays_and_tells_how_far_it_came(cell):
    with pytest.raises(KeyboardInterrupt):
        for step in Progress(range(5), "training", every=0.0):
            if step == 3:
                raise KeyboardInterrupt
    assert "3 of 5 steps" in cell.shown[-1]


def test_a_bar_is_not_redrawn_at_every_step_and_what_is_quick_shows_none(cell, monkeypatch):
    assert sum(Progress(range(1000), "adding", every=60.0)) == sum(range(1000)) and cell.shown == []
    clock = iter(range(10_000))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    assert sum(Progress(range(1000), "adding", every=100.0)) == sum(range(1000))
    assert 10 <= len(cell.shown) <= 11


def test_no_steps_at_all(cell):
    assert list(Progress([], "nothing")) == [] and cell.shown == []


# plots


@pytest.fixture
def figures():
    """No figure is left open."""
    yield
    assert plt.get_fignums() == []


def test_a_picture_says_what_it_shows_and_takes_the_pages_ink(figures):
    with plt.rc_context():
        plots.use()
        figure, axes = plt.subplots()
        axes.plot([1, 2, 4], label="lengths")
        axes.set(xlabel="letters")
        picture = plots.show(figure, 'Lengths grow: 1 < 2 < "4".')
    assert repr(picture) == '[Figure: Lengths grow: 1 < 2 < "4".]'
    page = picture._repr_html_()
    assert 'role="img" aria-label="Lengths grow: 1 &lt; 2 &lt; &quot;4&quot;."' in page
    assert "currentColor" in page and plots.INK not in page and "<metadata>" not in page
    assert ">letters<" in page    # text stays text
    assert page.count("<svg") == 1 and "<?xml" not in page


def test_a_heat_map_is_as_many_pixels_as_it_has_cells():
    with plt.rc_context():
        plots.use()
        figure, axes = plt.subplots()
        axes.imshow(np.zeros((4, 6)), aspect="auto")
        [image] = re.findall(r"<image[^>]*>", plots.show(figure, "Zeros.").svg)
    assert 'width="6" height="4"' in image and "pixelated" in image


def test_a_picture_is_an_image_where_no_html_can_go(figures):
    with plt.rc_context():
        plots.use()
        plt.rcParams["figure.facecolor"] = "black"    # as a reader's own dark style may have it
        figure, axes = plt.subplots(figsize=(4, 2))
        axes.plot([1, 2, 4])
        picture = plots.show(figure, "Lengths grow.")
    assert "#000000" not in picture.svg    # the page is seen through
    bundle, _ = DisplayFormatter().format(picture)
    assert {"text/html", "image/png", "text/plain"} <= set(bundle)
    image = plt.imread(io.BytesIO(bundle["image/png"]))    # (height, width, channels)
    assert image.shape[:2] == (300, 600) and image.reshape(-1, image.shape[2])[0].tolist() == [1.0] * image.shape[2]


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_picture_without_words_is_refused(figures, alt):
    figure, _ = plt.subplots()
    with pytest.raises(ValueError, match="a figure needs a text alternative"):
        plots.show(figure, alt)


def test_the_same_figure_is_the_same_file_and_two_figures_share_no_id(figures):
    def drawn(alt: str) -> str:
        figure, axes = plt.subplots()
        axes.plot([1, 2], marker="o")
        return plots.show(figure, alt).svg

    def ids(svg: str) -> set[str]:
        return {name for name in re.findall(r'<(?:path|clipPath) id="([^"]+)"', svg)}

    one, again, two = drawn("one"), drawn("one"), drawn("two")
    marks = {name for name in ids(one) if re.fullmatch(r"[mp]?[0-9a-f]{8,}", name)}
    assert one == again and marks and not marks & ids(two)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, as WCAG 2.2 defines it."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", plots.colors)
@pytest.mark.parametrize("page", ["#ffffff", "#131517"])
def test_curves_are_seen_on_a_light_and_on_a_dark_page(name, page):
    assert contrast(plots.colors[name], page) >= 3


def test_a_loss_curve_tells_its_ends_and_its_floor(figures):
    falling = plots.loss_curve([4.0, 2.0, 1.0], floor=0.7, window=2)
    floor = "predicted floor"
    assert falling.alt == f"Training loss falls from 4.00 to 1.50 nats per token over 3 steps. The {floor} is 0.70."
    assert f"{floor} 0.70" in falling.svg
    rising = plots.loss_curve(np.array([1.0, 2.0]), window=1)
    assert rising.alt == "Training loss goes from 1.00 to 2.00 nats per token over 2 steps."


def test_a_curve_that_does_not_end_below_its_start_does_not_fall(figures):
    for losses in ([2.0, 1.0, 9.0], [1.0, 5.0, 3.0], [2.0, 2.0], [3.0]):
        assert "loss goes from" in plots.loss_curve(losses, window=1).alt


def test_a_loss_curve_is_drawn_step_by_step(monkeypatch):
    monkeypatch.setattr(plots, "show", lambda figure, alt: figure)
    losses = [float(loss) for loss in range(50, 0, -1)]
    figure = plots.loss_curve(losses, floor=0.5)
    [axes] = figure.axes
    raw, mean, floor = axes.lines
    assert list(raw.get_xdata()) == list(mean.get_xdata()) == list(range(1, 51)) and list(raw.get_ydata()) == losses
    assert [mean.get_ydata()[i] for i in (0, 1, 19, 20, 49)] == [50.0, 49.5, 40.5, 39.5, 10.5]
    assert list(floor.get_ydata()) == [0.5, 0.5] and floor.get_linestyle() == "--"
    assert floor.get_color() not in (raw.get_color(), mean.get_color())
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["mean of 20 steps", "predicted floor 0.50"]
    assert raw.get_marker() == mean.get_marker() == ""    # hundreds of steps
    assert axes.get_ylim()[0] == 0 and (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss (nats per token)")
    plt.close(figure)


def test_curves_differ_in_more_than_their_colour(figures):
    with plt.rc_context():
        plots.use()
        figure, axes = plt.subplots()
        lines = [axes.plot([1, 2])[0] for _ in plots.colors]
        assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == len(lines)
        assert not axes.spines["top"].get_visible() and not axes.spines["right"].get_visible()
        plt.close(figure)


def test_no_losses_cannot_be_drawn(figures):
    with pytest.raises(ValueError, match="train for at least one step"):
        plots.loss_curve([])
    with pytest.raises(ValueError, match="window must be at least 1"):
        plots.loss_curve([1.0], window=0)


# in a kernel


def test_a_finished_bar_leaves_nothing_in_a_notebook():
    source = "from seq2seq.kit.progress import Progress\nfor step in Progress(range(3), 'training', every=0.0): pass"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    outputs = notebook.cells[0].outputs
    assert [output.data for output in outputs] == [{"text/html": "", "text/plain": ""}]
