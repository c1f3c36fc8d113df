"""The corpora the chapters train on, read from installed packages and from files of
this one, or generated: nothing is downloaded, but for `talks`, which no chapter needs.

Each loader returns `Splits` of `Example`s. A split is a property of the source (see `split_of`), never of its
position or of a random seed. book/data.md gives the origin, licence and size of each corpus.
"""

from seq2seq.kit.corpora.asked import ASKED, parameters
from seq2seq.kit.corpora.base import DamagedCorpus, Example, MissingCorpus, Splits, split_of
from seq2seq.kit.corpora.catalogues import PLACEHOLDER, messages, template, tokenize
from seq2seq.kit.corpora.digits import Digit, digits
from seq2seq.kit.corpora.grammar import Aligned, phrase_grammar
from seq2seq.kit.corpora.installed import (
    SUMMARISED,
    docstrings,
    line_and_body,
    misspellings,
    signatures,
    summaries,
)
from seq2seq.kit.corpora.keywords import Emoji, keywords
from seq2seq.kit.corpora.minilm import MiniLMWeights, minilm
from seq2seq.kit.corpora.newspaper import peoples_daily
from seq2seq.kit.corpora.pictures import CAPTIONS, Picture, combination, draw, pictures
from seq2seq.kit.corpora.prose import prose
from seq2seq.kit.corpora.roles import NO_NAME, roles
from seq2seq.kit.corpora.speech import (
    Prompt,
    WhisperWeights,
    prompt_texts,
    prompts,
    recording,
    spelled,
    whisper_weights,
)
from seq2seq.kit.corpora.talks import LONGEST, talks
from seq2seq.kit.corpora.words import G2PWeights, brown, g2p_weights, pronunciations, showcase

__all__ = ["ASKED", "CAPTIONS", "LONGEST", "NO_NAME", "PLACEHOLDER", "SUMMARISED", "Aligned", "DamagedCorpus", "Digit",
           "Emoji", "Example", "G2PWeights", "MiniLMWeights", "MissingCorpus", "Picture", "Prompt", "Splits",
           "WhisperWeights", "brown", "combination", "digits", "docstrings", "draw", "g2p_weights", "keywords",
           "line_and_body", "messages", "minilm", "misspellings", "parameters", "peoples_daily", "phrase_grammar",
           "pictures", "prompt_texts", "prompts", "pronunciations", "prose", "recording", "roles", "showcase",
           "signatures", "spelled", "split_of", "summaries", "talks", "template", "tokenize", "whisper_weights"]
