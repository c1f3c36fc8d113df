import pytest

from seq2seq.kit.widgets import plain, stepper


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
