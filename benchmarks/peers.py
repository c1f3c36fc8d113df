"""The book's models and other libraries' of the same size, with the same weights where both have the same parts.

A peer trains by `loss(batch)` and writes by `greedy(src, src_padding, length)` and `beam(src, src_padding, length,
width)`, each giving ids (B, length). What it does not have is None. Weights are drawn so that none ever chooses EOS,
PAD or BOS: all write the same number of tokens.
"""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seq2seq.cached_decoding import fuse
from seq2seq.decoding import beam_search
from seq2seq.encoder_decoder import EncoderDecoder, greedy_search
from seq2seq.kit import seed_everything
from seq2seq.rnn import context_model
from seq2seq.sequences import Batch, Vocab
from seq2seq.teacher_forcing import cross_entropy
from seq2seq.transformer import Embed, causal_mask, sinusoids, transformer_model


class Sizes(NamedTuple):
    """Of the models and of what they read and write; every source of a batch of GRUs has full length."""

    vocab: int
    width: int
    heads: int
    layers: int
    hidden: int     # of the feed-forward part, or of the GRU
    length: int     # S and T - 1, so many tokens are written
    batch: int      # of a training step


@dataclass
class Peer:
    """One system that is measured. Before it writes, its model is in eval mode and gradients are off."""

    name: str
    loss: Callable[[Batch], Tensor] | None = None
    greedy: Callable[[Tensor, Tensor, int], Tensor] | None = None
    beam: Callable[[Tensor, Tensor, int, int], Tensor] | None = None
    model: nn.Module | None = None
    package: str = "torch"
    note: str = ""


def a_vocab(size: int) -> Vocab:
    return Vocab([f"w{i}" for i in range(4, size)])


def a_batch(sizes: Sizes, rows: int, *, padded: bool) -> Batch:
    """Sources of half the length and more, all of them if not padded; targets BOS and `length` tokens, EOS the last."""
    draw = torch.Generator().manual_seed(rows)
    ids = torch.randint(4, sizes.vocab, (2, rows, sizes.length), generator=draw)
    lengths = torch.randint((sizes.length + 1) // 2, sizes.length + 1, (rows, 1), generator=draw)
    lengths[0] = sizes.length
    places = torch.arange(sizes.length)
    src = ids[0].where(places < lengths - 1, Vocab.eos) if padded else ids[0]
    src_padding = (places >= lengths) if padded else torch.zeros_like(src, dtype=torch.bool)
    src = src.masked_fill(src_padding, Vocab.pad)
    ids[1, :, -1] = Vocab.eos
    return Batch(src, F.pad(ids[1], (1, 0), value=Vocab.bos), src_padding)


# ---- the book's -----------------------------------------------------------------------------------------------------

def written(found: list[list]) -> Tensor:
    """What `beam_search` found -> ids (B, length)."""
    return torch.tensor([best.ids for [best] in found])


def ours(name: str, model: EncoderDecoder, **more) -> Peer:
    return Peer(name, lambda batch: cross_entropy(model, batch),
                lambda src, padding, length: greedy_search(model, src, padding, length).tokens,
                lambda src, padding, length, width: written(beam_search(model, src, padding, length, width)),
                model, **more)  # fmt: skip


def our_transformer(sizes: Sizes) -> EncoderDecoder:
    """Post-norm, as Marian has it. Its first three symbols are never the best, and its parts say more than new ones do:
    left as drawn, it would write its first token again and again, and equal outputs would prove little.
    """
    seed_everything(0)
    vocab = a_vocab(sizes.vocab)
    shape = sizes.width, sizes.heads, sizes.layers
    model = transformer_model(vocab, vocab, *shape, hidden_size=sizes.hidden, norm="post")
    with torch.no_grad():
        model.decoder.embed.embedding.weight[:3] = 0.0
        model.decoder.output.bias.zero_()
        for name, weights in model.named_parameters():
            if name.endswith(("W_q.weight", "W_o.weight")):
                weights *= 4.0
        model.decoder.layers[-1].around[-1].norm.weight.neg_()
    return model


def our_gru(sizes: Sizes) -> EncoderDecoder:
    seed_everything(0)
    vocab = a_vocab(sizes.vocab)
    model = context_model(vocab, vocab, sizes.width, sizes.hidden, sizes.layers, bidirectional=False)
    with torch.no_grad():
        for weights in model.decoder.rnn.parameters():
            weights *= 4.0
        model.decoder.output.bias[:3] = -30.0
    return model


# ---- torch.nn -------------------------------------------------------------------------------------------------------

class TorchTransformer(nn.Module):
    """torch.nn.Transformer, with the book's embeddings around it. It keeps nothing from step to step."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.source, self.target = (Embed(sizes.vocab, sizes.width, 0.0, 512, False) for _ in range(2))
        self.transformer = nn.Transformer(sizes.width, sizes.heads, sizes.layers, sizes.layers, sizes.hidden, 0.0,
                                          batch_first=True)  # fmt: skip
        self.transformer.encoder.norm = self.transformer.decoder.norm = None    # a second norm after post-norm
        self.output = nn.Linear(sizes.width, sizes.vocab)
        self.output.weight = self.target.embedding.weight

    def load(self, model: EncoderDecoder) -> None:
        """Take the book's weights."""
        self.source.load_state_dict(model.encoder.embed.state_dict())
        self.target.load_state_dict(model.decoder.embed.state_dict())
        self.output.bias.data.copy_(model.decoder.output.bias)
        for half, other in ((model.encoder, self.transformer.encoder), (model.decoder, self.transformer.decoder)):
            for mine, layer in zip(half.layers, other.layers, strict=True):
                attentions = [getattr(mine, "attention", None) or mine.self_attention]
                attentions += [mine.cross_attention] if hasattr(mine, "cross_attention") else []
                theirs = [layer.self_attn, getattr(layer, "multihead_attn", None)]
                for a, b in zip(attentions, theirs, strict=False):
                    three = [a.W_q, a.W_k, a.W_v]
                    b.in_proj_weight.data = torch.cat([W.weight for W in three]).detach()
                    b.in_proj_bias.data = torch.cat([W.bias for W in three]).detach()
                    b.out_proj.load_state_dict(a.W_o.state_dict())
                layer.linear1.load_state_dict(mine.feed_forward.W_1.state_dict())
                layer.linear2.load_state_dict(mine.feed_forward.W_2.state_dict())
                for number, around in enumerate(mine.around, 1):
                    getattr(layer, f"norm{number}").load_state_dict(around.norm.state_dict())

    def decode(self, tgt_in: Tensor, states: Tensor, padding: Tensor) -> Tensor:
        mask = causal_mask(tgt_in.shape[1])[0, 0]
        return self.transformer.decoder(self.target(tgt_in), states, tgt_mask=mask, tgt_is_causal=True,
                                        memory_key_padding_mask=padding)  # fmt: skip

    def encode(self, src: Tensor, padding: Tensor) -> Tensor:
        return self.transformer.encoder(self.source(src), src_key_padding_mask=padding)

    def forward(self, batch: Batch) -> Tensor:
        states = self.encode(batch.src, batch.src_padding)
        return self.output(self.decode(batch.tgt[:, :-1], states, batch.src_padding))

    def greedy(self, src: Tensor, padding: Tensor, length: int) -> Tensor:
        states, tokens = self.encode(src, padding), torch.full_like(src[:, :1], Vocab.bos)
        for _ in range(length):
            logits = self.output(self.decode(tokens, states, padding)[:, -1])
            tokens = torch.cat([tokens, logits.argmax(dim=-1, keepdim=True)], dim=1)
        return tokens[:, 1:]


def torch_transformer(sizes: Sizes, model: EncoderDecoder) -> Peer:
    other = TorchTransformer(sizes)
    other.load(model)
    return Peer("torch.nn.Transformer", lambda batch: cross_entropy(other, batch), other.greedy, model=other,
                note="keeps nothing: each step reads what is written again; it has no beam search")  # fmt: skip


class TorchGRU(nn.Module):
    """The shortest program on nn.GRU that is the book's context model: no checks, no padding."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.source, self.target = (nn.Embedding(sizes.vocab, sizes.width) for _ in range(2))
        self.reads = nn.GRU(sizes.width, sizes.hidden, sizes.layers, batch_first=True)
        self.writes = nn.GRU(sizes.width + sizes.hidden, sizes.hidden, sizes.layers, batch_first=True)
        self.output = nn.Linear(sizes.hidden, sizes.vocab)

    def load(self, model: EncoderDecoder) -> None:
        encoder, decoder = model.encoder, model.decoder
        self.source.load_state_dict(encoder.embedding.state_dict())
        self.target.load_state_dict(decoder.embedding.state_dict())
        load_layers(self.reads, encoder.forwards)
        self.writes.load_state_dict(decoder.rnn.state_dict())
        self.output.load_state_dict(decoder.output.state_dict())

    def run(self, tokens: Tensor, hidden: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([self.target(tokens), c[:, None].expand(-1, tokens.shape[1], -1)], dim=-1)
        outputs, hidden = self.writes(x, hidden)
        return self.output(outputs), hidden

    def forward(self, batch: Batch) -> Tensor:
        _, hidden = self.reads(self.source(batch.src))
        return self.run(batch.tgt[:, :-1], hidden, hidden[-1])[0]

    def greedy(self, src: Tensor, padding: Tensor, length: int) -> Tensor:
        _, hidden = self.reads(self.source(src))
        token, tokens, c = torch.full_like(src[:, :1], Vocab.bos), [], hidden[-1]
        for _ in range(length):
            logits, hidden = self.run(token, hidden, c)
            token = logits.argmax(dim=-1)
            tokens.append(token)
        return torch.cat(tokens, dim=1)


def load_layers(gru: nn.GRU, layers: nn.ModuleList) -> None:
    """One nn.GRU of several layers takes the weights of several of one layer."""
    for number, layer in enumerate(layers):
        for name, weights in layer.named_parameters():
            getattr(gru, name.replace("_l0", f"_l{number}")).data.copy_(weights)


def torch_gru(sizes: Sizes, model: EncoderDecoder) -> Peer:
    other = TorchGRU(sizes)
    other.load(model)
    return Peer("nn.GRU, the shortest program", lambda batch: cross_entropy(other, batch), other.greedy, model=other,
                note="it has no beam search")  # fmt: skip


# ---- d2l ------------------------------------------------------------------------------------------------------------

def d2l_gru(sizes: Sizes, model: EncoderDecoder) -> Peer:
    """Seq2Seq of Dive into Deep Learning, section 10.7, in its own layout (time first)."""
    from d2l import torch as d2l

    class Seq2SeqDecoder(d2l.Decoder):
        """The decoder of that section, which the package leaves out."""

        def __init__(self, vocab_size, embed_size, num_hiddens, num_layers, dropout=0):
            super().__init__()
            self.embedding = nn.Embedding(vocab_size, embed_size)
            self.rnn = d2l.GRU(embed_size + num_hiddens, num_hiddens, num_layers, dropout)
            self.dense = nn.Linear(num_hiddens, vocab_size)

        def init_state(self, enc_all_outputs, *args):
            return enc_all_outputs

        def forward(self, X, state):
            embs = self.embedding(X.t().type(torch.int32))
            enc_output, hidden_state = state
            context = enc_output[-1].repeat(embs.shape[0], 1, 1)
            outputs, hidden_state = self.rnn(torch.cat((embs, context), -1), hidden_state)
            return self.dense(outputs).swapaxes(0, 1), [enc_output, hidden_state]

    shape = sizes.vocab, sizes.width, sizes.hidden, sizes.layers
    other = d2l.Seq2Seq(d2l.Seq2SeqEncoder(*shape), Seq2SeqDecoder(*shape), tgt_pad=Vocab.pad, lr=1e-3)
    encoder, decoder = model.encoder, model.decoder
    other.encoder.embedding.load_state_dict(encoder.embedding.state_dict())
    load_layers(other.encoder.rnn.rnn, encoder.forwards)
    other.decoder.embedding.load_state_dict(decoder.embedding.state_dict())
    other.decoder.rnn.rnn.load_state_dict(decoder.rnn.state_dict())
    other.decoder.dense.load_state_dict(decoder.output.state_dict())

    def loss(batch: Batch) -> Tensor:
        gold = batch.tgt[:, 1:]                      # Seq2Seq.loss of the section, which the package leaves out too
        value = d2l.Classifier.loss(other, other(batch.src, batch.tgt[:, :-1]), gold, averaged=False)
        mask = (gold.reshape(-1) != other.tgt_pad).type(torch.float32)
        return (value * mask).sum() / mask.sum()

    def greedy(src: Tensor, padding: Tensor, length: int) -> Tensor:
        first = torch.full_like(src[:, :1], Vocab.bos)
        return other.predict_step((src, first, padding, first), torch.device("cpu"), length)[0]

    return Peer("d2l, Seq2Seq", loss, greedy, model=other, package="d2l", note="it has no beam search")


# ---- transformers ---------------------------------------------------------------------------------------------------

def marian(sizes: Sizes, model: EncoderDecoder) -> Peer:
    from transformers import MarianConfig, MarianMTModel

    both = {f"{half}_{name}": value for half in ("encoder", "decoder") for name, value in (
        ("layers", sizes.layers), ("attention_heads", sizes.heads), ("ffn_dim", sizes.hidden))}  # fmt: skip
    other = MarianMTModel(MarianConfig(
        vocab_size=sizes.vocab, decoder_vocab_size=sizes.vocab, share_encoder_decoder_embeddings=False,
        d_model=sizes.width, max_position_embeddings=512, activation_function="relu", scale_embedding=True,
        dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, decoder_start_token_id=Vocab.bos,
        pad_token_id=Vocab.pad, bos_token_id=Vocab.bos, eos_token_id=Vocab.eos, forced_eos_token_id=None, **both,
    ))  # fmt: skip
    for half, mine in ((other.model.encoder, model.encoder), (other.model.decoder, model.decoder)):
        half.embed_tokens.weight.data.copy_(mine.embed.embedding.weight)
        half.embed_positions.weight.data.copy_(sinusoids(512, sizes.width))     # theirs has all sines first
        for a, b in zip(mine.layers, half.layers, strict=True):
            attentions = [(getattr(a, "attention", None) or a.self_attention, b.self_attn)]
            norms = [b.self_attn_layer_norm, b.final_layer_norm]
            if hasattr(a, "cross_attention"):
                attentions.append((a.cross_attention, b.encoder_attn))
                norms.insert(1, b.encoder_attn_layer_norm)
            for ours_, theirs in attentions:
                for name, part in zip("qkvo", ("q_proj", "k_proj", "v_proj", "out_proj"), strict=True):
                    getattr(theirs, part).load_state_dict(getattr(ours_, f"W_{name}").state_dict())
            b.fc1.load_state_dict(a.feed_forward.W_1.state_dict())
            b.fc2.load_state_dict(a.feed_forward.W_2.state_dict())
            for around, norm in zip(a.around, norms, strict=True):
                norm.load_state_dict(around.norm.state_dict())

    def loss(batch: Batch) -> Tensor:
        gold = batch.tgt[:, 1:].masked_fill(batch.tgt[:, 1:] == Vocab.pad, -100)
        return other(input_ids=batch.src, attention_mask=~batch.src_padding, decoder_input_ids=batch.tgt[:, :-1],
                     labels=gold).loss  # fmt: skip

    def write(src: Tensor, padding: Tensor, length: int, width: int = 1) -> Tensor:
        return other.generate(input_ids=src, attention_mask=~padding, num_beams=width, do_sample=False,
                              max_new_tokens=length, use_cache=True)[:, 1:]  # fmt: skip

    return Peer("transformers, Marian", loss, write, write, other, "transformers")


# ---- JoeyNMT --------------------------------------------------------------------------------------------------------

def joeynmt(sizes: Sizes, model: EncoderDecoder) -> Peer:
    from joeynmt.decoders import TransformerDecoder
    from joeynmt.embeddings import Embeddings
    from joeynmt.encoders import TransformerEncoder
    from joeynmt.model import Model
    from joeynmt.search import search

    shape = {"hidden_size": sizes.width, "ff_size": sizes.hidden, "num_layers": sizes.layers, "num_heads": sizes.heads,
             "dropout": 0.0, "emb_dropout": 0.0, "layer_norm": "post"}  # fmt: skip
    embeddings = [Embeddings(sizes.width, scale=True, vocab_size=sizes.vocab, padding_idx=Vocab.pad) for _ in range(2)]
    vocab = SimpleNamespace(pad_index=Vocab.pad, bos_index=Vocab.bos, eos_index=Vocab.eos, unk_index=Vocab.unk,
                            sep_index=None, specials=[], lang_tags=[])  # fmt: skip
    decoder = TransformerDecoder(vocab_size=sizes.vocab, **shape)
    other = Model(TransformerEncoder(**shape), decoder, *embeddings, vocab, vocab)
    decoder.output_layer.weight = other.trg_embed.lut.weight        # its option `tied_softmax`
    other.loss_function = ("crossentropy", 0.0)
    other.src_embed.lut.load_state_dict(model.encoder.embed.embedding.state_dict())
    other.trg_embed.lut.load_state_dict(model.decoder.embed.embedding.state_dict())
    for half, mine in ((other.encoder, model.encoder), (other.decoder, model.decoder)):
        for a, b in zip(mine.layers, half.layers, strict=True):
            if hasattr(a, "cross_attention"):
                attentions = [(a.self_attention, b.trg_trg_att), (a.cross_attention, b.src_trg_att)]
                norms = [b.x_layer_norm, b.dec_layer_norm]
            else:
                attentions, norms = [(a.attention, b.src_src_att)], [b.layer_norm]
            for ours_, theirs in attentions:
                for name, part in zip("qkvo", ("q_layer", "k_layer", "v_layer", "output_layer"), strict=True):
                    getattr(theirs, part).load_state_dict(getattr(ours_, f"W_{name}").state_dict())
            b.feed_forward.pwff_layer[0].load_state_dict(a.feed_forward.W_1.state_dict())
            b.feed_forward.pwff_layer[3].load_state_dict(a.feed_forward.W_2.state_dict())
            for around, norm in zip(a.around, [*norms, b.feed_forward.layer_norm], strict=True):
                norm.load_state_dict(around.norm.state_dict())

    def loss(batch: Batch) -> Tensor:
        gold = batch.tgt[:, 1:]
        total, *_ = other(return_type="loss", src=batch.src, src_length=(~batch.src_padding).sum(1),
                          src_mask=~batch.src_padding[:, None], trg_input=batch.tgt[:, :-1], trg=gold,
                          trg_mask=(gold != Vocab.pad)[:, None])  # fmt: skip
        return total / (gold != Vocab.pad).sum()        # its `normalization: tokens`

    def write(src: Tensor, padding: Tensor, length: int, width: int = 1) -> Tensor:
        batch = SimpleNamespace(src=src, src_length=(~padding).sum(1), src_mask=~padding[:, None], has_trg=False)
        ids, _, _ = search(model=other, batch=batch, max_output_length=length, beam_size=width, beam_alpha=0.0)
        return torch.from_numpy(ids)

    return Peer("JoeyNMT", loss, write, write, other, "joeynmt",
                "keeps nothing: each step reads what is written again")  # fmt: skip


# ---- CTranslate2 ----------------------------------------------------------------------------------------------------

def ctranslate2(sizes: Sizes, model: EncoderDecoder) -> Peer:
    """The book's weights in its format: it translates, and does not train."""
    import ctranslate2 as ct2
    from ctranslate2.specs import TransformerSpec, common_spec

    def put(spec, *layers: nn.Module) -> None:
        spec.weight = torch.cat([layer.weight for layer in layers]).detach().numpy()
        spec.bias = torch.cat([layer.bias for layer in layers]).detach().numpy()

    def put_norm(spec, around: nn.Module) -> None:
        spec.gamma, spec.beta = around.norm.weight.detach().numpy(), around.norm.bias.detach().numpy()

    spec = TransformerSpec.from_config((sizes.layers, sizes.layers), sizes.heads, pre_norm=False,
                                       activation=common_spec.Activation.RELU)  # fmt: skip
    for half, mine in ((spec.encoder, model.encoder), (spec.decoder, model.decoder)):
        embeddings = half.embeddings[0] if half is spec.encoder else half.embeddings
        embeddings.weight = mine.embed.embedding.weight.detach().numpy()
        half.scale_embeddings = True
        half.position_encodings.encodings = sinusoids(512, sizes.width).numpy()
        for a, b in zip(mine.layers, half.layer, strict=True):
            self_attention, *rest = a.around
            attention = getattr(a, "attention", None) or a.self_attention
            put(b.self_attention.linear[0], attention.W_q, attention.W_k, attention.W_v)
            put(b.self_attention.linear[1], attention.W_o)
            put_norm(b.self_attention.layer_norm, self_attention)
            if hasattr(a, "cross_attention"):
                put(b.attention.linear[0], a.cross_attention.W_q)
                put(b.attention.linear[1], a.cross_attention.W_k, a.cross_attention.W_v)
                put(b.attention.linear[2], a.cross_attention.W_o)
                put_norm(b.attention.layer_norm, rest.pop(0))
            put(b.ffn.linear_0, a.feed_forward.W_1)
            put(b.ffn.linear_1, a.feed_forward.W_2)
            put_norm(b.ffn.layer_norm, rest.pop(0))
    put(spec.decoder.projection, model.decoder.output)
    symbols = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{i}" for i in range(4, sizes.vocab))]
    spec.register_source_vocabulary(symbols)
    spec.register_target_vocabulary(symbols)
    spec.validate()
    spec.optimize()
    with tempfile.TemporaryDirectory() as folder:
        spec.save(folder)
        translator = ct2.Translator(folder, device="cpu", compute_type="float32", inter_threads=1,
                                    intra_threads=torch.get_num_threads())  # fmt: skip
    ids = {symbol: i for i, symbol in enumerate(symbols)}

    def write(src: Tensor, padding: Tensor, length: int, width: int = 1) -> Tensor:
        rows = [[symbols[i] for i in row[:n]] for row, n in zip(src.tolist(), (~padding).sum(1).tolist(), strict=True)]
        found = translator.translate_batch(rows, beam_size=width, max_decoding_length=length, length_penalty=0)
        return torch.tensor([[ids[symbol] for symbol in one.hypotheses[0]] for one in found])

    return Peer("CTranslate2", None, write, write, package="ctranslate2", note="it does not train")


# ---- all of them ----------------------------------------------------------------------------------------------------

TRANSFORMERS = {"torch.nn.Transformer": torch_transformer, "transformers, Marian": marian, "JoeyNMT": joeynmt,
                "CTranslate2": ctranslate2}  # fmt: skip
GRUS = {"nn.GRU, the shortest program": torch_gru, "d2l, Seq2Seq": d2l_gru}


def peers(sizes: Sizes, kind: str) -> tuple[list[Peer], dict[str, str]]:
    """The book's own first, then what is installed; and why each other is missing."""
    if kind == "GRU":
        model, makers = our_gru(sizes), GRUS
        found = [ours("ours", model)]
    else:
        model, makers = our_transformer(sizes), TRANSFORMERS
        other = our_transformer(sizes)
        found = [ours("ours", model), ours("ours, fused attention", fuse(other))]
    missing = {}
    for name, make in makers.items():
        try:
            found.append(make(sizes, model))
        except ImportError as error:
            missing[name] = f"not installed ({error})"
    return found, missing


def versions(found: list[Peer]) -> dict[str, str]:
    return {package: version(package) for package in sorted({peer.package for peer in found})}


def quiet() -> None:
    """No advice from the libraries between the figures."""
    with contextlib.suppress(ImportError):
        importlib.import_module("transformers").logging.set_verbosity_error()
