"""Fused attention gives the numbers of the one that is written out, wherever it stands."""

import copy

import pytest
import torch
from torch.nn import functional as F

from seq2seq.cached_decoding import FusedAttention, fuse
from seq2seq.encoder_decoder import Decoder
from seq2seq.sequences import Vocab, collate
from seq2seq.transformer import MultiHeadAttention, ScaledDotProductAttention, padding_mask, transformer_model

B, H, T, S, D = 3, 5, 4, 7, 30
PADDING = torch.arange(S) >= torch.tensor([[7], [1], [3]])                      # (B, S)
close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def exact():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", ["none", "boolean", "numbers"])
@pytest.mark.parametrize("scaled", [True, False])
def test_fused_attention_is_torchs_and_ours_with_every_mask(kind, scaled):
    q, k, v = (torch.randn(B, H, n, 6, requires_grad=True) for n in (T, S, S))
    numbers = torch.randn(B, 1, T, S)
    mask, theirs = {"none": (None, None), "boolean": (padding_mask(PADDING), ~padding_mask(PADDING)),
                    "numbers": (numbers, numbers)}[kind]
    found, weights = FusedAttention(scaled)(q, k, v, mask)
    assert weights is None
    close(found, F.scaled_dot_product_attention(q, k, v, theirs, scale=6**-0.5 if scaled else 1.0))
    expected, _ = ScaledDotProductAttention(scaled)(q, k, v, mask)
    close(found, expected)
    gradients = [torch.autograd.grad(x.square().sum(), (q, k, v)) for x in (found, expected)]
    for mine, other in zip(*gradients, strict=True):
        close(mine, other, atol=1e-9, rtol=1e-7)


def test_what_is_hidden_is_hidden():
    q, k, v = (torch.randn(B, H, n, 6) for n in (T, S, S))
    mask, attend = padding_mask(PADDING), FusedAttention()
    other = v.masked_fill(PADDING[:, None, :, None], 99.0)
    close(attend(q, k, other, mask)[0], attend(q, k, v, mask)[0])
    assert not torch.allclose(attend(q, k, other)[0], attend(q, k, v)[0])


def test_fuse_exchanges_every_attention_and_no_number():
    model = transformer_model(Vocab("abcdefg"), Vocab("ABCDE"), D, H, 2).eval()
    model.decoder.layers[0].self_attention.attend.scaled = False
    fused = fuse(copy.deepcopy(model))
    parts = [p for p in fused.modules() if isinstance(p, MultiHeadAttention)]
    assert len(parts) == 6 and all(type(p.attend) is FusedAttention for p in parts)
    assert not fused.decoder.layers[0].self_attention.attend.scaled and parts[0].attend.scaled
    assert fuse(fused) is fused
    batch = collate([([4, 5, 6], [7, 4]), ([9], [5, 6, 8]), ([], [])])
    close(fused(batch), model(batch))
    memory = fused.encoder(batch.src, batch.src_padding)
    close(Decoder.forward(fused.decoder, batch.tgt[:, :-1], memory), model(batch))
    fused(batch).square().sum().backward()
    model(batch).square().sum().backward()
    for mine, other in zip(fused.parameters(), model.parameters(), strict=True):
        close(mine.grad, other.grad, atol=1e-9, rtol=1e-7)


def test_a_step_of_a_fused_decoder_has_no_weights():
    model = fuse(transformer_model(Vocab("abc"), Vocab("AB"), D, H, 1)).eval()
    src = torch.tensor([[4, 2]])
    state = model.decoder.init_state(model.encoder(src, src == Vocab.pad))
    assert model.decoder.step(torch.tensor([1]), state).weights is None
