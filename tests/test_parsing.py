"""Trees and brackets, the grammar and its parser, scores, and decoding that stays inside a grammar."""

import ast
import math
from collections import Counter
from itertools import pairwise, product
from random import Random

import pytest
import torch

from seq2seq.attention import attention_model
from seq2seq.decoding import Trained, beam_search, each, rescore
from seq2seq.encoder_decoder import greedy_search
from seq2seq.kit import device, seed_everything
from seq2seq.kit.corpora import Example, split_of
from seq2seq.parsing import (
    LEXICON,
    NESTING,
    RULES,
    SEEN,
    BracketAutomaton,
    ConstrainedDecoder,
    Grammar,
    Tree,
    brackets,
    constrained,
    depth_of,
    leaves,
    parses,
    right_branching,
    rule_automaton,
    score_trees,
    sentences,
    spans,
    statements,
    syntax_tree,
    token_kinds,
    tree_automaton,
    tree_of,
    without_words,
)
from seq2seq.rnn import vocabularies
from seq2seq.sequences import Vocab, collate

# A grammar that the chapter does not have: rows of one, rows of four, an ambiguity.
OTHER = {"E": {("T",): 0.3, ("E", "op", "E"): 0.3, ("f", "L"): 0.4}, "T": {("x",): 1.0},
         "L": {("E",): 0.5, ("E", "E"): 0.2, ("E", "op", "E", "x"): 0.3}}
OTHER_WORDS = {"x": ["x", "y"], "op": ["+"], "f": ["f"]}


def random_tree(random: Random, depth: int) -> Tree:
    children = [random_tree(random, depth - 1) if depth > 1 and random.random() < 0.6 else random.choice("abc")
                for _ in range(random.randint(1, 4))]
    return Tree(random.choice(["A", "B", "long label"]), tuple(children))


def listed(rules, words, symbol, n):
    """Every bare tree of a symbol with n leaves, as tokens, by brute force."""
    if symbol in words:
        return [("XX",)] if n == 1 else []
    rows = (inside for row in rules[symbol] for inside in listed_row(rules, words, row, n))
    return list(dict.fromkeys((f"({symbol}", *inside, f"){symbol}") for inside in rows))


def listed_row(rules, words, row, n):
    if not row:
        return [()] if n == 0 else []
    return [(*first, *rest) for k in range(1, n - len(row) + 2) for first in listed(rules, words, row[0], k)
            for rest in listed_row(rules, words, row[1:], n - k)]


def untrained(examples, seed=0) -> tuple[Trained, Vocab]:
    src, tgt = vocabularies(examples)
    seed_everything(seed)
    model = attention_model(src, tgt, 8, 16).to(device())
    with torch.no_grad():
        model.decoder.output.weight.mul_(20)        # sure of itself, and wrong
    return Trained(model, src, tgt.decode), tgt


@pytest.fixture(scope="module")
def nested():
    return sentences(300, SEEN, "train")


# --- Trees and brackets


@pytest.mark.parametrize("seed", range(20))
def test_brackets_and_back(seed):
    tree = random_tree(Random(seed), 6)
    tokens = brackets(tree)
    assert tree_of(tokens) == tree
    assert len(tokens) == len(leaves(tree)) + 2 * spans(tree).total()
    assert leaves(without_words(tree)) == ["XX"] * len(leaves(tree)) and spans(without_words(tree)) == spans(tree)


@pytest.mark.parametrize("depth", [2, 7, 20, 40])
def test_a_tree_has_the_depth_asked_for_and_reads_back(depth):
    random = Random(depth)
    for tree in (Grammar().draw(random, depth) for _ in range(20)):
        assert depth_of(tree) == depth
        assert tree_of(brackets(tree)) == tree
        if depth < 10:
            assert Grammar().parse(leaves(tree)) == tree


@pytest.mark.parametrize("text", ["", "XX", "(S", "(S XX", ")S", "(S )S", "(S XX )NP", "(S XX )S )S", "XX (S XX )S",
                                  "(S XX )S (S XX )S", "(S (NP XX )S )NP", "(S (NP )NP XX )S", "(S XX )S XX"])
def test_what_is_no_tree_is_refused(text):
    with pytest.raises(ValueError):
        tree_of(text.split())


# --- The grammar


def test_chance_is_the_share_of_trees_counted_one_by_one():
    def every(symbol, depth):
        """(probability, depth) of all trees of depth or less, words left out."""
        if symbol in OTHER_WORDS:
            return [(1.0, 0)]
        if depth == 0:
            return []
        found = []
        for row, p in OTHER[symbol].items():
            for parts in product(*(every(child, depth - 1) for child in row)):
                found.append((p * math.prod(q for q, _ in parts), 1 + max(d for _, d in parts)))
        return found

    grammar = Grammar(OTHER, OTHER_WORDS, "E")
    for depth in (1, 2, 3, 4):
        trees = every("E", depth)
        assert grammar.chance("E", depth) == pytest.approx(sum(p for p, _ in trees))
        exact = sum(p for p, d in trees if d == depth)
        assert grammar.exactly("E", depth) == pytest.approx(exact)
        assert sum(grammar.ways("E", depth)[1]) == pytest.approx(exact)


def test_trees_of_a_depth_are_drawn_as_often_as_they_are_probable():
    def chance(tree):
        row = tuple(child.label if isinstance(child, Tree) else kind_of[child] for child in tree.children)
        return RULES[tree.label][row] * math.prod(chance(c) for c in tree.children if isinstance(c, Tree))

    kind_of = {word: kind for kind, words in LEXICON.items() for word in words}
    grammar, random, n = Grammar(), Random(1), 4000
    drawn = [grammar.draw(random, 4) for _ in range(n)]
    counts = Counter(brackets(without_words(tree)) for tree in drawn)
    expected = Counter()
    shapes = {}
    for tree in drawn:                  # a bare tree stands for several rows: adjectives are leaves like others
        rows = brackets(named(tree, kind_of))
        if rows not in shapes:
            shapes[rows] = chance(tree)
            expected[brackets(without_words(tree))] += chance(tree)
    whole = grammar.exactly("S", 4)
    for shape, count in counts.most_common(6):
        assert count / n == pytest.approx(expected[shape] / whole, abs=4 * math.sqrt(count) / n)


def named(tree, kind_of):
    return Tree(tree.label, tuple(named(c, kind_of) if isinstance(c, Tree) else kind_of[c] for c in tree.children))


def test_the_parser_finds_the_most_probable_of_all_trees():
    def chance(tree):
        row = tuple(c.label if isinstance(c, Tree) else kind_of[c] for c in tree.children)
        return OTHER[tree.label].get(row, 0) * math.prod(chance(c) for c in tree.children if isinstance(c, Tree))

    def worded(tree, words):
        return Tree(tree.label, tuple(worded(c, words) if isinstance(c, Tree) else next(words) for c in tree.children))

    kind_of = {"x": "x", "y": "x", "+": "op", "f": "f"}
    grammar, random, several = Grammar(OTHER, OTHER_WORDS, "E"), Random(0), 0
    for _ in range(80):
        words = leaves(grammar.draw(random, random.randint(3, 5)))
        if len(words) > 7:
            continue
        trees = [worded(tree_of(t), iter(words)) for t in listed(OTHER, OTHER_WORDS, "E", len(words))]
        chances = sorted(filter(None, map(chance, trees)), reverse=True)
        several += len(chances) > 1
        assert chance(grammar.parse(words)) == pytest.approx(chances[0])
    assert several > 3


@pytest.mark.parametrize("text", ["", "the", "cat the sleeps", "the cat", "the cat sleeps sleeps", "the xyz sleeps"])
def test_what_is_no_sentence_has_no_tree(text):
    assert Grammar().parse(text.split()) is None


def test_a_grammar_that_is_none():
    with pytest.raises(ValueError, match="VP"):
        Grammar({"S": {("NP", "VP"): 1.0}}, {"NP": ["she"]})
    with pytest.raises(ValueError, match="probability"):
        Grammar({"S": {("NP",): 0.0}}, {"NP": ["she"]})
    with pytest.raises(ValueError, match="no tree of depth 1"):
        Grammar().draw(Random(0), 1)


def test_sentences_belong_to_one_split():
    parts = {name: sentences(60, (3, 4), name, seed) for seed, name in enumerate(("train", "validation", "test"))}
    for name, part in parts.items():
        assert {split_of(" ".join(e.source)) for e in part} == {name}
        assert [depth_of(tree_of(e.target)) for e in part] == [3, 4] * 30
        assert all(len(leaves(tree_of(e.target))) == len(e.source) for e in part)
    assert sentences(5, (3,), "test", 7) == sentences(5, (3,), "test", 7) != sentences(5, (3,), "test", 8)


# --- Scores


def test_brackets_are_counted_as_a_bag():
    twice = tree_of(["(S", "(NP", "(NP", "XX", ")NP", ")NP", "XX", ")S"])
    assert spans(twice) == {("NP", 0, 1): 2, ("S", 0, 2): 1}
    once = Example(("a", "b"), (tuple(["(S", "(NP", "XX", ")NP", "XX", ")S"]),))
    assert score_trees([brackets(twice)], [once])[:] == (1, 1, 1, 0, 2, 3, 2)


def test_scores_by_hand():
    right = "(S (NP XX XX (PP XX (NP XX )NP )PP )NP (VP XX )VP )S"
    gold = Example(tuple("abcde"), (tuple(right.split()),))
    guess = tuple(["(S", "(NP", "XX", "XX", ")NP", "(VP", "XX", "(NP", "XX", "XX", ")NP", ")VP", ")S"])
    s = score_trees([guess, gold.target, ("(S",), ("(S", "XX", ")S")], [gold] * 4)
    assert s == (4, 3, 2, 1, 20, 4 + 5 + 0 + 1, 1 + 5 + 0 + 0)
    assert s.f1 == pytest.approx(2 * 6 / 30)
    assert score_trees([], []).f1 == 0
    with pytest.raises(ValueError):
        score_trees([guess], [gold, gold])


def test_right_branching_has_a_bracket_at_each_word():
    assert right_branching(3) == tuple(["(S", "XX", "(NP", "XX", "(NP", "XX", ")NP", ")NP", ")S"])
    assert all(len(leaves(tree_of(right_branching(n)))) == n for n in (1, 2, 9))


# --- The automaton


@pytest.mark.parametrize(("rules", "words", "root", "most"),
                         [(RULES, LEXICON, "S", 8), (OTHER, OTHER_WORDS, "E", 6)])
def test_allowed_is_what_brute_force_finds(rules, words, root, most):
    automaton = rule_automaton(rules, words, root)
    for n in range(1, most + 1):
        follow = {}
        for tokens in listed(rules, words, root, n):
            for i, token in enumerate((*tokens, automaton.end)):
                follow.setdefault(tokens[:i], set()).add(token)
        for prefix, tokens in follow.items():
            assert set(automaton.allowed(prefix, n)) == tokens, prefix
        if not follow:
            assert automaton.allowed((), n) == []
        elsewhere = [(*prefix, token) for prefix in list(follow)[:200] for token in ("XX", "(NP", ")NP", ")S", "(L")
                     if (*prefix, token) not in follow]
        assert all(automaton.allowed(prefix, n) == [] for prefix in elsewhere if len(prefix) > 1)


def test_at_most_so_many_tokens_by_brute_force():
    automaton = BracketAutomaton([("", ("(A",)), ("A", ("x",)), ("A", ("(A", "(A"))], 2, "tokens", 12)

    def every(n):                              # all trees of at most n tokens
        found = [("(A", "x", ")A")] if n >= 3 else []
        if n >= 8:
            found += [("(A", *a, *b, ")A") for a in every(n - 5) for b in every(n - 2 - len(a))]
        return found

    for size in (3, 8, 12):
        follow = {}
        for tokens in every(size):
            for i, token in enumerate((*tokens, automaton.end)):
                follow.setdefault(tokens[:i], set()).add(token)
        for prefix, tokens in follow.items():
            assert set(automaton.allowed(prefix, size)) == tokens, (size, prefix)
    assert automaton.allowed((), 2) == []


@pytest.mark.parametrize("depth", [3, 8, 16, 24])
def test_no_gold_tree_is_forbidden(depth):
    automaton = rule_automaton()
    for e in sentences(10, (depth,), "test", seed=depth):
        for i, token in enumerate((*e.target, automaton.end)):
            assert token in automaton.allowed(e.target[:i], len(e.source))


def test_random_walks_end_in_trees_of_the_right_size():
    automaton, random, grammar = rule_automaton(), Random(0), Grammar()
    for n in (2, 3, 10, 40):
        tokens = ()
        while may := automaton.allowed(tokens, n):
            tokens += (random.choice(may),)
        assert tokens[-1] == automaton.end
        tree = tree_of(tokens[:-1])
        assert len(leaves(tree)) == n and in_grammar(tree, RULES, LEXICON)
    assert grammar.root == "S"


def in_grammar(tree, rules, words):
    """Does every bracket follow a row?"""
    rows = {tuple("XX" if s in words else s for s in row) for row in rules[tree.label]}
    here = tuple(child.label if isinstance(child, Tree) else child for child in tree.children)
    return here in rows and all(in_grammar(c, rules, words) for c in tree.children if isinstance(c, Tree))


def test_the_automatons_doors():
    with pytest.raises(ValueError, match="limit"):
        rule_automaton().allowed((), 500)
    with pytest.raises(ValueError, match="size"):
        rule_automaton().allowed((), 0)
    with pytest.raises(ValueError, match="leaves"):
        BracketAutomaton([("", ("(S",))], counted="words")
    with pytest.raises(ValueError, match="NP"):
        BracketAutomaton([("", ("(S",)), ("S", ("(NP", "x"))])
    with pytest.raises(ValueError, match="order"):
        BracketAutomaton([("", ("(S",))], order=0)


# --- Constrained decoding


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("width", [1, 4])
def test_an_untrained_model_stays_inside_the_grammar(nested, seed, width):
    parser, tgt = untrained(nested, seed)
    tests = sentences(12, (3, 5, 9), "test", seed)
    free = score_trees(parses(parser, [e.source for e in tests], 60, width), tests)
    kept = constrained(parser, rule_automaton(), tgt)
    written = parses(kept, [e.source for e in tests], 120, width)
    assert free.formed < len(tests)
    for e, tokens in zip(tests, written, strict=True):
        tree = tree_of(tokens)
        assert len(leaves(tree)) == len(e.source) and in_grammar(tree, RULES, LEXICON)


def test_the_beam_finds_the_most_probable_tree_of_all(nested):
    parser, tgt = untrained(nested, 1)
    kept = constrained(parser, rule_automaton(), tgt)
    words = ["the", "cat", "that", "the", "dog", "likes", "sleeps"]
    x = parser.vocab.encode(words)
    every = [[*tgt.encode(tokens), Vocab.eos] for tokens in listed(RULES, LEXICON, "S", len(words))]
    scores = [sum(row) for row in rescore(parser.model, [(x, y) for y in every])]
    [[found]] = each(beam_search, kept, [words], width=len(every), max_len=60)
    assert found.score == pytest.approx(max(scores), abs=1e-3)
    assert found.ids == every[scores.index(max(scores))]


def test_what_is_kept_keeps_the_models_own_probability(nested):
    parser, tgt = untrained(nested)
    model = constrained(parser, rule_automaton(), tgt).model
    pairs = [(parser.vocab.encode(e.source), [*tgt.encode(e.target), Vocab.eos]) for e in nested[:8]]
    for free, kept in zip(rescore(parser.model, pairs), rescore(model, pairs), strict=True):
        assert free == pytest.approx(kept, abs=1e-4)
    batch = collate([(x, y[:-1]) for x, y in pairs]).to(device())       # which adds EOS
    with torch.no_grad():
        logits = model(batch)
    inside = batch.tgt[:, 1:] != Vocab.pad
    assert logits.logsumexp(-1)[inside].abs().max() < 1e-4
    assert not logits[inside].isnan().any() and (logits[inside][:, Vocab.bos] == -torch.inf).all()


def test_greedy_search_and_a_beam_of_one_agree_and_no_row_depends_on_its_batch(nested):
    parser, tgt = untrained(nested)
    kept = constrained(parser, rule_automaton(), tgt)
    tests = sentences(6, (3, 4, 7), "test")
    together = parses(kept, [e.source for e in tests], 120)
    for e, tokens in zip(tests, together, strict=True):
        batch = collate([(kept.vocab.encode(e.source), [])]).to(device())
        found = greedy_search(kept.model, batch.src, batch.src_padding, 120)
        assert tuple(kept.read(found.tokens[0].tolist())) == tokens


def test_the_decoders_doors(nested):
    parser, tgt = untrained(nested)
    kept = constrained(parser, rule_automaton(), tgt)
    with pytest.raises(ValueError, match="no tree of size 1"):
        parses(kept, [("sleeps",)])
    with pytest.raises(ValueError, match="RC"):
        ConstrainedDecoder(parser.model.decoder, rule_automaton(), Vocab(["XX", "(S", ")S"]))


# --- Python


def test_trees_of_python():
    def tree(text):
        return " ".join(brackets(syntax_tree(ast.parse(text).body[0])))

    assert tree("a = b") == "(Assign Name Name )Assign"
    assert tree("a + b * c") == "(Expr (BinOp Name Add (BinOp Name Mult Name )BinOp )BinOp )Expr"
    assert tree("(a + b) * c") == "(Expr (BinOp (BinOp Name Add Name )BinOp Mult Name )BinOp )Expr"
    assert tree("return x if y() else z") == "(Return (IfExp (Call Name )Call Name Name )IfExp )Return"
    assert tree("f(x, k=1).y") == ("(Expr (Attribute (Call Name Name (keyword Constant )keyword )Call )Attribute )Expr")
    assert token_kinds("x1 = not f('a', 2.5e-3) # no") == (
        "NAME", "=", "not", "NAME", "(", "STR", ",", "NUM", ")")


def test_kinds_decide_the_tree_and_the_split():
    python = statements("[a-c]*.py")
    assert len(python.train) > 300 and python.validation and python.test
    seen = [set(e.source for e in part) for part in python]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    for name, part in python._asdict().items():
        for e in part:
            assert split_of(" ".join(e.source)) == name
            assert brackets(tree_of(e.target)) == e.target and len(e.target) <= 28 and 3 <= len(e.source) <= 16


@pytest.mark.parametrize("pairs", [("a.b = f(c)", "x.y = g(z)"), ("del a[1:]", "del b[2:]"), ("x += -1", "y += -22")])
def test_names_and_values_do_not_matter(pairs):
    one, two = (syntax_tree(ast.parse(text).body[0]) for text in pairs)
    assert one == two and token_kinds(pairs[0]) == token_kinds(pairs[1])


def test_a_grammar_read_off_trees(nested):
    examples = statements("[a-b]*.py").train
    trees = [tree_of(e.target) for e in examples]
    automaton = tree_automaton(trees, 28)
    for e in examples[:200]:
        assert automaton.read(e.target)[0]
        assert automaton.allowed(e.target, 28) == [automaton.end]
    pairs = {(tree.label, *two) for root in trees for tree in every_bracket(root) for two in neighbours(tree)}
    parser, tgt = untrained(examples)
    kept = constrained(parser, automaton, tgt, 28)
    for tokens in parses(kept, [e.source for e in examples[:20]], 40):
        tree = tree_of(tokens)
        assert len(tokens) <= 28
        assert all((t.label, *two) in pairs for t in every_bracket(tree) for two in neighbours(tree) if t is tree)


def every_bracket(tree):
    return [tree] + [t for child in tree.children if isinstance(child, Tree) for t in every_bracket(child)]


def neighbours(tree):
    row = ["start", *(c.label if isinstance(c, Tree) else c for c in tree.children), "end"]
    return list(pairwise(row))


def test_the_study_has_two_models_of_nearly_one_size():
    sizes = [row["result"]["parameters"] for row in NESTING.rows()]
    assert len(sizes) == 6 and max(sizes) < 1.03 * min(sizes)
    for row in NESTING.rows():
        assert all(s[0] == 200 for s in row["result"]["scores"].values())
        kept = [s for name, s in row["result"]["scores"].items() if name.startswith("kept")]
        assert all(s[0] == s[1] == s[2] for s in kept)
