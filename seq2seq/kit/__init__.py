"""Plumbing that no chapter teaches: budgets, claims, corpora, plots, records of long runs, widgets."""

from seq2seq.kit.claims import ClaimError, claim
from seq2seq.kit.torch_setup import device, seed_everything

__all__ = ["ClaimError", "claim", "device", "seed_everything"]
