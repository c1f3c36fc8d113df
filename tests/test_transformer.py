"""What must hold of the Transformer's parts and of the whole. Coprime sizes, so no axis can be swapped."""

import copy
import inspect
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seq2seq.cached_decoding import FusedAttention, fuse
from seq2seq.decoding import reorder
from seq2seq.encoder_decoder import Decoder, EncoderDecoder, Memory, greedy_search
from seq2seq.kit.training import train_step
from seq2seq.sequences import Batch, Vocab, collate
from seq2seq.transformer import (
    FeedForward,
    MultiHeadAttention,
    PositionalEncoding,
    Residual,
    ScaledDotProductAttention,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
    causal_mask,
    heads_of,
    layer_norm,
    padding_mask,
    sinusoids,
    transformer_model,
)

B, S, T, D, H, HIDDEN, V_SRC, V_TGT = 3, 7, 4, 30, 5, 11, 13, 17
LENGTHS = torch.tensor([7, 1, 3])
PADDING = torch.arange(S) >= LENGTHS[:, None]                         # (B, S)
NORMS = ("pre", "post")
close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def exact():
    """In double precision two ways to one number agree to ten digits, so a comparison can be strict."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def single():
    torch.set_default_dtype(torch.float32)


def shaken(model: nn.Module) -> nn.Module:
    """The model with no weight at its first value: biases of 0 and gains of 1 hide mistakes."""
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return model


def copy_attention(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    """torch keeps W_q, W_k and W_v in one matrix, one above the other."""
    projections = ours.W_q, ours.W_k, ours.W_v
    theirs.in_proj_weight.data = torch.cat([p.weight for p in projections]).detach()
    if theirs.in_proj_bias is not None:
        theirs.in_proj_bias.data = torch.cat([p.bias for p in projections]).detach()
    theirs.out_proj.load_state_dict(ours.W_o.state_dict())


def copy_layer(ours: nn.Module, theirs: nn.Module) -> None:
    decoder = isinstance(ours, TransformerDecoderLayer)
    copy_attention(ours.self_attention if decoder else ours.attention, theirs.self_attn)
    if decoder:
        copy_attention(ours.cross_attention, theirs.multihead_attn)
    theirs.linear1.load_state_dict(ours.feed_forward.W_1.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.W_2.state_dict())
    for i, residual in enumerate(ours.around, start=1):
        getattr(theirs, f"norm{i}").load_state_dict(residual.norm.state_dict())


def same_gradients(ours: nn.Module, theirs: nn.Module) -> None:
    """The gradients of a layer as those of torch's, part by part."""
    pairs = [(p.grad, q.grad) for p, q in parts_of(ours, theirs)]
    assert len(pairs) >= 2
    for a, b in pairs:
        close(a, b, atol=1e-9, rtol=1e-7)


def parts_of(ours: nn.Module, theirs: nn.Module):
    """Pairs of parameters-like objects whose .grad must agree."""

    class Joined:
        def __init__(self, tensors):
            self.grad = torch.cat([t.grad for t in tensors])

    def attention(a, t):
        three = a.W_q, a.W_k, a.W_v
        yield Joined([p.weight for p in three]), t.in_proj_weight
        if t.in_proj_bias is not None:
            yield Joined([p.bias for p in three]), t.in_proj_bias
            yield a.W_o.bias, t.out_proj.bias
        yield a.W_o.weight, t.out_proj.weight

    if isinstance(ours, MultiHeadAttention):
        yield from attention(ours, theirs)
        return
    decoder = isinstance(ours, TransformerDecoderLayer)
    yield from attention(ours.self_attention if decoder else ours.attention, theirs.self_attn)
    if decoder:
        yield from attention(ours.cross_attention, theirs.multihead_attn)
    for mine, other in ((ours.feed_forward.W_1, theirs.linear1), (ours.feed_forward.W_2, theirs.linear2)):
        yield from zip(mine.parameters(), other.parameters(), strict=True)
    for i, residual in enumerate(ours.around, start=1):
        yield from zip(residual.norm.parameters(), getattr(theirs, f"norm{i}").parameters(), strict=True)


def some_batch() -> Batch:
    lengths = [(7, 3), (0, 5), (4, 1), (2, 6), (5, 2)]
    draw = lambda n, size: torch.randint(4, size, (n,)).tolist()  # noqa: E731
    return collate([(draw(s, V_SRC), draw(t, V_TGT)) for s, t in lengths])


def a_model(norm: str = "pre", layers: int = 2, **options) -> EncoderDecoder:
    sizes = {"width": D, "heads": H, "layers": layers, "hidden_size": HIDDEN, "norm": norm, **options}
    decoder_only = {"tied": sizes.pop("tied")} if "tied" in sizes else {}
    decoder = TransformerDecoder(V_TGT, **sizes, **decoder_only)
    return shaken(EncoderDecoder(TransformerEncoder(V_SRC, **sizes), decoder))


# Attention

def by_hand(q, k, v, hidden):
    """One query, key and value at a time, in plain numbers."""
    rows = []
    for query, row in zip(q, hidden, strict=True):
        scores = [sum(a * b for a, b in zip(query, key, strict=True)) / math.sqrt(len(query)) for key in k]
        powers = [0.0 if h else math.exp(s) for s, h in zip(scores, row, strict=True)]
        total = sum(powers) or 1.0
        rows.append([sum(p / total * value[j] for p, value in zip(powers, v, strict=True)) for j in range(len(v[0]))])
    return torch.tensor(rows)


@pytest.mark.parametrize("attend", [ScaledDotProductAttention(), FusedAttention()])
def test_attention_is_the_equation(attend):
    q, k, v = torch.randn(T, 5), torch.randn(S, 5), torch.randn(S, 5)
    hidden = torch.rand(T, S) < 0.4
    hidden[2] = True
    found, weights = attend(q[None, None], k[None, None], v[None, None], hidden[None, None])
    close(found[0, 0], by_hand(q.tolist(), k.tolist(), v.tolist(), hidden.tolist()))
    if weights is not None:
        close(weights.sum(dim=-1)[0, 0], (~hidden.all(dim=-1)).double())
        assert (weights[0, 0][hidden] == 0).all() and (weights[0, 0][~hidden] > 0).all()
        close(weights @ v, found)


@pytest.mark.parametrize("kind", ["none", "boolean", "numbers", "both in numbers"])
@pytest.mark.parametrize("scaled", [True, False])
def test_attention_is_that_of_torch_with_every_mask(kind, scaled):
    q, k, v = (torch.randn(B, H, n, 6, requires_grad=True) for n in (T, S, S))
    numbers = torch.randn(1, H, T, S)
    masks = {"none": (None, None), "boolean": (padding_mask(PADDING), ~padding_mask(PADDING)),
             "numbers": (numbers, numbers)}
    hidden = numbers.masked_fill(padding_mask(PADDING), -torch.inf)
    masks["both in numbers"] = hidden, hidden
    ours, theirs = masks[kind]
    expected = F.scaled_dot_product_attention(q, k, v, theirs, scale=None if scaled else 1.0)
    gradients = torch.autograd.grad(expected.square().sum(), (q, k, v))
    for attend in (ScaledDotProductAttention(scaled), FusedAttention(scaled)):
        found, _ = attend(q, k, v, ours)
        close(found, expected)
        for g, e in zip(torch.autograd.grad(found.square().sum(), (q, k, v)), gradients, strict=True):
            close(g, e, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mask", ["none", "padding", "causal", "both", "numbers"])
def test_multi_head_attention_is_that_of_torch(mask, bias, fused):
    ours = shaken(MultiHeadAttention(D, H, bias=bias))
    theirs = nn.MultiheadAttention(D, H, bias=bias, batch_first=True)
    copy_attention(ours, theirs)
    ours = fuse(ours) if fused else ours
    queries = S if mask in ("causal", "both") else T
    query, key, value = torch.randn(B, queries, D), torch.randn(B, S, D), torch.randn(B, S, D)
    numbers, causal, padding = torch.randn(queries, S), causal_mask(S), padding_mask(PADDING)
    mine, arguments = {
        "none": (None, {}), "padding": (padding, {"key_padding_mask": PADDING}),
        "causal": (causal, {"attn_mask": causal[0, 0]}),
        "both": (causal | padding, {"attn_mask": causal[0, 0], "key_padding_mask": PADDING}),
        "numbers": (numbers[None, None], {"attn_mask": numbers}),
    }[mask]
    inputs = [[x.clone().requires_grad_() for x in (query, key, value)] for _ in range(2)]
    found, weights = ours(*inputs[0], mine)
    expected, their_weights = theirs(*inputs[1], **arguments, average_attn_weights=False)
    close(found, expected)
    if not fused:
        close(weights, their_weights)
    found.square().sum().backward()
    expected.square().sum().backward()
    same_gradients(ours, theirs)
    for a, b in zip(*inputs, strict=True):
        close(a.grad, b.grad, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("numbers", [False, True])
def test_a_query_that_sees_nothing_gets_zeros_and_gives_no_gradient(fused, numbers):
    attention = shaken(MultiHeadAttention(D, H))
    attention = fuse(attention) if fused else attention
    mask = padding_mask(torch.tensor([[False] * 5 + [True] * 2, [True] * S, [False] * S]))
    if numbers:
        mask = torch.zeros(mask.shape).masked_fill(mask, -torch.inf)
    query, states = torch.randn(B, T, D, requires_grad=True), torch.randn(B, S, D, requires_grad=True)
    output, weights = attention(query, states, states, mask)
    assert (output[1] == 0).all() and (output[0] != 0).all() and output.isfinite().all()
    assert fused or (weights[1] == 0).all()
    output.square().sum().backward()
    assert (query.grad[1] == 0).all() and (states.grad[1] == 0).all() and (states.grad[0, 5:] == 0).all()
    assert query.grad.isfinite().all() and states.grad.isfinite().all() and (states.grad[0, :5] != 0).any()
    attention.zero_grad()
    attention(query[1:2], states[1:2], states[1:2], mask[1:2])[0].sum().backward()
    assert all((p.grad == 0).all() for p in attention.parameters())


def test_masks_are_true_where_nothing_is_seen():
    assert padding_mask(PADDING).shape == (B, 1, 1, S) and torch.equal(padding_mask(PADDING)[:, 0, 0], PADDING)
    assert causal_mask(4)[0, 0].tolist() == [[False, True, True, True], [False, False, True, True],
                                             [False, False, False, True], [False] * 4]
    attention = shaken(MultiHeadAttention(D, H))
    x = torch.randn(B, S, D)
    weights = attention(x, x, x, padding_mask(PADDING))[1]
    hidden = PADDING[:, None, None].expand_as(weights)
    assert (weights[hidden] == 0).all() and (weights[~hidden] > 0).all()


def test_heads_are_attentions_of_their_own_slices():
    attention = shaken(MultiHeadAttention(D, H))
    query, states, d = torch.randn(B, T, D), torch.randn(B, S, D), D // H
    alone = []
    for h in range(H):
        rows = slice(h * d, (h + 1) * d)
        q, k, v = (F.linear(x, W.weight[rows], W.bias[rows]) for x, W in (
            (query, attention.W_q), (states, attention.W_k), (states, attention.W_v)))
        alone.append((q @ k.mT / math.sqrt(d)).softmax(dim=-1) @ v)
    close(attention(query, states, states)[0], attention.W_o(torch.cat(alone, dim=-1)))


# Positions, norm, feed-forward, residual

@pytest.mark.parametrize("width", [1, 2, 7, 30])
def test_sinusoids_are_those_of_the_paper(width):
    table = sinusoids(9, width)
    assert table.shape == (9, width)
    for t in range(9):
        for column in range(width):
            angle = t / 10_000 ** (2 * (column // 2) / width)
            assert math.isclose(table[t, column], (math.cos if column % 2 else math.sin)(angle), abs_tol=1e-5)


def test_positions_are_added_and_counted_from_where_the_text_goes_on():
    encoding, x = PositionalEncoding(7, 20), torch.randn(B, 5, 7)
    close(encoding(x), x + sinusoids(5, 7))
    close(encoding(x)[:, 3:], encoding(x[:, 3:], start=3))
    assert not list(encoding.parameters()) and not encoding.state_dict()
    learned = PositionalEncoding(7, 20, learned=True)
    [table] = learned.parameters()
    assert table.shape == (20, 7)
    close(learned(x[:, 3:], start=3), x[:, 3:] + table[3:5])
    for some in (encoding, learned):
        some(torch.zeros(1, 20, 7)), some(torch.zeros(1, 1, 7), start=19)
        with pytest.raises(ValueError, match="a sequence of 21 symbols, but positions=20"):
            some(torch.zeros(1, 21, 7))
        with pytest.raises(ValueError, match="21 symbols"):
            some(torch.zeros(1, 1, 7), start=20)


def test_layer_norm_is_that_of_torch_and_knows_one_vector_alone():
    x = 3 + 2 * torch.randn(B, S, D)
    gain, bias = torch.randn(D, requires_grad=True), torch.randn(D, requires_grad=True)
    ours, expected = layer_norm(x, gain, bias), F.layer_norm(x, (D,), gain, bias)
    close(ours, expected)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), (gain, bias)) for y in (ours, expected)), strict=True):
        close(a, b, atol=1e-3, rtol=1e-4)
    plain = layer_norm(x, torch.ones(D), torch.zeros(D))
    close(plain.mean(dim=-1), torch.zeros(B, S), atol=1e-5, rtol=0)
    close(plain.std(dim=-1, correction=0), torch.ones(B, S), atol=1e-4, rtol=0)
    close(plain[1:2, 3:4], layer_norm(x[1:2, 3:4], torch.ones(D), torch.zeros(D)))
    close(layer_norm(torch.full((1, D), 5.0), torch.ones(D), torch.zeros(D)), torch.zeros(1, D))


def test_feed_forward_and_residuals_are_the_equations():
    x, f = torch.randn(B, T, D), shaken(FeedForward(D, HIDDEN))
    close(f(x), (x @ f.W_1.weight.T + f.W_1.bias).clamp(min=0) @ f.W_2.weight.T + f.W_2.bias)
    for norm in NORMS:
        residual = shaken(Residual(D, norm=norm))
        y = f(residual.before(x))
        N = lambda z: F.layer_norm(z, (D,), residual.norm.weight, residual.norm.bias)  # noqa: E731, B023
        close(residual.after(x, y), x + f(N(x)) if norm == "pre" else N(x + f(x)))
    silent = Residual(D, dropout=1.0, norm="pre").train()
    close(silent.after(x, f(x)), x)
    with pytest.raises(ValueError, match="pre"):
        Residual(D, norm="before")


# Layers and stacks against torch's

@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("mask", ["none", "padding", "numbers"])
def test_the_encoder_layer_is_that_of_torch(norm, mask, fused):
    ours = shaken(TransformerEncoderLayer(D, H, hidden_size=HIDDEN, norm=norm))
    theirs = nn.TransformerEncoderLayer(D, H, HIDDEN, 0.0, batch_first=True, norm_first=norm == "pre")
    copy_layer(ours, theirs)
    ours = fuse(ours) if fused else ours
    numbers = torch.randn(S, S)
    mine, arguments = {"none": (None, {}), "padding": (padding_mask(PADDING), {"src_key_padding_mask": PADDING}),
                       "numbers": (numbers[None, None], {"src_mask": numbers})}[mask]
    x, z = (torch.ones(B, S, D).normal_(generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    shown = (~PADDING)[..., None]
    found, expected = ours(x, mine), theirs(z, **arguments)
    close(found * shown, expected * shown)
    (found * shown).square().sum().backward()
    (expected * shown).square().sum().backward()
    same_gradients(ours, theirs)
    close(x.grad, z.grad, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("norm", NORMS)
def test_the_decoder_layer_is_that_of_torch(norm):
    ours = shaken(TransformerDecoderLayer(D, H, hidden_size=HIDDEN, norm=norm))
    theirs = nn.TransformerDecoderLayer(D, H, HIDDEN, 0.0, batch_first=True, norm_first=norm == "pre")
    copy_layer(ours, theirs)
    x, z = (torch.ones(B, T, D).normal_(generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    h, g = (torch.ones(B, S, D).normal_(generator=torch.Generator().manual_seed(2)).requires_grad_() for _ in range(2))
    found = ours(x, h, causal_mask(T), padding_mask(PADDING))
    expected = theirs(z, g, tgt_mask=causal_mask(T)[0, 0], memory_key_padding_mask=PADDING)
    close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    same_gradients(ours, theirs)
    close(x.grad, z.grad, atol=1e-9, rtol=1e-7)
    close(h.grad, g.grad, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("norm", NORMS)
def test_the_stacks_are_nn_transformer(norm):
    """torch's has a last norm in both halves; so have ours, with pre-norm."""
    model = a_model(norm, layers=3)
    encoder, decoder = model.encoder, model.decoder
    theirs = nn.Transformer(D, H, 3, 3, HIDDEN, 0.0, batch_first=True, norm_first=norm == "pre")
    for ours, stack in ((encoder, theirs.encoder), (decoder, theirs.decoder)):
        for mine, other in zip(ours.layers, stack.layers, strict=True):
            copy_layer(mine, other)
        if norm == "pre":
            stack.norm.load_state_dict(ours.norm.state_dict())
        else:
            stack.norm = None
    batch = some_batch()
    causal = causal_mask(batch.tgt.shape[1] - 1)[0, 0]
    logits = decoder.output(theirs(
        encoder.embed(batch.src), decoder.embed(batch.tgt[:, :-1]), tgt_mask=causal,
        src_key_padding_mask=batch.src_padding, memory_key_padding_mask=batch.src_padding))
    found = model(batch)
    close(found, logits, atol=1e-9, rtol=1e-7)
    shared = [*encoder.embed.parameters(), *decoder.embed.parameters(), decoder.output.bias]
    expected = torch.autograd.grad(logits.square().mean(), [*shared, *theirs.parameters()])
    found.square().mean().backward()
    for p, gradient in zip(shared, expected, strict=False):
        close(p.grad, gradient, atol=1e-9, rtol=1e-7)
    for p, gradient in zip(theirs.parameters(), expected[len(shared):], strict=True):
        p.grad = gradient
    for ours, stack in ((encoder, theirs.encoder), (decoder, theirs.decoder)):
        for mine, other in zip(ours.layers, stack.layers, strict=True):
            same_gradients(mine, other)
        if norm == "pre":
            for p, q in zip(ours.norm.parameters(), stack.norm.parameters(), strict=True):
                close(p.grad, q.grad, atol=1e-9, rtol=1e-7)


def test_the_encoder_of_d2l():
    """Post-norm; heads as ours; no biases in its attention; the same scale and positions."""
    d2l = pytest.importorskip("d2l.torch")
    theirs = d2l.TransformerEncoder(V_SRC, D, HIDDEN, H, 2, 0.0)
    ours = shaken(TransformerEncoder(V_SRC, D, H, 2, hidden_size=HIDDEN, norm="post"))
    src = torch.randint(4, V_SRC, (B, S)).masked_fill(PADDING, 0)
    theirs(src, LENGTHS)                                               # its lazy layers find their sizes
    theirs.embedding.load_state_dict(ours.embed.embedding.state_dict())
    for mine, block in zip(ours.layers, theirs.blks, strict=True):
        for name in "qkvo":
            layer = getattr(mine.attention, f"W_{name}")
            layer.bias.data.zero_()
            getattr(block.attention, f"W_{name}").weight.data.copy_(layer.weight)
        block.ffn.dense1.load_state_dict(mine.feed_forward.W_1.state_dict())
        block.ffn.dense2.load_state_dict(mine.feed_forward.W_2.state_dict())
        for norm, residual in zip((block.addnorm1, block.addnorm2), mine.around, strict=True):
            norm.ln.load_state_dict(residual.norm.state_dict())
    expected = theirs(src, LENGTHS).masked_fill(PADDING[..., None], 0.0)
    close(ours(src, PADDING).states, expected)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_the_layers_of_marian(kind):
    """Post-norm; that is the only switch, once its activation is relu."""
    marian = pytest.importorskip("transformers.models.marian.modeling_marian")
    config = marian.MarianConfig(
        d_model=D, encoder_attention_heads=H, decoder_attention_heads=H, encoder_ffn_dim=HIDDEN, decoder_ffn_dim=HIDDEN,
        activation_function="relu", dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)
    config._attn_implementation = "eager"
    x, h = torch.randn(B, S, D), torch.randn(B, S, D)
    padding = torch.zeros(B, 1, S, S).masked_fill(padding_mask(PADDING), torch.finfo(torch.float64).min)
    causal = torch.zeros(B, 1, S, S).masked_fill(causal_mask(S), torch.finfo(torch.float64).min)
    if kind == "encoder":
        ours = shaken(TransformerEncoderLayer(D, H, hidden_size=HIDDEN, norm="post"))
        theirs = marian.MarianEncoderLayer(config)
        attentions = [(ours.attention, theirs.self_attn)]
        norms = [theirs.self_attn_layer_norm, theirs.final_layer_norm]
    else:
        ours = shaken(TransformerDecoderLayer(D, H, hidden_size=HIDDEN, norm="post"))
        theirs = marian.MarianDecoderLayer(config, layer_idx=0)
        attentions = [(ours.self_attention, theirs.self_attn), (ours.cross_attention, theirs.encoder_attn)]
        norms = [theirs.self_attn_layer_norm, theirs.encoder_attn_layer_norm, theirs.final_layer_norm]
    for mine, other in attentions:
        for name, layer in zip("qkvo", ("q_proj", "k_proj", "v_proj", "out_proj"), strict=True):
            getattr(other, layer).load_state_dict(getattr(mine, f"W_{name}").state_dict())
    for mine, other in ((ours.feed_forward.W_1, theirs.fc1), (ours.feed_forward.W_2, theirs.fc2)):
        other.load_state_dict(mine.state_dict())
    for residual, norm in zip(ours.around, norms, strict=True):
        norm.load_state_dict(residual.norm.state_dict())
    if kind == "encoder":
        found, expected = ours(x, padding_mask(PADDING)), theirs(x, attention_mask=padding)
    else:
        found = ours(x, h, causal_mask(S), padding_mask(PADDING))
        expected = theirs(x, attention_mask=causal, encoder_hidden_states=h, encoder_attention_mask=padding)
    expected = expected[0] if isinstance(expected, tuple) else expected
    close(found, expected, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_the_layers_of_t5(kind):
    """Switches: no scale, no biases, pre-norm by the root mean square, positions added to the scores."""
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    sizes = {"d_model": D, "d_kv": D // H, "num_heads": H, "d_ff": HIDDEN}
    config = t5.T5Config(**sizes, dropout_rate=0.0, is_decoder=kind == "decoder")
    config._attn_implementation = "eager"
    theirs = shaken(t5.T5Block(config, has_relative_attention_bias=True, layer_idx=0))
    layer = TransformerEncoderLayer if kind == "encoder" else TransformerDecoderLayer
    ours = layer(D, H, hidden_size=HIDDEN)
    mine = [ours.attention] if kind == "encoder" else [ours.self_attention, ours.cross_attention]
    others = [theirs.layer[0].SelfAttention] + ([theirs.layer[1].EncDecAttention] if kind == "decoder" else [])
    for a, b in zip(mine, others, strict=True):
        a.attend = ScaledDotProductAttention(scaled=False)
        for name in "qkvo":
            linear = getattr(a, f"W_{name}")
            linear.load_state_dict({"weight": getattr(b, name).weight, "bias": torch.zeros(D)})
    dense = theirs.layer[-1].DenseReluDense
    ours.feed_forward.W_1.load_state_dict({"weight": dense.wi.weight, "bias": torch.zeros(HIDDEN)})
    ours.feed_forward.W_2.load_state_dict({"weight": dense.wo.weight, "bias": torch.zeros(D)})
    for residual, part in zip(ours.around, theirs.layer, strict=True):
        residual.norm = nn.RMSNorm(D, eps=config.layer_norm_epsilon)
        residual.norm.load_state_dict(part.layer_norm.state_dict())
    x, h = torch.randn(B, S, D), torch.randn(B, S, D)
    positions = others[0].compute_bias(S, S).detach()                  # (1, H, S, S)
    lowest = torch.finfo(torch.float64).min
    if kind == "encoder":
        hidden = padding_mask(PADDING)
        found = ours(x, positions.masked_fill(hidden, -torch.inf))
        expected = theirs(x, attention_mask=torch.zeros(B, 1, 1, S).masked_fill(hidden, lowest))[0]
    else:
        found = ours(x, h, positions.masked_fill(causal_mask(S), -torch.inf), padding_mask(PADDING))
        expected = theirs(
            x, attention_mask=torch.zeros(1, 1, S, S).masked_fill(causal_mask(S), lowest), encoder_hidden_states=h,
            encoder_attention_mask=torch.zeros(B, 1, 1, S).masked_fill(padding_mask(PADDING), lowest))[0]
    close(found, expected, atol=1e-6, rtol=1e-5)                      # its softmax is in single precision


# The whole

@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("fused", [False, True])
def test_kept_keys_give_what_a_fresh_start_gives(norm, fused, single):
    model, batch = a_model(norm).eval(), some_batch()
    model = fuse(model) if fused else model
    memory, tgt_in = model.encoder(batch.src, batch.src_padding), batch.tgt[:, :-1]
    expected = model(batch)
    close(Decoder.forward(model.decoder, tgt_in, memory), expected, atol=1e-5, rtol=0)   # step after step
    for length in (1, 3, 6):                                           # a piece, then the rest a token at a time
        mask = causal_mask(length)
        logits, state, _ = model.decoder.run(tgt_in[:, :length], model.decoder.init_state(memory), mask)
        found = [logits]
        for token in tgt_in[:, length:].unbind(dim=1):
            step = model.decoder.step(token, state)
            state, found = step.state, [*found, step.logits[:, None]]
        close(torch.cat(found, dim=1), expected, atol=1e-5, rtol=0)


def test_kept_keys_through_reorder_with_repeats(single):
    model, batch = a_model().eval(), some_batch()
    memory = model.encoder(batch.src, batch.src_padding)
    state, rows = model.decoder.init_state(memory), torch.arange(5)
    prefix = torch.full((5, 1), Vocab.bos)
    for length in range(1, 7):
        step = model.decoder.step(prefix[:, -1], state)
        whole = model.decoder(prefix, Memory(memory.states[rows], memory.padding[rows]))
        close(step.logits, whole[:, -1], atol=1e-5, rtol=0)
        index = torch.randint(0, 5, (5 if length < 4 else 8,)) % len(rows)
        state, rows = reorder(step.state, index), rows[index]
        prefix = torch.cat([prefix[index], torch.randint(4, V_TGT, (len(index), 1))], dim=1)


@pytest.mark.parametrize("norm", NORMS)
def test_no_position_reaches_back(norm):
    model, batch = a_model(norm).eval(), some_batch()
    memory = model.encoder(batch.src, batch.src_padding)
    embedded = []
    model.decoder.embed.register_forward_hook(lambda *call: embedded.append(call[-1]) or call[-1].retain_grad())
    for t in range(6):
        embedded.clear()
        model.decoder(batch.tgt[:, :-1], memory)[:, t].square().sum().backward(retain_graph=True)
        gradient = embedded[0].grad
        assert (gradient[:, t + 1:] == 0).all() and (gradient[:, : t + 1].abs().sum(dim=(0, 2)) > 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_padding_changes_nothing(norm):
    model, batch = a_model(norm).eval(), some_batch()
    together = model(batch)
    for row, (padding, target) in enumerate(zip(batch.src_padding, batch.tgt, strict=True)):
        length, columns = int((~padding).sum()), int((target != Vocab.pad).sum())
        alone = model(Batch(batch.src[row : row + 1, :length], batch.tgt[row : row + 1, :columns],
                            batch.src_padding[row : row + 1, :length]))
        close(together[row, : columns - 1], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_rows_of_padding_are_zeros_with_finite_gradients(norm):
    model = a_model(norm)
    src = torch.tensor([[0, 0, 0], [5, 7, 2]])
    memory = model.encoder(src, src == Vocab.pad)
    assert (memory.states[0] == 0).all() and (memory.states[1] != 0).any()
    memory.states[0].sum().backward()
    assert all((p.grad is None or (p.grad == 0).all()) for p in model.parameters())
    memory = model.encoder(src, src == Vocab.pad)
    logits = model.decoder(torch.tensor([[1, 5], [1, 6]]), memory)
    assert logits.isfinite().all()
    logits[0].sum().backward()
    assert all((p.grad is None or (p.grad == 0).all()) for p in model.encoder.parameters())
    crossed = [p for layer in model.decoder.layers for p in layer.cross_attention.parameters()]
    assert all((p.grad == 0).all() for p in crossed)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_encoder_sees_both_ways_and_knows_the_order():
    model = a_model().eval()
    src = torch.tensor([[5, 6, 7, 2]])
    nothing = torch.zeros(1, 4, dtype=torch.bool)
    states = model.encoder(src, nothing).states
    for other in ([5, 6, 8, 2], [4, 6, 7, 2]):
        changed = model.encoder(torch.tensor([other]), nothing).states
        assert ((states - changed).abs().sum(dim=-1) > 1e-4).all()     # every position feels it
    mixed = model.encoder(src[:, [1, 0, 2, 3]], nothing).states
    assert not torch.allclose(states[:, [1, 0, 2, 3]], mixed, atol=1e-3)
    model.encoder.embed.position = nn.Identity()
    model.encoder.embed.forward = lambda ids: model.encoder.embed.embedding(ids)
    states, mixed = (model.encoder(x, nothing).states for x in (src, src[:, [1, 0, 2, 3]]))
    close(states[:, [1, 0, 2, 3]], mixed)                              # a set, without positions


def test_embeddings_are_scaled_and_the_output_is_tied():
    model = a_model()
    embed = model.encoder.embed
    ids = torch.randint(4, V_SRC, (B, S))
    close(embed(ids), math.sqrt(D) * embed.embedding.weight[ids] + sinusoids(S, D))
    assert model.decoder.output.weight is model.decoder.embed.embedding.weight
    loose = a_model(tied=False).decoder
    size = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    assert size(loose) - size(model.decoder) == V_TGT * D
    fresh = TransformerDecoder(V_TGT, 64, 4)
    x = fresh.embed(torch.randint(4, V_TGT, (B, S))) - sinusoids(S, 64)
    assert 0.8 < x.std() < 1.2


def test_a_step_reports_where_the_last_layer_looked():
    model, batch = a_model().eval(), some_batch()
    state = model.decoder.init_state(model.encoder(batch.src, batch.src_padding))
    weights = []
    for token in batch.tgt[:, :-1].unbind(dim=1):
        _, state, looked = model.decoder.step(token, state)
        close(looked.sum(dim=1), torch.ones(5))
        assert (looked[batch.src_padding] == 0).all()
        weights.append(looked)
    kinds = heads_of(model, batch.src[0, :7].tolist(), batch.tgt[0, 1:4].tolist())
    close(kinds["cross"][-1].mean(dim=0), torch.stack(weights, dim=1)[0, :4])
    assert {kind: [tuple(w.shape) for w in layers] for kind, layers in kinds.items()} == {
        "encoder": [(H, 8, 8)] * 2, "decoder": [(H, 4, 4)] * 2, "cross": [(H, 4, 8)] * 2}
    for layer in kinds["decoder"]:
        assert (layer.triu(1) == 0).all()
    for layers in kinds.values():
        for layer in layers:
            close(layer.sum(dim=-1), torch.ones(layer.shape[:2]))
    assert not any(p._forward_hooks for p in model.modules())


def test_it_trains_on_the_meta_device_and_learns_on_another():
    model = a_model(dropout=0.1).to("meta")
    loss = train_step(model, some_batch().to("meta"), torch.optim.Adam(model.parameters()))
    assert loss.device.type == "meta"
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in model.parameters())
    letters, phones = Vocab("abcdefghi"), Vocab("ABCDEFGHIJKLM")
    model, batch = transformer_model(letters, phones, 32, 4), some_batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = [train_step(model, batch, optimizer).item() for _ in range(100)]
    assert losses[-1] < 0.05 < losses[0]
    found = greedy_search(model, batch.src, batch.src_padding, max_len=9)
    gold = F.pad(batch.tgt[:, 1:], (0, found.tokens.shape[1] - batch.tgt.shape[1] + 1))
    assert torch.equal(found.tokens, gold) and found.weights.shape == (5, found.tokens.shape[1], 8)


def test_dropout_touches_the_embedding_and_every_part_and_is_off_in_a_search():
    model, batch = a_model(dropout=1.0).train(), some_batch()
    last = model.decoder.norm(torch.zeros(D))                          # all is dropped, but the last norm's bias
    close(model(batch), model.decoder.output(last).expand(5, 7, V_TGT))
    model = a_model(dropout=0.5).train()
    assert not torch.equal(model(batch), model(batch))
    parts = [p for p in model.modules() if isinstance(p, nn.Dropout)]
    assert len(parts) == 2 + 2 * 2 + 2 * 3 and {p.p for p in parts} == {0.5}
    found = [greedy_search(model, batch.src, batch.src_padding, max_len=7) for _ in range(2)]
    assert torch.equal(found[0].scores, found[1].scores)


def test_every_argument_of_transformer_model_reaches_both_halves():
    letters, phones = Vocab("abc"), Vocab("ABCDE")
    model = transformer_model(letters, phones, 12, 3, 2, 0.25, decoder_layers=1, hidden_size=7, norm="post",
                              tied=False, positions=9, learned=True)
    encoder, decoder = model.encoder, model.decoder
    assert len(encoder.layers) == 2 and len(decoder.layers) == 1
    assert encoder.embed.embedding.weight.shape == (7, 12) and decoder.output.weight.shape == (9, 12)
    assert decoder.output.weight is not decoder.embed.embedding.weight
    for half in (encoder, decoder):
        assert half.embed.position.table.shape == (9, 12) and half.embed.position.table.requires_grad
        assert half.embed.dropout.p == 0.25 and isinstance(half.norm, nn.Identity)
        for layer in half.layers:
            assert layer.feed_forward.W_1.weight.shape == (7, 12)
            assert all(not r.pre and r.dropout.p == 0.25 for r in layer.around)
    assert encoder.layers[0].attention.heads == decoder.layers[0].cross_attention.heads == 3
    default = transformer_model(letters, phones)
    assert default.decoder.layers[1].feed_forward.W_1.weight.shape == (512, 128)
    assert default.decoder.layers[1].around[0].pre and default.decoder.layers[1].self_attention.heads == 4
    named = [list(inspect.signature(x).parameters)[1:5] for x in (TransformerEncoder, TransformerDecoder)]
    assert named == [["width", "heads", "layers", "dropout"]] * 2


def test_each_decoder_layer_can_be_given_other_states():
    model, batch = a_model().eval(), some_batch()
    outputs = model.encoder.run(batch.src, batch.src_padding)
    memory = model.encoder(batch.src, batch.src_padding)
    close(outputs[-1], memory.states)
    assert len(outputs) == 2 and (outputs[0][batch.src_padding] == 0).all()
    plain = model(batch)
    other = copy.deepcopy(model)
    other.decoder.sources = lambda memory: outputs
    state = other.decoder.init_state(memory)
    layer = other.decoder.layers[0]
    close(state.layers[0].memory_k, layer.cross_attention.keys(outputs[0], outputs[0])[0])
    close(state.layers[1].memory_k, model.decoder.init_state(memory).layers[1].memory_k)
    assert not torch.allclose(other(batch), plain)


def test_bad_input_is_told_what_is_wrong():
    model, batch = a_model(positions=6), some_batch()
    with pytest.raises(ValueError, match="a sequence of 8 symbols, but positions=6"):
        model.encoder(batch.src, batch.src_padding)
    memory = a_model().encoder(batch.src, batch.src_padding)
    state = model.decoder.init_state(memory)
    with pytest.raises(ValueError, match="2 tokens for a state of 5 rows"):
        model.decoder.step(torch.tensor([1, 1]), state)
    for token in torch.full((6, 5), 5):
        state = model.decoder.step(token, state).state
    with pytest.raises(ValueError, match="a sequence of 7 symbols, but positions=6"):
        model.decoder.step(torch.full((5,), 5), state)
    with pytest.raises(ValueError, match="one row"):
        model.decoder(torch.tensor([[1, 4]]), memory)
    with pytest.raises(ValueError, match="cannot read states of 12"):
        model.decoder.init_state(Memory(torch.randn(2, 3, 12), torch.zeros(2, 3, dtype=torch.bool)))
    with pytest.raises(ValueError, match="4 heads cannot share a width of 30"):
        MultiHeadAttention(30, 4)
    with pytest.raises(ValueError, match="layers must be at least 1"):
        TransformerEncoder(V_SRC, layers=0)
    with pytest.raises(ValueError, match="a mask is boolean"):
        MultiHeadAttention(6, 2)(*3 * [torch.randn(1, 3, 6)], torch.ones(1, 1, 1, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="vocabulary has 13 symbols"):
        a_model().encoder(batch.src + 9, batch.src_padding)
