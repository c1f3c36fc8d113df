"""What searches share: a model that is left as it was found."""

import pytest
from test_training import fresh, modes

from seq2seq.kit.search import evaluating


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_evaluating_gives_every_part_its_mode_back(error):
    model = fresh()
    model.decoder.dropout.eval()
    before = modes(model)
    try:
        with evaluating(model):
            assert not any(modes(model))
            if error:
                raise error
    except (ValueError, KeyboardInterrupt) as raised:
        assert type(raised) is error
    assert modes(model) == before
