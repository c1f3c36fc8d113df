"""Sequence to Sequence, an executable book: one module per chapter, each generated from that chapter.

`seq2seq.kit` is the plumbing that no chapter teaches.
"""

__version__ = "0.1.0"
