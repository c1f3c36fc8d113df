"""A synchronous grammar of ours: one tree, spelled out in English, French and Chinese, with its gold alignment.

A sentence is a list of (token, idea): tokens that spell the same idea are aligned across languages. Every word of
the lexicon was chosen so that each rule stays true for it; a new noun that starts with an aspirated h would not.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import count, product
from numbers import Integral
from operator import index
from random import Random
from typing import NamedTuple

from seq2seq.kit.corpora.base import Tokens, check_split, split_of

Spelled = list[tuple[str, int]]                                     # (token, number of the idea it spells)


class Aligned(NamedTuple):
    """An example with its gold alignment: pairs (i, j), where source[i] and target[j] spell the same idea."""

    source: Tokens
    targets: tuple[Tokens, ...]
    alignment: tuple[tuple[int, int], ...]

    @property
    def target(self) -> Tokens:
        return self.targets[0]


class Noun(NamedTuple):
    en: tuple[str, str]                                             # singular, plural
    fr: tuple[str, str]
    feminine: bool
    zh: str
    measure: str


def _nouns(table: str) -> list[Noun]:
    rows = (line.split() for line in table.strip().splitlines())
    return [Noun((en, ens), (fr, frs), gender == "f", zh, measure) for en, ens, fr, frs, gender, zh, measure in rows]


ANIMALS = _nouns("""
    cat cats chat chats m 猫 只
    dog dogs chien chiens m 狗 只
    bird birds oiseau oiseaux m 鸟 只
    horse horses cheval chevaux m 马 匹
    mouse mice souris souris f 老鼠 只
    cow cows vache vaches f 牛 头
    bee bees abeille abeilles f 蜜蜂 只
""")
PERSONS = _nouns("""
    child children enfant enfants m 孩子 个
    girl girls fille filles f 女孩 个
    king kings roi rois m 国王 位
    queen queens reine reines f 女王 位
""")
THINGS = _nouns("""
    house houses maison maisons f 房子 座
    tree trees arbre arbres m 树 棵
    apple apples pomme pommes f 苹果 个
    egg eggs œuf œufs m 蛋 个
    book books livre livres m 书 本
    table tables table tables f 桌子 张
    flower flowers fleur fleurs f 花 朵
    letter letters lettre lettres f 信 封
    boat boats bateau bateaux m 船 条
    car cars voiture voitures f 汽车 辆
    island islands île îles f 岛 座
""")
# English, French (masculine, feminine; plural adds s, but see beau), Chinese before the noun, as a predicate, denied
SIZES = [("small", ("petit", "petite"), ("小",), ("很", "小"), ("小",)),
         ("big", ("grand", "grande"), ("大",), ("很", "大"), ("大",)),
         ("beautiful", ("beau", "belle"), ("漂亮", "的"), ("很", "漂亮"), ("漂亮",))]
COLOURS = [(en, fr, (zh, "的"), ("是", zh, "的"), ("是", zh, "的")) for en, fr, zh in [
    ("white", ("blanc", "blanche"), "白色"), ("black", ("noir", "noire"), "黑色"), ("green", ("vert", "verte"), "绿色"),
    ("blue", ("bleu", "bleue"), "蓝色"), ("grey", ("gris", "grise"), "灰色")]]
# English (singular, plural and after "does"), what follows it, French (singular, plural), Chinese
VERBS = [("looks", "look", "at", "regarde", "regardent", "看"), ("looks", "look", "for", "cherche", "cherchent", "找"),
         ("waits", "wait", "for", "attend", "attendent", "等"), ("likes", "like", "", "aime", "aiment", "喜欢"),
         ("draws", "draw", "", "dessine", "dessinent", "画"),
         ("protects", "protect", "", "protège", "protègent", "保护"),
         ("chooses", "choose", "", "choisit", "choisissent", "选择")]
# English, French (masculine, feminine), Chinese before the measure word, plural
DETERMINERS = [("the", ("le", "la"), "那", False), ("the", ("les", "les"), "那些", True),
               ("this", ("ce", "cette"), "这", False), ("these", ("ces", "ces"), "这些", True),
               ("two", ("deux", "deux"), "两", True), ("three", ("trois", "trois"), "三", True),
               ("a", ("un", "une"), "一", False)]
VOWELS = tuple("aeiouéèêîœ")
MOST_CLAUSES = 300    # each stands inside the one before: Python's own limit on nested calls is not far


class Phrase(NamedTuple):
    """The same words in three languages, and what French has to agree with."""

    en: Spelled
    fr: Spelled
    zh: Spelled
    plural: bool = False
    feminine: bool = False
    person: bool = False

    def __add__(self, other: Phrase) -> Phrase:
        return Phrase(self.en + other.en, self.fr + other.fr, self.zh + other.zh)


@lru_cache(maxsize=1)
def _names() -> tuple[list[str], list[str]]:
    """40 names to learn, and all those that are never among them."""
    syllables = [consonant + vowel for consonant in "bdklmnrsv" for vowel in "aeio"]
    every = ["".join(parts).capitalize() for parts in product(syllables, syllables, "bdklmnrsv", "ao")]
    known = [name for name in every if split_of(name) == "train"]
    return known[::len(known) // 40][:40], [name for name in every if split_of(name) == "test"]


class _Speaker:
    """Draws one sentence. `clauses` is how many verbs are still to be placed inside what is being said."""

    def __init__(self, random: Random, names: list[str]):
        self.random, self.names, self.ideas, self.named = random, names, count(), False

    def sentence(self, clauses: int) -> Phrase:
        if clauses > 1 and self.random.random() < 0.5:
            first = self.random.randrange(1, clauses)
            link = next(self.ideas)
            return (self.sentence(first) + Phrase([("and", link)], [("et", link)], [(",", link), ("而且", link)])
                    + self.sentence(clauses - first))
        if self.random.random() < 0.4:
            subject = self.noun_phrase(clauses - 1, living=clauses > 1, subject=True)
            return subject + self.predicate(subject)
        before = self.random.randrange(clauses)
        subject = self.noun_phrase(before, living=True, subject=True)
        return subject + self.verb_phrase(subject.plural, clauses - 1 - before)

    def noun_phrase(self, clauses: int, living: bool, subject: bool = False, denied: bool = False) -> Phrase:
        if living and not clauses and self.random.random() < 0.3:
            self.named = True
            name = [(self.random.choice(self.names), next(self.ideas))]
            return Phrase(name, name, name)    # which takes no predicate, so nothing agrees with it
        noun = self.random.choice(ANIMALS + PERSONS + ([] if living else THINGS))
        person = noun in PERSONS                                                # only their size is remarked on
        # "a" only where Chinese allows an indefinite and French does not ask for "de": an object that is not denied.
        en_det, fr_det, zh_det, plural = self.random.choice(DETERMINERS[:-1] if subject or denied else DETERMINERS)
        det, head = next(self.ideas), next(self.ideas)
        en, fr, zh = [(noun.en[plural], head)], [(noun.fr[plural], head)], [(noun.zh, head)]
        size = self.random.choice(SIZES[:2] if person else SIZES) if self.random.random() < 0.35 else None
        if size:
            idea = next(self.ideas)
            adjective = _agree(size[1], noun.feminine, plural)
            if adjective == "beau" and noun.fr[0].startswith(VOWELS):
                adjective = "bel"
            en, fr = [(size[0], idea), *en], [(adjective, idea), *fr]
            zh = [(token, idea) for token in size[2]] + zh
        if not person and (not size or size[0] != "beautiful") and self.random.random() < 0.35:
            colour, idea = self.random.choice(COLOURS), next(self.ideas)
            en = [*en[:-1], (colour[0], idea), en[-1]]                          # small white cat
            fr = [*fr, (_agree(colour[1], noun.feminine, plural), idea)]        # petit chat blanc
            zh = [(token, idea) for token in colour[2]] + zh                    # 白色 的 小 猫
        fr_word = fr_det[noun.feminine]
        if fr[0][0].startswith(VOWELS):
            fr_word = {"le": "l'", "la": "l'", "ce": "cet"}.get(fr_word, fr_word)
        en = [("an" if en_det == "a" and en[0][0].startswith(VOWELS) else en_det, det), *en]
        fr = [(fr_word, det), *fr]
        if clauses:                                                             # Chinese puts the clause first
            that, inner = next(self.ideas), self.verb_phrase(plural, clauses - 1)
            en, fr = [*en, ("that", that), *inner.en], [*fr, ("qui", that), *inner.fr]
            zh = [*inner.zh, ("的", that), *zh]
        zh = [(zh_det, det), *([] if zh_det.endswith("些") else [(noun.measure, head)]), *zh]
        return Phrase(en, fr, zh, plural, noun.feminine, person)

    def verb_phrase(self, plural: bool, clauses: int) -> Phrase:
        singular, base, particle, *french, chinese = self.random.choice(VERBS)
        verb, denial = next(self.ideas), self.denial()
        en, fr, zh = [(base if plural or denial else singular, verb)], [(french[plural], verb)], [(chinese, verb)]
        if denial:
            en = [("do" if plural else "does", denial[0]), ("not", denial[0]), *en]
            fr, zh = _ne_pas(fr, denial[0]), [("不", denial[0]), *zh]
        if particle:
            en.append((particle, verb))
        return Phrase(en, fr, zh) + self.noun_phrase(clauses, living=clauses > 0, denied=bool(denial))

    def predicate(self, subject: Phrase) -> Phrase:
        """is small, is not white: French agrees, Chinese says "very small" but "is white"."""
        english, french, _, affirmed, denied = self.random.choice(SIZES[:2] if subject.person else SIZES + COLOURS)
        be, idea, denial = next(self.ideas), next(self.ideas), self.denial()
        en, fr = [("are" if subject.plural else "is", be)], [("sont" if subject.plural else "est", be)]
        zh = [(token, be if token in "很是" else idea) for token in (denied if denial else affirmed)]
        if denial:
            en, fr, zh = [*en, ("not", denial[0])], _ne_pas(fr, denial[0]), [("不", denial[0]), *zh]
        return Phrase([*en, (english, idea)], [*fr, (_agree(french, subject.feminine, subject.plural), idea)], zh)

    def denial(self) -> list[int]:
        return [next(self.ideas)] if self.random.random() < 0.3 else []


def _agree(forms: tuple[str, str], feminine: bool, plural: bool) -> str:
    form = forms[feminine]
    return form if not plural or form.endswith("s") else form + ("x" if form.endswith("eau") else "s")


def _ne_pas(verb: Spelled, idea: int) -> Spelled:
    return [("n'" if verb[0][0].startswith(VOWELS) else "ne", idea), *verb, ("pas", idea)]


def phrase_grammar(n: int, seed: int, source: str = "en", target: str = "fr", *,
                   clauses: int | tuple[int, int] = (1, 2), codings: int = 1, unseen_names: bool = False,
                   split: str | None = None) -> list[Aligned]:
    """n sentences of the grammar in two of "en", "fr" and "zh", with gold alignments; the same for the same seed.

    clauses       how many verbs a sentence has, or the (least, most) it may have; the length grows with it, by
                  relative clauses and by "and"; 300 at most
    codings       2 gives each sentence two targets that are equally right, one in small letters and one in capitals:
                  every token of either is plausible, and only a whole sentence in one coding is valid
    unseen_names  each sentence has at least one name, and none of the 40 names that are used otherwise
    split         "train", "validation" or "test": only sentences whose source falls in that split (see `split_of`)
    A sentence has one translation, so the grammar is a function in each direction. Sentences may repeat.
    Raises ValueError for arguments it cannot meet.
    """
    least, most = (clauses, clauses) if isinstance(clauses, Integral) else clauses
    if source == target or not {source, target} <= {"en", "fr", "zh"}:
        raise ValueError(f"source and target must be two of 'en', 'fr' and 'zh', not {source!r} and {target!r}")
    if not 1 <= least <= most <= MOST_CLAUSES:
        raise ValueError(f"clauses must be from 1 to {MOST_CLAUSES}, and the least no more than the most: {clauses}")
    if index(n) < 0:
        raise ValueError(f"n must be at least 0, not {n}")
    if codings not in (1, 2) or (codings == 2 and target == "zh"):
        raise ValueError("codings must be 1 or 2, and 2 needs capitals, which Chinese does not have")
    check_split(split, None)
    random, names, examples = Random(seed), _names()[unseen_names], []
    while len(examples) < n:
        speaker = _Speaker(random, names)
        phrase = speaker.sentence(random.randint(least, most))
        spoken, heard = getattr(phrase, source), getattr(phrase, target)
        words, translation = (tuple(token for token, _ in side) for side in (spoken, heard))
        if (unseen_names and not speaker.named) or (split and split_of(" ".join(words)) != split):
            continue
        alignment = tuple((i, j) for i, (_, idea) in enumerate(spoken) for j, (_, other) in enumerate(heard)
                          if idea == other)
        targets = (translation,)
        if codings == 2:
            targets = tuple(tuple(map(case, translation)) for case in (str.lower, str.upper))
        examples.append(Aligned(words, targets, alignment))
    return examples
