# %% [markdown]
# # A first result, in a notebook
#
# Phantom operations, two runs at tiny scale, their scores and their comparison. **Scores on phantom data mean nothing
# clinically.** Made by `make notebook`; `docs/notebook.py` is its text.

# %%
import tempfile
from pathlib import Path

import calot

home = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Score a table of your own
#
# Any group's predictions: `video, frame, logit_<criterion>, label_<criterion>`. This needs no torch.

# %%
import numpy as np
import polars as pl

criteria = ("two_structures", "hepatocystic_triangle", "cystic_plate")
rng = np.random.default_rng(0)
videos, frames = np.repeat(np.arange(12), 30), np.tile(np.arange(30), 12)
late = frames[:, None] / 30 - 0.6 - 0.2 * rng.random((12, 3)).repeat(30, axis=0)
labels = (late + 0.1 * rng.normal(size=late.shape) > 0).astype(int)


def table(skill: float) -> pl.DataFrame:
    logits = skill * late + rng.normal(size=late.shape)
    columns = {f"logit_{c}": logits[:, k] for k, c in enumerate(criteria)}
    columns |= {f"label_{c}": labels[:, k] for k, c in enumerate(criteria)}
    return pl.DataFrame({"video": videos, "frame": frames, **columns})


table(6.0).write_csv(home / "ours.csv")
table(1.5).write_csv(home / "theirs.csv")
ours = calot.metrics(home / "ours.csv")
ours

# %%
found = calot.compare(home / "ours.csv", home / "theirs.csv", names=("ours", "theirs"))
found

# %% [markdown]
# A comparison across different frames is refused, with the reason:

# %%
from calot.errors import CalotError

table(6.0).head(300).write_csv(home / "fewer.csv")
try:
    calot.compare(home / "ours.csv", home / "fewer.csv")
except CalotError as error:
    print(str(error).replace(str(home), "FOLDER"))

# %% [markdown]
# ## Train and predict
#
# The phantom's frames in the Endoscapes layout, one epoch of a frozen probe with the small encoder that comes with
# calot, and its predictions. What follows depends on the machine's arithmetic in its last digits.

# %%
from calot.phantom import PhantomSpec, generate

generate(home / "phantom", PhantomSpec(videos=9, seed=3, mean_frames=24.0))
small = ["train.epochs=1", "compute.train_subset=8"]
run = calot.train(
    "e02_frozen_probe", data=home / "phantom", out=home / "run", scale="tiny", seed=0, changes=small, receipt=False
)
predictions = calot.predict(run, split="val")
predictions.frame.columns

# %%
sorted(path.name for path in run.folder.iterdir() if path.suffix in (".json", ".csv", ".html"))

# %%
result = calot.metrics(run)
result
