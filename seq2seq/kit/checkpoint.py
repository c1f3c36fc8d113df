"""Training that survives a kill or a Colab disconnect: its last state in one file."""

import os
from pathlib import Path

import torch


class Checkpoint:
    """Keeps the state of `parts` (a model, an optimiser, a schedule: anything with `state_dict`) in `path`.

    A file is written whole or not at all. Raises ValueError when the file is damaged or belongs to another model.
    """

    def __init__(self, path: str | os.PathLike, **parts):
        self.path, self.parts = Path(path), parts

    def resume(self) -> dict:
        """Restore every part and return what was saved beside them; an empty dict if there is no file yet."""
        if not self.path.exists():
            return {}
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            for name, part in self.parts.items():
                part.load_state_dict(saved["parts"][name])
            torch.set_rng_state(saved["rng"])
            if torch.cuda.is_available() and saved["cuda"]:
                torch.cuda.set_rng_state_all(saved["cuda"])
            return saved["extra"]
        except Exception as error:
            raise ValueError(
                f"{self.path} is damaged or was written for other settings; "
                f"delete it to train from the start, or give another path ({error})"
            ) from error

    def save(self, **extra) -> None:
        """Write every part's state, the random generators', and `extra` (plain numbers and lists)."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: part.state_dict() for name, part in self.parts.items()}
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        scratch = self.path.with_name(self.path.name + ".part")
        torch.save({"parts": state, "rng": torch.get_rng_state(), "cuda": cuda, "extra": extra}, scratch)
        os.replace(scratch, self.path)
